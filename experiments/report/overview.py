"""The report's Tables 1–4, the list of runs, and all tables in order."""

from __future__ import annotations

from report import paper
from report.grid import Plan
from report.results import Report, deviations
from report.tables import ALWAYS_NO, OURS, once, run_tables
from report.text import BASELINE, Cell, Column, Row, Table

GROUPS = {
    "Table-1": ("AlexNet", ("C1", "C2", "C3", "C4")),
    "Table-2": ("ResNet18", ("C5", "C6")),
    "Table-3": ("custom AlexNet", ("C7", "C8", "C9", "C10")),
    "Table-4": ("custom ResNet and custom DenseNet", ("C11", "C12", "C13", "C14")),
}


def all_tables(report: Report) -> dict[str, list[Table]]:
    """File name → the tables in it: Tables 1–4, then C1–C14 and the runs without a table."""
    found = {name: overview_tables(report, name) for name in GROUPS}
    for plan in report.plans:
        found[plan.table] = run_tables(report, plan)
    return found


def overview_tables(report: Report, name: str) -> list[Table]:
    """One of the report's Tables 1–4: average recall of its runs."""
    what, members = GROUPS[name]
    plans = [plan for plan in report.plans if plan.table in members]
    done = [plan for plan in plans if plan.table in report.results]
    said = [
        f"An excerpt of {', '.join(members)}: recall at a threshold of 0.5, averaged over the 14 "
        "findings. Which runs stand in which of the report's Tables 1 to 4 is not known: grouping "
        "them by network is ours, and its values are means over its tables C.",
        *(text for plan in plans for text in paper.remarks(plan.table)),
        *(text for plan in done for text in deviations(report, plan)),
        OURS,
        "Columns under calibrated: the same runs at thresholds chosen on the validation split, "
        "beside their AUROC with its 95% interval.",
    ]
    rows = [_overview_row(report, plan) for plan in plans]
    rows.append(Row((ALWAYS_NO, "", None, None, 0.0, 0.0, 0.0, 0.0, 0.5, None, None, ""), BASELINE))
    title = f"{name.replace('-', ' ')}: {what}, average recall without No Finding"
    caption = "Average recall of 14 findings"
    return [Table(name, title, caption, once(said), _OVERVIEW_COLUMNS, tuple(rows))]


def grid_table(report: Report) -> Table:
    """Every run, what it gave and where it lies."""
    rows = []
    for plan in report.plans:
        result = report.results.get(plan.table)
        cells: tuple[Cell, ...] = (None,) * 6
        state = "failed" if plan.name in report.failed else "not run"
        place = report.place(plan) if result else ""
        if result:
            state = "done"
            info, all_ = result.info, result.calibrated.findings
            seconds = info["seconds"]["whole"]
            cells = (info["settings"]["epochs"], result.plain.findings["recall"], all_["recall"])
            cells += (all_["auroc"], result.plain.everything["loss"], round(seconds))
        rows.append(Row((plan.table, plan.model, plan.lr, state, *cells, place)))
    columns = (
        Column("table", "table", text=True),
        Column("network", "network", text=True),
        Column("learning_rate", "learning rate", digits=None),
        Column("state", "state", text=True),
        Column("epochs", "epochs"),
        Column("recall", "at 0.5", "average recall"),
        Column("recall_calibrated", "calibrated", "average recall"),
        Column("auroc", "AUROC"),
        Column("loss", "test loss", digits=4),
        Column("seconds", "seconds"),
        Column("run", "run folder", text=True),
    )
    return Table("grid", "The runs", "Averages of 14 findings", (), columns, tuple(rows))


def _overview_row(report: Report, plan: Plan) -> Row:
    result = report.results.get(plan.table)
    published = paper.average(plan.table, "recall")
    cells: tuple[Cell, ...] = (None,) * 7
    if result:
        recall = float(result.plain.findings["recall"])
        best = result.calibrated.findings
        cells = (recall, published, recall - published, float(best["recall"]))
        cells += tuple(float(best[name]) for name in ("auroc", "auroc_low", "auroc_high"))
    else:
        cells = (None, published, None, None, None, None, None)
    place = report.place(plan) if result else "not run"
    return Row((plan.table, plan.model, plan.report_epochs, plan.lr, *cells, place))


_OVERVIEW_COLUMNS = (
    Column("table", "table", text=True),
    Column("network", "network", text=True),
    Column("epochs", "epochs"),
    Column("learning_rate", "learning rate", digits=None),
    Column("recall", "ours", "average recall"),
    Column("recall_report", "report", "average recall"),
    Column("recall_difference", "diff.", "average recall", signed=True),
    Column("recall_calibrated", "recall", "calibrated"),
    Column("auroc", "AUROC", "calibrated"),
    Column("auroc_low", "from", "calibrated"),
    Column("auroc_high", "to", "calibrated"),
    Column("run", "run folder", text=True),
)
