"""The ablation: what its runs are, and the table that is made of them."""

import json
import shutil

import ablation
import pandas as pd
import pytest
from recipes import pieces, summary

from cxr_keras import CxrError
from cxr_keras.training.config import configured
from cxr_keras.training.recipes import RECIPES


def test_the_last_piece_added_makes_the_modern_recipe_whole():
    steps = pieces.steps()
    added = [step for step in steps if step.group == pieces.ADDED]
    whole = configured(pieces.NETWORK, "modern", pieces.COMMON).settings()
    last = configured(pieces.NETWORK, "report", added[-1].settings).settings()
    assert {name for name in whole if whole[name] != last[name]} == {"recipe"}
    first = configured(pieces.NETWORK, "report", added[0].settings).settings()
    plain = configured(pieces.NETWORK, "report", pieces.COMMON).settings()
    assert first == plain


def test_every_run_differs_from_what_it_is_compared_with_by_its_piece_alone():
    steps = pieces.steps()
    by_name = {step.name: step for step in steps}
    assert len(by_name) == len(steps)
    for step in steps[1:]:
        before = configured(pieces.NETWORK, "report", by_name[step.against].settings).settings()
        now = configured(pieces.NETWORK, "report", step.settings).settings()
        assert 1 <= sum(before[name] != now[name] for name in now) <= 2, step.title


def test_every_setting_of_the_modern_recipe_is_a_piece_or_common():
    named = {name for names in pieces._PIECES.values() for name in names}
    assert set(RECIPES["modern"]) <= named | set(pieces.COMMON)


def test_names_choose_runs_and_a_wrong_one_is_refused():
    every = pieces.steps()
    assert {step.group for step in ablation.chosen_of(every, "removed, tried")} == {
        pieces.REMOVED,
        pieces.TRIED,
    }
    with pytest.raises(CxrError, match="no run 'nonsense'"):
        ablation.chosen_of(every, "nonsense")


def test_the_table_has_the_runs_that_are_done_with_their_paired_differences(
    no_test_run, tmp_path, capsys
):
    first, second, *_ = pieces.steps()
    for step in (first, second):
        shutil.copytree(no_test_run.folder, tmp_path / "runs" / step.name)
    unfinished = tmp_path / "runs" / pieces.steps()[2].name
    unfinished.mkdir()
    (unfinished / "run.json").write_text(json.dumps({"status": "begun"}))
    options = ["--table-only", "--data", ".", "--runs", str(tmp_path / "runs")]
    assert ablation.main([*options, "--out", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / summary.TABLE)
    assert table["piece"].tolist() == [first.piece, second.piece]
    assert table["auroc"].nunique() == 1
    assert table["difference"].tolist()[1] == 0  # the same run twice
    assert pd.isna(table["difference"][0])
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / summary.PAGE).read_text()
    assert f"| {second.piece} |" in printed
    assert "+0.000" in printed
    assert (tmp_path / "out" / summary.FIGURE).stat().st_size > 5_000

    shutil.rmtree(tmp_path / "runs")  # another day, on another machine
    assert ablation.main([*options, "--out", str(tmp_path / "out")]) == 0
    assert pd.read_csv(tmp_path / "out" / summary.TABLE).equals(table)


def test_a_run_that_is_missing_between_two_is_named_as_not_made(no_test_run, tmp_path, capsys):
    first, second, third, *_ = pieces.steps()
    for step in (first, third):
        shutil.copytree(no_test_run.folder, tmp_path / "runs" / step.name)
    options = ["--table-only", "--data", ".", "--runs", str(tmp_path / "runs")]
    assert ablation.main([*options, "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ") and "piece" not in line]
    assert [row[0] for row in rows] == [f"| {step.piece}" for step in (first, second, third)]
    assert [row[1].startswith("not made") for row in rows] == [False, True, False]
    assert rows[2][2] == ""  # against nothing
    assert pd.read_csv(tmp_path / "out" / summary.TABLE)["piece"].tolist() == [
        first.piece,
        third.piece,
    ]
