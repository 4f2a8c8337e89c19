"""The report's tables, made again."""

import re

import pandas as pd
import pytest
from helpers.experiments import C11, EXAMPLES
from report import grid, paper, text

from cxr_keras import FINDINGS, LABELS

pytestmark = pytest.mark.slow  # the whole report is made first
EXPECTED = sorted(EXAMPLES.joinpath("expected").iterdir())


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
