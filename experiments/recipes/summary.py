"""Run folders of the ablation → a table, a figure, a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from runner import RUN, read_json

from cxr_keras import compare
from cxr_keras.plots import save_figure
from cxr_keras.utils.files import write_table, write_text
from recipes import pieces
from recipes.pieces import ADDED, REMOVED, TRIED, Step

TABLE, FIGURE, PAGE = "ablation.csv", "ablation.png", "ablation.md"
COLUMNS = ("group", "piece", "auroc", "low", "high", "difference", "from", "to", "p", "epoch")
_HEADINGS = {
    ADDED: "From the report's recipe to the modern one: each row adds a piece to the row above",
    REMOVED: "The whole recipe without a piece",
    TRIED: "The whole recipe and one piece more",
}


def table_of(steps: Sequence[Step], runs: Path, folder: Path) -> pd.DataFrame:
    """A row per run that is done: AUROC, and the paired difference to what it is compared with.

    AUROC is the mean of the 14 findings on the validation split, at the kept epoch, with its 95%
    interval over patients; the difference has its own. A run whose folder is not in `runs` keeps
    the row that the table in `folder` has of it: the ablation takes longer than some machines last.
    """
    earlier = {}
    if (folder / TABLE).is_file():
        table = pd.read_csv(folder / TABLE)
        earlier = {(row["group"], row["piece"]): row for row in table.to_dict("records")}
    rows = []
    for step in steps:
        info = read_json(runs / step.name / RUN)
        if info.get("status") != "done":
            if (step.group, step.piece) in earlier:
                rows.append(earlier[step.group, step.piece])
            continue
        metrics = pd.read_csv(runs / step.name / "validation" / "metrics.csv").set_index("label")
        average = metrics.loc["average of 14 findings"]
        row = {
            "group": step.group,
            "piece": step.piece,
            "auroc": average["auroc"],
            "low": average["auroc_low"],
            "high": average["auroc_high"],
        }
        if step.against and (runs / step.against / RUN).is_file():
            pair = compare(runs / step.against, runs / step.name).set_index("label")
            found = pair.loc["average of 14 findings"]
            row |= {
                "difference": found["auroc_difference"],
                "from": found["auroc_low"],
                "to": found["auroc_high"],
                "p": found["auroc_p"],
            }
        row |= {
            "epoch": info["best_epoch"],
            "seconds": info["seconds"]["training"],
            "images_per_second": info["images_per_second"],
        }
        rows.append(row)
    return pd.DataFrame(rows, columns=[*COLUMNS, "seconds", "images_per_second"])


def figure_of(table: pd.DataFrame) -> Figure:
    """Left, AUROC as the pieces are added; right, what the others change, with 95% intervals."""
    added = _with_gaps(table[table["group"] == ADDED])
    others = table[table["group"] != ADDED]
    figure = Figure(figsize=(10.5, 0.9 + 0.3 * max(len(added), len(others))))
    left, right = figure.subplots(1, 2)
    names = [*added["piece"][:1], *("+ " + added["piece"][1:])]
    _dots(left, names, added[["auroc", "low", "high"]], "AUROC, mean of 14 findings")
    signs = others["group"].map({REMOVED: "− ", TRIED: "+ "})
    label = "change of AUROC from the whole recipe"
    _dots(right, list(signs + others["piece"]), others[["difference", "from", "to"]], label)
    right.axvline(0, color="0.5", linestyle=":", linewidth=1)
    figure.tight_layout()
    return figure


def _dots(axes: Axes, names: list[str], values: pd.DataFrame, label: str) -> None:
    places = range(len(names))
    middle, low, high = (values.iloc[:, i].to_numpy() for i in range(3))
    axes.hlines(places, low, high, color="0.45", linewidth=1.6)
    axes.plot(middle, places, "o", color="black", markersize=5)
    axes.set_yticks(list(places), names, fontsize=8)
    axes.set(xlabel=label, ylim=(len(names) - 0.4, -0.6))
    axes.grid(axis="x", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


def write(table: pd.DataFrame, folder: Path) -> None:
    """Write ablation.csv, ablation.md and ablation.png into `folder`."""
    write_table(table.round(4), folder / TABLE)
    write_text(folder / PAGE, markdown_of(table))
    save_figure(figure_of(table), folder / FIGURE)


def markdown_of(table: pd.DataFrame) -> str:
    """The table for docs, a part a group."""
    parts = []
    for group, heading in _HEADINGS.items():
        rows = table[table["group"] == group]
        if rows.empty:
            continue
        if group == ADDED:
            rows = _with_gaps(rows)
        lines = [f"**{heading}**", "", "| piece | AUROC (95%) | change (95%, paired) | images/s |"]
        lines.append("|---|---|---|---|")
        for row in rows.to_dict("records"):
            if pd.isna(row["auroc"]):
                lines.append(f"| {row['piece']} | not made | | |")
                continue
            change = "" if pd.isna(row["difference"]) else _interval(row, "+.3f", *_CHANGE)
            auroc = _interval(row, ".3f", "auroc", "low", "high")
            rate = "" if pd.isna(row["images_per_second"]) else f"{row['images_per_second']:.0f}"
            lines.append(f"| {row['piece']} | {auroc} | {change} | {rate} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _with_gaps(added: pd.DataFrame) -> pd.DataFrame:
    """Rows of ADDED, and an empty one for each run that is missing between two of them."""
    order = [step.piece for step in pieces.steps() if step.group == ADDED]
    places = [order.index(piece) for piece in added["piece"]]
    if not places:
        return added
    between = order[min(places) : max(places) + 1]
    return added.set_index("piece").reindex(between).reset_index()


_CHANGE = ("difference", "from", "to")


def _interval(row: dict[str, float], form: str, middle: str, low: str, high: str) -> str:
    to = " to " if "+" in form else "–"
    return f"{row[middle]:{form}} ({row[low]:{form}}{to}{row[high]:{form}})"
