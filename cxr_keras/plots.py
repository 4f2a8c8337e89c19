"""Every figure: readable in print and in grey (shapes and dashes tell lines apart, not colour)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from cxr_keras.utils.files import atomic_file

LOSS_NAMES = {
    "bce": "binary cross-entropy",
    "bce_logits": "binary cross-entropy",
    "weighted_bce": "weighted binary cross-entropy",
    "focal": "focal loss",
    "asymmetric": "asymmetric loss",
}


def save_figure(
    figure: Figure, target: Path, *, dpi: int = 150, packed: bool = True, trimmed: bool = True
) -> None:
    """Write a figure to `target`, atomically, in the format of its suffix.

    The same figure gives the same bytes: an SVG has neither a date nor drawn-by-lot ids. A PNG
    that is not `packed` is a quarter larger and written in a fifth of the time; a figure that fills
    its place need not be `trimmed`, for which it is drawn once more.
    """
    kind = target.suffix[1:]
    metadata = {"Date": None} if kind == "svg" else None
    with atomic_file(target) as temporary, rc_context({"svg.hashsalt": "cxr-keras"}):
        options: dict[str, Any] = (
            {"pil_kwargs": {"compress_level": 1}} if kind == "png" and not packed else {}
        )
        box = "tight" if trimmed else None
        figure.savefig(
            temporary, format=kind, dpi=dpi, bbox_inches=box, metadata=metadata, **options
        )


def pixels_of(figure: Figure, *, dpi: int = 100) -> np.ndarray:
    """A figure as an image: uint8 (h, w, 3)."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def loss_figure(
    history: pd.DataFrame, *, kept: int, title: str, loss: str = "bce", note: str = ""
) -> Figure:
    """Training and validation loss by epoch, the kept epoch marked."""
    figure = Figure(figsize=(6.4, 4.0))
    axes = figure.add_subplot()
    style: dict[str, Any] = {"linewidth": 1.6, "markersize": 4}
    axes.plot(history["epoch"], history["loss"], "o-", color="0.45", label="training", **style)
    axes.plot(
        history["epoch"], history["val_loss"], "s--", color="black", label="validation", **style
    )
    best = history[history["epoch"] == kept].iloc[0]
    axes.plot(
        best["epoch"],
        best["val_loss"],
        "o",
        markersize=12,
        fillstyle="none",
        color="black",
        label=f"kept (epoch {best['epoch']:.0f})",
    )
    axes.set(title=title, xlabel="epoch", ylabel=LOSS_NAMES.get(loss, loss))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.9")
    axes.legend(frameon=False)
    if note:
        figure.text(0.5, -0.02, note, ha="center", va="top", fontsize=7, wrap=True)
    return figure


def tuning_figure(
    trials: pd.DataFrame, names: Sequence[str], measure: str, importance: Mapping[str, float]
) -> Figure:
    """A search: what each trial reached, over each setting, the most important one first.

    Args:
        trials: a row a trial that was done, the best first; columns `names`, numbers or texts, and
            `measure`.
        names: the settings that were searched.
        measure: what the trials are compared by.
        importance: setting → its share of the differences; may be empty.
    """
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(1.2 + 2.3 * columns, 0.6 + 2.2 * rows))
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(names) :]:
        axes.axis("off")
    ordered = sorted(names, key=lambda name: -importance.get(name, 0.0))
    for axes, name in zip(grid.flat, ordered, strict=False):
        values = trials[name]
        axes.plot(values, trials[measure], "o", color="0.45", markersize=5)
        axes.plot(values.iloc[:1], trials[measure].iloc[:1], "s", color="black", markersize=8)
        share = f" ({importance[name]:.0%})" if name in importance else ""
        axes.set_title(name.replace("_", " ") + share, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(color="0.9")
        if name in ("lr", "weight_decay"):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.margins(x=0.15)
    figure.supylabel(measure, fontsize=9)
    note = "square: the best trial"
    if importance:
        note += "; in brackets: share of the differences between trials (functional ANOVA)"
    figure.text(0.5, 0.0, note, ha="center", va="top", fontsize=7)
    figure.tight_layout()
    return figure


def reliability_figure(table: pd.DataFrame) -> Figure:
    """Observed rate against mean probability of each label, and at the end of all together.

    Args:
        table: of `calibration.reliability_table`.
    """
    names = list(dict.fromkeys(table["label"]))
    columns = max(2, min(4, len(names)))
    lines = -(-len(names) // columns)
    width, height = 0.6 + 2.1 * columns, 0.3 + 2.3 * lines
    figure = Figure(figsize=(width, height))
    # in inches, for a tight layout is found by drawing all of it
    edges = {"left": 0.6 / width, "right": 1 - 0.1 / width}
    edges |= {"bottom": 0.6 / height, "top": 1 - 0.4 / height}
    grid = figure.subplots(
        lines, columns, squeeze=False, gridspec_kw=edges | {"wspace": 0.2, "hspace": 0.35}
    )
    for axes in grid.flat[len(names) :]:
        axes.axis("off")
    for axes, name in zip(grid.flat, names, strict=False):
        rows = table[table["label"] == name]
        axes.plot([0, 1], [0, 1], ":", color="0.5", linewidth=1)
        axes.plot(rows["mean_probability"], rows["observed_rate"], "-", color="black", linewidth=1)
        area = 8 + 60 * rows["images"] / rows["images"].max()
        axes.scatter(rows["mean_probability"], rows["observed_rate"], s=area, color="0.35")
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        axes.set_title(textwrap.fill(name, 22, max_lines=2, placeholder=" …"), fontsize=9)
        axes.tick_params(labelsize=7)
        axes.set_xticks([0, 0.5, 1])
        axes.set_yticks([0, 0.5, 1])
    below = "mean probability (area of a dot: images in the bin)"
    figure.supxlabel(below, fontsize=9, y=0.1 / height)
    figure.supylabel("observed rate", fontsize=9, x=0.1 / width)
    return figure


def label_counts_figure(frame: pd.DataFrame, note: str = "") -> Figure:
    """How many images have each label, the most frequent at the top (the report's Figure 2).

    Args:
        frame: of `exploration.label_table`: label and images.
        note: a line below the figure.
    """
    rows = frame.sort_values("images", ascending=False, kind="stable")
    figure, axes = _label_bars(rows, note, headroom=0.14)
    bars = axes.barh(rows["label"], rows["images"], height=0.72, color="0.35")
    axes.bar_label(bars, labels=[f"{n:,}" for n in rows["images"]], padding=3, fontsize=8)
    axes.set_xlabel("images with this label")
    return figure


def combination_figure(frame: pd.DataFrame, note: str = "") -> Figure:
    """How many images carry a finding alone, how many with others (the report's Figure 3).

    Args:
        frame: of `exploration.label_table`, without No Finding: label, images, single and multiple.
        note: a line below the figure.
    """
    rows = frame.sort_values("images", ascending=False, kind="stable")
    figure, axes = _label_bars(rows, note, headroom=0.28)
    style: dict[str, Any] = {"height": 0.72, "edgecolor": "black", "linewidth": 0.6}
    single, multiple = rows["single"], rows["multiple"]
    axes.barh(rows["label"], single, color="0.35", label="this finding alone", **style)
    bars = axes.barh(
        rows["label"],
        multiple,
        left=single,
        color="white",
        hatch="/////",
        label="together with other findings",
        **style,
    )
    ends = [f"{a:,} + {b:,}" for a, b in zip(single, multiple, strict=True)]
    axes.bar_label(bars, labels=ends, padding=3, fontsize=8)
    axes.set_xlabel("images with this finding (at the end: alone + together)")
    # above the axes: with bars of like length no corner is free
    axes.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.2)
    return figure


def lay_heat(axes: Axes, heat: np.ndarray, extent: Any = None) -> None:
    """Lay a heat map (side, side) in 0…1 over a radiograph, with a line for print in grey.

    Args:
        axes: with the radiograph.
        heat: the map.
        extent: left, right, bottom and top of both, where they are not pixels.
    """
    axes.imshow(heat, cmap="inferno", alpha=0.55 * heat, vmin=0, vmax=1, extent=extent)
    if heat.max() > 0.5:
        axes.contour(
            heat,
            levels=[0.5],
            colors="white",
            linewidths=1,
            extent=extent,
            origin=None if extent is None else "upper",
        )


def _tiles(count: int, most: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """A figure of bare axes, `most` in a line at most, each of a size in inches."""
    columns = min(most, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * lines))
    grid = list(figure.subplots(lines, columns, squeeze=False).ravel())
    for axes in grid:
        axes.axis("off")
    return figure, grid


def outline(axes: Axes, boxes: Sequence[Any], colour: str = "white", style: str = "-") -> None:
    """Draw boxes (left, top, right, bottom), seen on black and on white."""
    for left, top, right, bottom in boxes:
        for edge, width, line in (("black", 3.0, "-"), (colour, 1.5, style)):
            size = (right - left, bottom - top)
            patch = Rectangle((left, top), *size, fill=False, ec=edge, lw=width, ls=line)
            axes.add_patch(patch)


def sheet_figure(shown: Sequence[tuple[np.ndarray, np.ndarray, Sequence[Any], str]]) -> Figure:
    """A contact sheet: of each image its pixels (side, side), map in 0…1, boxes, and a caption."""
    figure, grid = _tiles(len(shown), 5, (2.4, 3.0))
    for axes, (pixels, heat, boxes, caption) in zip(grid, shown, strict=False):
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        lay_heat(axes, heat)
        outline(axes, boxes)
        axes.set_title(caption, fontsize=7, parse_math=False)  # names of files may have a $
    figure.tight_layout()
    return figure


def localization_figure(
    shown: Sequence[tuple[np.ndarray, np.ndarray, Sequence[Any], Any, str]],
) -> Figure:
    """Radiographs with a heat map, the radiologists' boxes and the box that the map draws.

    Args:
        shown: of each its pixels (side, side), map (side, side), boxes (left, top, right, bottom),
            detected box or None, and finding.
    """
    figure, grid = _tiles(len(shown), 4, (2.6, 2.9))
    for axes, (pixels, heat, boxes, detected, title) in zip(grid, shown, strict=False):
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        axes.imshow(heat, cmap="inferno", alpha=0.5 * heat, vmin=0, vmax=1)
        outline(axes, boxes)
        outline(axes, [detected] if detected else [], "deepskyblue", "--")
        axes.set_title(title if heat.any() else f"{title}: no map", fontsize=9)
    figure.suptitle("white: box of the data, dashed: the map's box", fontsize=9)
    figure.tight_layout()
    return figure


def _label_bars(rows: pd.DataFrame, note: str, *, headroom: float) -> tuple[Figure, Axes]:
    """Empty axes for horizontal bars of `rows`, the first at the top.

    Args:
        rows: label and images.
        note: a line below the figure.
        headroom: room for the numbers at the bars' ends, as a share of the longest bar.
    """
    figure = Figure(figsize=(6.4, 0.9 + 0.25 * len(rows)))
    axes = figure.add_subplot()
    axes.set(xlim=(0, max(1, rows["images"].max()) * (1 + headroom)), ylim=(len(rows) - 0.4, -0.6))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    if note:
        figure.text(0.5, -0.04, note, ha="center", va="top", fontsize=7, wrap=True)
    return figure, axes
