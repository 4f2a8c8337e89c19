"""The report's figures, readable in print and in grey: PNG and SVG, the same bytes each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cxr_keras.data.labels import NO_FINDING
from cxr_keras.plots import combination_figure, label_counts_figure
from cxr_keras.utils.files import atomic_file
from report.results import Report

COUNTS = "data/label_counts.csv"  # beside the run folders, as `cxr_keras.explore` writes it
NETWORKS = ("alexnet", "resnet18", "alexnet_custom", "resnet_custom", "densenet_custom")
RATES = (0.001, 0.0005)
PHANTOMS = "Phantoms (synthetic drawings): says nothing about patients."
_DOTS = 150  # an inch, of the PNG
# which run a line is: its dash and marker; training is grey and validation black
_RUNS = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"), ((0, (5, 1, 1, 1, 1, 1)), "v"))
_TONES = {"training": "0.55", "validation": "black"}


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        name: of its files, and its anchor on the page.
        title, caption: beside it.
        figure: what is drawn; None where there is nothing to draw it from.
        missing: why it, or a part of it, is not drawn.
    """

    name: str
    title: str
    caption: str
    figure: Figure | None
    missing: str = ""


def pictures(report: Report) -> Iterator[Picture]:
    """Figures 2, 3, 7–11 and B1–B6, one at a time."""
    yield from _counts(report)
    for number, network in enumerate(NETWORKS, 7):
        what = f"{network}: training and validation loss by learning rate"
        yield _losses(report, f"{number}", what, [(network, 15, rate) for rate in RATES])
    pairs = [(n, rate) for n in ("alexnet", "alexnet_custom") for rate in RATES]
    for number, (network, rate) in enumerate(pairs, 1):
        what = f"{network}: training and validation loss by length, learning rate {rate:g}"
        yield _losses(report, f"B{number}", what, [(network, n, rate) for n in (15, 30)])
    for number, rate in enumerate(RATES, 5):
        what = f"validation loss by network, learning rate {rate:g}"
        runs = [(network, 15, rate) for network in NETWORKS]
        yield _losses(report, f"B{number}", what, runs, training=False)


def save(picture: Picture, folder: Path) -> None:
    """Write PNG and SVG; neither holds a date, so the same numbers give the same files."""
    if picture.figure is None:
        return
    for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
        with (
            matplotlib.rc_context({"svg.hashsalt": picture.name}),
            atomic_file(folder / (picture.name + suffix)) as temporary,
        ):
            picture.figure.savefig(
                temporary, format=suffix[1:], dpi=_DOTS, bbox_inches="tight", metadata=metadata
            )


def _counts(report: Report) -> Iterator[Picture]:
    source = report.folder / report.runs / COUNTS
    titles = ("Images by label", "A finding alone, and with others, by label")
    if not source.is_file():
        why = "The data folder's label table has not been counted yet."
        for number, title in zip("23", titles, strict=True):
            yield Picture(f"Figure-{number}", f"Figure {number}: {title}", "", None, why)
        return
    counts = pd.read_csv(source)
    about = f"All {report.data.get('images', 0):,} images of {report.data.get('label_table')}"
    note = PHANTOMS if report.data.get("phantoms") else ""
    findings = counts[counts["label"] != NO_FINDING]
    drawn = (label_counts_figure(counts, note), combination_figure(findings, note))
    for number, title, figure in zip("23", titles, drawn, strict=True):
        full = f"Figure {number}: {title}"
        caption = f"{about} ({report.runs}/{COUNTS}). {note}".strip()
        yield Picture(f"Figure-{number}", full, caption, figure)


def _losses(
    report: Report,
    number: str,
    title: str,
    runs: Sequence[tuple[str, int, float]],
    *,
    training: bool = True,
) -> Picture:
    """Loss by epoch; `runs` are (network, the report's epochs, learning rate)."""
    plans = [
        plan
        for run in runs
        for plan in report.plans
        if plan.table.startswith("C") and (plan.model, plan.report_epochs, plan.lr) == run
    ]
    drawn = [plan for plan in plans if plan.table in report.results]
    left_out = ", ".join(plan.table for plan in plans if plan not in drawn)
    missing = f"Not drawn, for want of a run: {left_out}." if left_out else ""
    lengths = sorted({plan.epochs for plan in plans})
    title = f"{title}, {' and '.join(map(str, lengths))} epochs"
    name, full = f"Figure-{number}", f"Figure {number}: {title}"
    if not drawn:
        return Picture(name, full, "", None, missing)
    figure = Figure(figsize=(6.4, 4.0))
    axes = figure.add_subplot()
    style: dict[str, Any] = {"linewidth": 1.5, "markersize": 4.5, "markerfacecolor": "white"}
    for plan in drawn:
        history = pd.read_csv(report.folder / report.place(plan) / "history.csv")
        dash, marker = _RUNS[plans.index(plan)]
        for kind, column in (("training", "loss"), ("validation", "val_loss")):
            if kind == "training" and not training:
                continue
            label = f"{_what_varies(plan, plans)}, {kind}" if training else plan.model
            shape = {"color": _TONES[kind], "linestyle": dash, "marker": marker}
            axes.plot(history["epoch"], history[column], label=label, **shape, **style)
    axes.set(xlabel="epoch", ylabel="binary cross-entropy")
    axes.set_title(title, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9")
    axes.legend(frameon=False, fontsize=8)
    phantoms = any(report.results[plan.table].info["data"]["phantoms"] for plan in drawn)
    if phantoms:
        figure.text(0.5, -0.02, PHANTOMS, ha="center", va="top", fontsize=7)
    places = "; ".join(f"{plan.table}: {report.place(plan)}/history.csv" for plan in drawn)
    caption = f"{places}. {PHANTOMS * phantoms}".strip()
    if len(lengths) > 1:
        caption += " Of one seed: the longer run begins as the shorter one."
    return Picture(name, full, caption, figure, missing)


def _what_varies(plan: Any, plans: Sequence[Any]) -> str:
    if len({other.lr for other in plans}) > 1:
        return f"learning rate {plan.lr:g}"
    return f"{plan.epochs} epochs"
