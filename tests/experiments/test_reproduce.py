"""The report: its tables, its page, and how the grid is run."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import reproduce
from helpers.places import ROOT
from report import figures, grid, paper, results, runner, text

from cxr_keras import FINDINGS, LABELS, CxrError

EXPERIMENTS = ROOT / "experiments"

EXAMPLES = EXPERIMENTS / "report" / "example_runs"
EXPECTED = sorted(EXAMPLES.joinpath("expected").iterdir())
C11 = "runs-quick/C11-resnet_custom-ep2-lr0.001"


def script(*arguments, **environment):
    return subprocess.run(
        [sys.executable, EXPERIMENTS / "reproduce.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Tables, figures and page made from the committed predictions alone."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(EXAMPLES / "runs-quick", folder / "runs-quick")
    # a backend that does not exist: whatever imported Keras would fail
    done = script("--quick", "--tables-only", "--out", folder, KERAS_BACKEND="none")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder / "index.html")
    return folder


@pytest.fixture(scope="module")
def page(report):
    return (report / "index.html").read_text(encoding="utf-8")


def read(report, name):
    return pd.read_csv(report / "tables" / f"{name}.csv", comment="#").set_index("label")


@pytest.mark.parametrize("expected", EXPECTED, ids=lambda path: path.name)
def test_tables_come_again_byte_for_byte_from_predictions_alone(report, expected):
    assert (report / "tables" / expected.name).read_bytes() == expected.read_bytes()


def test_every_published_number_stands_in_its_table(report):
    for name, rows in paper.published().items():
        table = read(report, name)
        for measure in paper.MEASURES:
            found = table.loc[list(LABELS), f"{measure}_report"]
            assert found.tolist() == rows.loc[list(LABELS), measure].tolist(), (name, measure)
        assert table.loc["test loss", "loss_report"] == rows["test_loss"].iloc[0]
    assert len(paper.published()) == 14


def test_tables_1_to_4_are_the_average_recall_without_no_finding(report):
    table = pd.read_csv(report / "tables" / "Table-4.csv", comment="#").set_index("table")
    published = paper.published()["C11"]["recall"].drop("No Finding").mean()
    assert table.loc["C11", "recall_report"] == pytest.approx(published, abs=1e-6)
    recall = read(report, "C11")["recall"]
    assert table.loc["C11", "recall"] == pytest.approx(recall[list(FINDINGS)].mean(), abs=1e-5)
    assert pd.isna(table.loc["C14", "recall"])
    assert table.loc["C14", "run"] == "not run"


def test_differences_are_ours_less_theirs_and_an_undefined_precision_counts_as_0(report):
    table = read(report, "C11").loc[list(LABELS)]
    for measure in paper.MEASURES:
        ours = table[measure].fillna(0.0)
        expected = ours - table[f"{measure}_report"]
        assert table[f"{measure}_difference"].tolist() == pytest.approx(expected.tolist(), abs=2e-6)
    assert table["precision"].isna().any()
    text = (report / "tables" / "C11.csv").read_text(encoding="utf-8")
    assert ",NaN," in text


def test_always_no_is_what_one_counts_by_hand(report):
    predictions = pd.read_csv(report / C11 / "predictions.csv")
    truth = predictions[[f"true_{label}" for label in FINDINGS]]
    row = read(report, "C11").loc['always "no"']
    assert row["accuracy"] == pytest.approx((1 - truth.mean()).mean(), abs=1e-6)
    assert row["recall"] == row["f1"] == 0
    assert pd.isna(row["precision"])
    # and in the report: 1 less the share of its 886 test images that have the label
    assert row["accuracy_report"] == pytest.approx(0.867220, abs=1e-6)
    for name in ("C11", "C11-calibrated"):
        assert 'always "no"' in read(report, name).index


def test_the_reports_support_is_recovered_from_its_own_numbers():
    counts = paper.supports()
    assert counts["Hernia"] == 47
    assert counts["No Finding"] == 60
    for rows in paper.published().values():
        silent = rows[(rows["recall"] == 0) & (rows["precision"] == 0)]
        wrong = (1 - silent["accuracy"]) * paper.TEST_IMAGES
        assert (wrong - counts[silent.index]).abs().max() <= 1.01


@pytest.mark.parametrize("name", ["C5", "C6", "C11", "C12", "Table-2", "Table-4"])
def test_tables_say_that_the_report_repeats_itself(report, name):
    for suffix in (".csv", ".md"):
        text = (report / "tables" / (name + suffix)).read_text(encoding="utf-8")
        assert re.search(r"C1[12] \(resnet_custom\) repeats C[56] \(resnet18\): 5[56] of 60", text)


def test_every_head_says_what_differs_from_the_report(report):
    for name in ("C11", "C11-calibrated", "C13", "Table-4"):
        head = (report / "tables" / f"{name}.csv").read_text(encoding="utf-8").split("\nlabel,")[0]
        for said in (
            "PHANTOMS",
            "seed 42",
            "Data_Entry_2017",
            "2 epochs in place of 15",
            "Keras 3",
        ):
            assert said in head, (name, said)
    assert "not been made yet" in (report / "tables" / "C1.md").read_text(encoding="utf-8")


def test_the_page_loads_nothing_from_anywhere(page):
    assert not re.findall(r"""(?:src|href|action)=["']?\s*(?:https?:)?//""", page)
    assert not re.findall(r"@import|url\(|fetch\(|XMLHttpRequest|<link|<iframe", page)
    assert set(re.findall(r'src="(data:[a-z/+]+)', page)) == {"data:image/svg+xml"}
    assert len(page) < 8e6
    assert '<meta name="viewport"' in page


def test_every_table_of_the_page_sorts_and_names_its_run_folder(page, report):
    tables = re.findall(r"<table .*?</table>", page, re.DOTALL)
    names = [re.search(r'data-name="([^"]+)"', table)[1] for table in tables]
    assert {"grid", "C1", "C14", "C11", "C11-calibrated", "Table-1", "Table-4"} <= set(names)
    for table in tables:
        heads = re.findall(r'<th scope="col".*?</th>', table, re.DOTALL)
        assert heads
        assert all('aria-sort="none"' in head and "<button" in head for head in heads)
        columns = [int(place) for place in re.findall(r'data-column="(\d+)"', table)]
        first = re.search(r"<tbody>\n<tr.*?</tr>", table, re.DOTALL)[0]
        assert sorted(columns) == list(range(len(re.findall(r"<t[dh][ >]", first))))
    assert f'href="{C11}/"' in tables[names.index("C11")]
    assert json.loads((report / C11 / "run.json").read_text())["data"]["fingerprint"] in page
    for target in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{target}"' in page, target


def test_figures_are_png_and_svg_and_the_images_are_missed_aloud(report, page):
    names = {path.name for path in (report / "figures").iterdir()}
    for figure in ("2", "3", "10", "11", "B5", "B6"):
        assert {f"Figure-{figure}.png", f"Figure-{figure}.svg"} <= names
    assert "Not drawn, for want of a run: C1, C2." in page
    assert "are not on this machine" in page


def test_the_same_numbers_give_the_same_figure_files(report, tmp_path):
    plans = tuple(map(grid.shortened, grid.PLANS))
    found = results.Report(report, "runs-quick", plans, {}, {}, {})
    picture = next(figures.pictures(found))
    figures.save(picture, tmp_path)
    for suffix in (".png", ".svg"):
        again = (tmp_path / f"Figure-2{suffix}").read_bytes()
        figures.save(picture, tmp_path)
        assert (tmp_path / f"Figure-2{suffix}").read_bytes() == again
    assert b"<dc:date>" not in again


def chromium():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.mark.skipif(chromium() is None, reason="no Chromium on this machine")
def test_a_browser_sorts_the_page_and_shows_the_known_cell(report, tmp_path):
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    address = (report / "index.html").as_uri() + "#C12~precision_report~descending"
    done = subprocess.run(
        [chromium(), *options, "--virtual-time-budget=3000", "--dump-dom", address],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    table = done.stdout.split('data-name="C12"', 1)[1].split("</table>")[0]
    assert re.search(r'aria-sort="descending" data-key="precision_report"', table)
    rows = re.findall(r'<tr class="label"><th scope="row">([^<]+)</th>(.*?)</tr>', table)
    published = paper.published()["C12"]["precision"]
    order = published.reindex(LABELS).sort_values(ascending=False, kind="stable")
    assert [label for label, _ in rows] == order.index.tolist()
    cell = re.findall(r"<td[^>]*>([^<]*)</td>", rows[0][1])[3]
    assert cell == f"{order.iloc[0]:.3f}"


def fake_trainer(calls):
    """Fails as networks fail; the last one makes its run."""

    def trainer(plan, data, folder):
        calls.append(plan.table)
        if plan.table == "C1":
            raise CxrError("There is no network called 'alexnet'.")
        if plan.table == "C2":
            raise RuntimeError("out of memory")
        (folder / plan.name).mkdir()
        (folder / plan.name / "model.keras").write_text("weights")
        content = {"model": plan.model, "data": str(data)} | plan.settings
        content["split"] = content.pop("split_method")  # its name in run.json
        info = {"status": "done", "settings": content}
        (folder / plan.name / "run.json").write_text(json.dumps(info))

    return trainer


def test_a_failed_run_is_reported_and_does_not_stop_the_others(tmp_path, capsys):
    calls, plans = [], grid.choose("C1,C2,C7")
    options = {"trainer": fake_trainer(calls), "keep_models": False}
    failed = runner.run_grid(plans, tmp_path, tmp_path / "runs", **options)
    assert calls == ["C1", "C2", "C7"]
    assert failed == {
        plans[0].name: "There is no network called 'alexnet'.",
        plans[1].name: "out of memory",
    }
    assert not (tmp_path / "runs" / plans[2].name / "model.keras").exists()
    again = runner.run_grid(plans, tmp_path, tmp_path / "runs", **options)
    assert calls[3:] == ["C1", "C2"]  # what is done is skipped, what failed is tried again
    assert again == failed
    said = capsys.readouterr().err
    assert f"{plans[2].name} is done: skipped." in said
    assert "Grid ████" in said
    assert "left" in said
    found = results.read_report(tmp_path, "runs", tuple(plans))
    assert found.failed[plans[0].name] == failed[plans[0].name]


def test_a_run_with_other_settings_is_neither_skipped_nor_overwritten(tmp_path):
    calls, plans = [], grid.choose("C7")
    trainer = fake_trainer(calls)
    assert not runner.run_grid(plans, tmp_path, tmp_path / "runs", trainer=trainer)
    elsewhere = tmp_path / "other data"
    failed = runner.run_grid(plans, elsewhere, tmp_path / "runs", trainer=trainer)
    assert "with other settings" in failed[plans[0].name]
    assert calls == ["C7"]


def test_ctrl_c_stops_the_grid(tmp_path):
    def trainer(plan, data, folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run_grid(grid.PLANS, tmp_path, tmp_path / "runs", trainer=trainer)


def test_the_command_ends_with_the_failures_and_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(reproduce, "count_images", lambda *_, **__: tmp_path)
    monkeypatch.setattr(reproduce, "run_grid", lambda *_, **__: {"C1-alexnet": "no memory"})
    monkeypatch.setattr(reproduce, "write_report", lambda report: None)
    assert reproduce.main(["--quick", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.endswith("failed: C1-alexnet: no memory\n")
    assert reproduce.main(["--only", "C1,nonsense"]) == 1
    assert "The grid has no 'nonsense'" in capsys.readouterr().err


def test_the_grid_is_the_reports():
    tables = [plan for plan in grid.PLANS if plan.table.startswith("C")]
    assert len(grid.PLANS) == 18
    assert len({plan.name for plan in grid.PLANS}) == 18
    for plan in tables:
        published = paper.published()[plan.table]
        expected = published[["model", "epochs", "learning_rate"]].iloc[0].tolist()
        assert [plan.model, plan.epochs, plan.lr] == expected
        assert plan.settings["split_method"] == "paper"
    assert [plan.model for plan in grid.choose("vgg16, C5")] == ["resnet18", "vgg16"]
    assert {plan.loss for plan in grid.choose("A")} == {"bce_logits"}


def test_weights_are_found_by_either_name(tmp_path):
    (tmp_path / "resnet18-f37072fd.pth").touch()
    resnet, alexnet = grid.choose("C5,C1")[::-1]
    assert grid.with_weights(resnet, tmp_path).weights.endswith("resnet18-f37072fd.pth")
    with pytest.raises(CxrError, match=r"no weights of alexnet: expected alexnet\.pth"):
        grid.with_weights(alexnet, tmp_path)
    (tmp_path / "alexnet.pth").touch()
    assert grid.with_weights(alexnet, tmp_path).weights.endswith("alexnet.pth")


def test_numbers_on_paper():
    column = text.Column("x", "x", signed=True)
    shown = [text.shown(x, column) for x in (None, float("nan"), -0.0001, 0.5, -0.5, 12)]
    assert shown == ["", "–", "0.000", "+0.500", "−0.500", "12"]
    assert [text.six_digits(x) for x in (0.11976, 1.0, -1e-9, 2e-6)] == [
        "0.11976",
        "1",
        "0",
        "0.000002",
    ]


@pytest.mark.slow
def test_a_failure_in_a_process_of_its_own_comes_back_as_a_sentence(tmp_path, phantoms):
    plan = grid.Plan("C1", "no_such_net", 1, 0.001, per_class=2)
    failed = runner.run_grid([plan], phantoms, tmp_path)
    assert "There is no network called 'no_such_net'" in failed[plan.name]


@pytest.mark.slow
def test_a_killed_grid_goes_on_where_it_was(tmp_path, phantoms):
    command = ["--quick", "--data", phantoms, "--only", "C12", "--out", tmp_path]
    first = subprocess.Popen([sys.executable, EXPERIMENTS / "reproduce.py", *map(str, command)])
    folder = tmp_path / "runs-quick" / "C12-resnet_custom-ep2-lr0.0005"
    deadline = time.monotonic() + 120
    while not (folder / "run.json").exists():
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    time.sleep(2)  # its run must have ended with it
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    again = script(*command)
    assert again.returncode == 0, again.stderr
    assert json.loads((folder / "run.json").read_text())["status"] == "done"
    assert not (folder / "model.keras").exists()
    assert "is done: skipped" in script(*command).stderr
    assert 'id="examples"' in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert (tmp_path / "figures" / "examples.png").exists()
