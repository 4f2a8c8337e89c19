import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from cxr_keras import explore
from cxr_keras.cli import main
from cxr_keras.data.exploration import FILES, label_table, people_table
from cxr_keras.data.labels import FINDINGS, LABELS
from cxr_keras.data.phantom import MARKER, NOTICE
from cxr_keras.data.readers.nih import read_label_table
from cxr_keras.errors import DataError
from cxr_keras.plots import combination_figure, label_counts_figure

ROWS = [
    ("1_0.png", "Mass|Edema", 1),
    ("1_1.png", "Mass", 1),
    ("2_0.png", "No Finding", 2),
    ("3_0.png", "Edema|Hernia|Mass", 3),
    ("3_1.png", "Hernia", 3),
]


def rewrite_people(folder, people):
    """Give the rows of a made folder their own (age, sex, view); None drops that column."""
    source = folder / "Data_Entry_2017_v2020.csv"
    table = pd.read_csv(source, dtype=str, keep_default_na=False, index_col=False)
    for name, values in zip(
        ("Patient Age", "Patient Gender", "View Position"), people, strict=True
    ):
        table = table.drop(columns=name) if values is None else table.assign(**{name: values})
    table.to_csv(source, index=False)


def rows_of(people):
    return {(row.group, row.value): (row.images, row.patients) for row in people.itertuples()}


def test_counts_by_hand(make_folder, tmp_path):
    folder = make_folder(ROWS)
    ages, sexes = ["17", "18", "65", "414", ""], ["F", "F", "M", "M", ""]
    rewrite_people(folder, (ages, sexes, ["PA", "AP", "PA", "AP", ""]))
    found = explore(folder, out=tmp_path / "out")
    counts = found.labels.set_index("label")[["images", "single", "multiple"]]
    assert list(counts.index) == list(LABELS)
    assert counts.loc[["Mass", "Edema", "Hernia", "No Finding"]].to_numpy().tolist() == [
        [3, 1, 2],
        [2, 0, 2],
        [2, 1, 1],
        [1, 1, 0],
    ]
    assert counts["images"].sum() == 8
    assert found.labels.set_index("label")["share"]["Mass"] == pytest.approx(3 / 5)
    assert (found.images, found.patients) == (5, 3)
    assert found.multiple_share == pytest.approx(2 / 5)
    assert rows_of(found.people) == {
        ("age", "0–17"): (1, 1),
        ("age", "18–39"): (1, 1),
        ("age", "65 and over"): (1, 1),
        ("age", "unknown"): (2, 1),
        ("sex", "F"): (2, 1),
        ("sex", "M"): (2, 2),
        ("sex", "unknown"): (1, 1),
        ("view", "AP"): (2, 2),
        ("view", "PA"): (2, 2),
        ("view", "unknown"): (1, 1),
    }
    assert found.people.groupby("group")["share"].sum().tolist() == pytest.approx([1, 1, 1])
    assert not found.phantoms


def test_counts_against_a_slow_reference(tmp_path):
    rng = np.random.default_rng(5)
    cells = [
        "|".join(rng.choice(FINDINGS, size=rng.integers(0, 4), replace=False)) or "No Finding"
        for _ in range(300)
    ]
    source = tmp_path / "Data_Entry_2017.csv"
    people = [(int(rng.integers(1, 60)), int(rng.integers(0, 95))) for _ in cells]
    lines = [
        f"{index}.png,{cell},{who},{age},PA"
        for index, (cell, (who, age)) in enumerate(zip(cells, people, strict=True))
    ]
    header = "Image Index,Finding Labels,Patient ID,Patient Age,View Position"
    source.write_text("\n".join([header, *lines]))
    table, _ = read_label_table(source)
    counted = label_table(table, LABELS).set_index("label")
    for label in LABELS:
        having = [cell for cell in cells if label in cell.split("|")]
        alone = [cell for cell in having if cell == label]
        assert counted.loc[label, "images"] == len(having)
        assert counted.loc[label, "single"] == len(alone)
        assert counted.loc[label, "multiple"] == len(having) - len(alone)
    children = [who for who, age in people if age < 18]
    grouped = rows_of(people_table(table))
    assert grouped["age", "0–17"] == (len(children), len(set(children)))
    assert ("view", "PA") in grouped
    assert not [group for group, _ in grouped if group == "sex"]


def test_nihs_own_table_has_nihs_own_counts(sample, tmp_path):
    facts = json.loads((sample.parent / "facts" / "nih_archives.json").read_text())["counts"]
    found = explore(sample, out=tmp_path)
    assert dict(zip(found.labels["label"], found.labels["images"], strict=True)) == facts["labels"]
    assert (found.images, found.patients) == (facts["images"], facts["patients"])
    assert found.people.groupby("group")["images"].sum().tolist() == [facts["images"]] * 3
    assert (found.labels["single"] + found.labels["multiple"] == found.labels["images"]).all()
    written = pd.read_csv(tmp_path / "label_counts.csv")
    assert written["images"].tolist() == found.labels["images"].tolist()


def test_the_table_is_enough_and_on_disk_counts_what_is_there(make_folder, tmp_path, capsys):
    folder = make_folder(ROWS, images=["1_1.png", "2_0.png"])
    out = tmp_path / "out"
    assert explore(folder, out=out).images == 5
    assert explore(folder, on_disk=True, out=out).images == 2
    assert "3 of 5 images in Data_Entry_2017_v2020.csv are not on disk" in capsys.readouterr().err
    shutil.rmtree(folder / "images")
    assert explore(folder, out=out).images == 5
    with pytest.raises(DataError, match="no image that its table"):
        explore(folder, on_disk=True, out=out)


def test_files_are_there_and_a_second_run_gives_the_same_bytes(make_folder, tmp_path):
    folder = make_folder(ROWS)
    first = explore(folder, out=tmp_path / "one").folder
    second = explore(folder, out=tmp_path / "two").folder
    assert sorted(path.name for path in first.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert (first / "label_counts.png").read_bytes().startswith(b"\x89PNG")
    assert "<dc:date>" not in (first / "combinations.svg").read_text()


def test_figures_are_sorted_and_their_numbers_fit(make_folder, tmp_path):
    labels = explore(make_folder(ROWS), out=tmp_path / "out").labels
    labels[["images", "single", "multiple"]] *= 10_000
    findings = labels[labels["label"] != "No Finding"]
    for figure, rows in ((label_counts_figure(labels), 15), (combination_figure(findings), 14)):
        figure.draw_without_rendering()
        axes = figure.axes[0]
        order = [tick.get_text() for tick in axes.get_yticklabels()]
        assert len(order) == rows
        assert order[:3] == ["Mass", "Edema", "Hernia"]
        assert axes.texts[0].get_text() in ("30,000", "10,000 + 20,000")
        right = axes.get_window_extent().x1
        assert max(text.get_window_extent().x1 for text in axes.texts) <= right
        assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is the top one
    hatches = {patch.get_hatch() for patch in figure.axes[0].patches}
    assert len(hatches) == 2  # told apart without colour


def test_phantoms_say_so_in_print_and_on_the_figures(make_folder, tmp_path, monkeypatch):
    folder = make_folder(ROWS)
    (folder / MARKER).write_text("")  # what tells phantoms; drawing some takes seconds
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXR_KERAS_DATA", str(folder))
    result = CliRunner().invoke(main, ["explore"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(NOTICE)
    folder = tmp_path / "explore-phantoms"  # nobody named their folder
    note = f"<!-- {NOTICE} -->"  # matplotlib keeps a text beside its outlines
    assert note in (folder / "label_counts.svg").read_text()
    assert note in (folder / "combinations.svg").read_text()


def test_explore_as_a_person_runs_it(make_folder, tmp_path, monkeypatch):
    folder = make_folder(ROWS)
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main, ["explore", "."])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == ("5 images of 3 patients; 40.0% of the images have more than one finding.")
    assert re.search(r"^Mass +3 +1 +2 +0\.600$", result.stdout, re.MULTILINE)
    assert re.search(r"^view +PA +5 +3 +1\.000$", result.stdout, re.MULTILINE)
    assert NOTICE not in result.stdout
    for name in FILES:
        assert (folder / "explore-nih" / name).is_file()
        assert name in result.stderr


def test_a_table_without_age_sex_and_view(make_folder, tmp_path):
    folder = make_folder(ROWS)
    rewrite_people(folder, (None, None, None))
    out = tmp_path / "out"
    result = CliRunner().invoke(main, ["explore", str(folder), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "lacks 'Patient Age' and 'Patient Gender' and 'View Position'" in result.stderr
    assert "group" not in result.stdout
    assert len(pd.read_csv(out / "patients.csv")) == 0


def test_no_image_with_a_finding(make_folder, tmp_path):
    found = explore(make_folder(ROWS[2:3]), out=tmp_path / "out")
    assert found.multiple_share == 0
    assert found.labels["multiple"].sum() == 0


def test_a_wrong_folder_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["explore", "nowhere"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: There is no data folder nowhere")
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


def test_an_out_that_cannot_be_made_is_one_sentence(make_folder, tmp_path):
    folder = make_folder(ROWS)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written to .*Give --out"):
        explore(folder, out=tmp_path / "file" / "out")
