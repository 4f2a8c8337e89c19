"""Results → the report's tables, each number beside the published one."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pandas as pd

from cxr_keras import FINDINGS, LABELS
from report import paper
from report.grid import Plan
from report.paper import MEASURES
from report.results import Answers, Report, Result, deviations, source
from report.text import AVERAGE, BASELINE, LABEL, Cell, Column, Row, Table

UNDEFINED = (
    "A dash is an undefined number (a precision where nothing is predicted positive; "
    "recall, F1 or AUROC where no test image has the label; NaN in the CSV). The report prints 0 "
    "for such a precision, so averages of precision and differences count it as 0."
)
RECOVERED = (
    "The report's support is recovered from its accuracy, precision and recall on 886 test images; "
    "its two baselines follow from that support (its base rates are those of its test split)."
)
OURS = (
    "Columns: ours is this run, report the published value, diff. ours − report. The test loss is "
    "the mean of all 15 labels."
)
CALIBRATED = (
    "The same predictions, positive from the thresholds with the best F1 on the validation split; "
    "a label with fewer than 5 positives there keeps 0.5. AUROC needs no threshold; its 95% "
    "interval is a bootstrap over patients (1,000 resamples), left out where fewer than 5 "
    "patients have a label, or lack it."
)
ALWAYS_NO, BASE_RATES = 'always "no"', "always the base rate"
AVERAGES = (("average of 14 findings", "findings"), ("average of all 15", "everything"))
TITLES = {
    "A": "Appendix A: alexnet_custom with the loss on logits (bce_logits)",
    "densenet121": "Without a table in the report: densenet121",
    "vgg16": "Without a table in the report: vgg16",
    "vgg19": "Without a table in the report: vgg19",
}
NOTES = {
    "A": (
        "The settings of C10 are assumed. Here bce and bce_logits are one function, computed on "
        "the logits, so this run repeats C10."
    ),
} | dict.fromkeys(
    ("densenet121", "vgg16", "vgg19"),
    "In the report this network ran out of 24 GB of memory and has no numbers. 15 epochs and "
    "the learning rate 0.0005 are ours.",
)


def run_tables(report: Report, plan: Plan) -> list[Table]:
    """The table of one run beside the report's, and the same at calibrated thresholds."""
    result = report.results.get(plan.table)
    head = _head(report, plan)
    title = TITLES.get(plan.table, f"Table {plan.table}: {plan.model}")
    title += f", {plan.report_epochs} epochs, learning rate {plan.lr:g}"
    known = plan.table in paper.published()
    about = (OURS, RECOVERED) if known else ()
    rows = _label_rows(plan, result) + _average_rows(plan, result) + _baselines(plan, result)
    columns = _columns(known)
    if result is None:
        rows = rows if known else []
        return [Table(plan.table, title, "Published", (*head, *about), columns, tuple(rows))]
    place = source(report, plan)
    caption = f"At the report's threshold, 0.5. {place}"
    first = Table(plan.table, title, caption, (*head, *about, UNDEFINED), columns, tuple(rows))
    second = Table(
        f"{plan.table}-calibrated",
        title,
        f"At calibrated thresholds. {place}",
        (*head, CALIBRATED, UNDEFINED),
        _CALIBRATED_COLUMNS,
        tuple(_calibrated_rows(result)),
    )
    return [first, second]


def _head(report: Report, plan: Plan) -> tuple[str, ...]:
    said = [*deviations(report, plan), *paper.remarks(plan.table)]
    if plan.table in NOTES:
        said.append(NOTES[plan.table])
    return once(said)


def once(sentences: Iterable[str]) -> tuple[str, ...]:
    """The sentences in order, each said once."""
    return tuple(dict.fromkeys(sentences))


def _columns(known: bool) -> tuple[Column, ...]:
    columns = [
        Column("label", "label", text=True),
        Column("support", "ours" if known else "", "support"),
    ]
    columns += [Column("support_report", "report", "support")] if known else []
    for measure in (*MEASURES, "loss"):
        digits = 4 if measure == "loss" else 3
        group = "F1" if measure == "f1" else measure
        columns.append(Column(measure, "ours" if known else "", group, digits))
        if known:
            columns.append(Column(f"{measure}_report", "report", group, digits))
            columns.append(Column(f"{measure}_difference", "diff.", group, digits, True))
    return tuple(columns)


def _label_rows(plan: Plan, result: Result | None) -> list[Row]:
    published = paper.published().get(plan.table)
    rows = []
    for label in LABELS:
        ours = result.plain.labels.loc[label] if result else None
        theirs = None
        if published is not None:
            theirs = {name: float(published.loc[label, name]) for name in MEASURES}
            theirs["support"] = int(paper.supports()[label])
        rows.append(_row(label, ours, theirs, LABEL))
    return rows


def _average_rows(plan: Plan, result: Result | None) -> list[Row]:
    known = plan.table in paper.published()
    rows = []
    for name, scope in AVERAGES:
        labels = FINDINGS if scope == "findings" else LABELS
        theirs = None
        if known:
            theirs = {m: paper.average(plan.table, m, labels) for m in MEASURES}
        ours = getattr(result.plain, scope).drop("support") if result else None
        rows.append(_row(name, ours if ours is None else ours.drop("loss"), theirs, AVERAGE))
    theirs = {"loss": float(paper.published()[plan.table]["test_loss"].iloc[0])} if known else None
    loss = pd.Series({"loss": result.plain.everything["loss"]}) if result else None
    return [*rows, _row("test loss", loss, theirs, AVERAGE)]


def _baselines(plan: Plan, result: Result | None) -> list[Row]:
    """Averages of the 14 findings without looking at an image; losses are means of 15 labels."""
    known = plan.table in paper.published()
    nothing = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "accuracy": paper.always_no_accuracy()}
    rows = []
    for name in (ALWAYS_NO, BASE_RATES):
        theirs = dict(nothing) if known else None
        if known and name == BASE_RATES:
            theirs["loss"] = paper.constant_loss()
        ours = None
        if result:
            found = result.always_no if name == ALWAYS_NO else result.base_rates
            ours = _baseline(found)
            if name == BASE_RATES:
                ours["loss"] = found.everything["loss"]
        rows.append(_row(name, ours, theirs, BASELINE))
    return rows


def _baseline(found: Answers) -> pd.Series:
    """Its measures at 0.5. The loss of a certain "no" that is wrong has no bound: left out."""
    ours = found.findings[list(MEASURES)].copy()
    if found.labels.loc[list(FINDINGS), "precision"].isna().all():
        ours["precision"] = math.nan
    return ours


def _row(name: str, ours: pd.Series | None, theirs: dict[str, float] | None, kind: str) -> Row:
    cells: list[Cell] = [name, _whole(ours)]
    if theirs is not None:
        cells.append(theirs.get("support"))
    for measure in (*MEASURES, "loss"):
        mine = None if ours is None or measure not in ours else float(ours[measure])
        cells.append(mine)
        if theirs is not None:
            published = theirs.get(measure)
            cells += [published, _difference(mine, published, measure)]
    return Row(tuple(cells), kind)


def _whole(ours: pd.Series | None) -> int | None:
    return None if ours is None or "support" not in ours else int(ours["support"])


def _difference(ours: float | None, published: float | None, measure: str) -> float | None:
    if ours is None or published is None:
        return None
    if math.isnan(ours) and measure == "precision":
        ours = 0.0
    return ours - published


def _calibrated_rows(result: Result) -> list[Row]:
    found = result.calibrated
    measures = (*MEASURES, "auroc", "auroc_low", "auroc_high")

    def row(name: str, values: pd.Series, kind: str, **fixed: Cell) -> Row:
        numbers = {m: float(values[m]) if m in values else None for m in measures}
        cells = {"support": None, "threshold": None} | numbers | fixed
        return Row((name, *(cells[c.key] for c in _CALIBRATED_COLUMNS[1:])), kind)

    rows = [
        row(label, values, LABEL, support=int(values["support"]), threshold=values["threshold"])
        for label, values in found.labels.iterrows()
    ]
    rows += [row(name, getattr(found, scope), AVERAGE) for name, scope in AVERAGES]
    rows.append(row(ALWAYS_NO, _baseline(result.always_no), BASELINE, auroc=0.5))
    return rows


_CALIBRATED_COLUMNS = (
    Column("label", "label", text=True),
    Column("support", "support"),
    Column("threshold", "threshold", digits=4),
    *(Column(m, m if m != "f1" else "F1") for m in MEASURES),
    Column("auroc", "AUROC"),
    Column("auroc_low", "from", "95% interval"),
    Column("auroc_high", "to", "95% interval"),
)
