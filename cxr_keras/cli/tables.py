"""Tables of text for a terminal, on stdout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from cxr_keras.metrics import bootstrap
from cxr_keras.metrics.assessment import Assessment
from cxr_keras.metrics.per_label import DEFINED_SUFFIX, average_rows
from cxr_keras.metrics.subgroups import MIN_PATIENTS, overview


def text_table(rows: Sequence[Sequence[str]], header: Sequence[str], *, left: int = 1) -> str:
    """Aligned columns under a ruled header; the first `left` columns to the left."""
    cells = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    rule = "  ".join("─" * width for width in widths)
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])])


def frame_table(frame: pd.DataFrame, *, left: int = 1) -> str:
    """A data frame as an aligned table: counts as they are, measures with three digits."""
    columns = [[_cell(value) for value in frame[name]] for name in frame.columns]
    return text_table(list(zip(*columns, strict=True)), list(map(str, frame.columns)), left=left)


def metrics_table(table: pd.DataFrame) -> str:
    """The per-label table as a person reads it; undefined measures are dashes, explained below."""
    is_count = table["label"].str.endswith(DEFINED_SUFFIX)
    shown = table[~is_count][["label", "support"]].copy()
    if shown.assign(known=table["known"])["known"].nunique() > 1:  # some truth is unknown
        shown["of images"] = table["known"]
    limits: list[float] = (
        list(table["threshold"].dropna().unique()) if "threshold" in table.columns else []
    )
    if len(limits) > 1:
        shown["threshold"] = table["threshold"]
    for name in ("precision", "accuracy", "recall", "f1", "auroc", "ap"):
        shown[name] = table[name]
    text = frame_table(_with_intervals(shown, table, ("precision", "recall", "f1", "auroc")))
    if "auroc_low" in table.columns:
        text += (
            "\nBeside a measure: its 95% interval; none (–) where fewer than "
            f"{bootstrap.MIN_PATIENTS} patients have\n"
            "the label, or lack it, or no resample differs."
        )
    if len(limits) == 1:
        text += f"\nA label is predicted positive from a probability of {limits[0]:g}."
    counts = table[is_count].iloc[0]  # of the findings
    partial = [
        f"{name} {counts[name]:.0f}"
        for name in ("precision", "recall", "f1", "auroc")
        if counts[name] < counts["support"]
    ]
    if partial:
        text += (
            "\n– undefined (a label never predicted has no precision, one without both classes no "
            f"AUROC).\nOf the {counts['support']:.0f} labels the first average covers: "
            f"{', '.join(partial)}."
        )
    return text


def own_labels_table(table: pd.DataFrame) -> str:
    """`second_truth.own_labels_table` as a person reads it."""
    measured = table[~table["label"].str.endswith(DEFINED_SUFFIX)]
    shown = measured[[name for name in table if not name.endswith(("_low", "_high"))]].copy()
    shown = shown.rename(columns={"known": "of images"})
    return frame_table(_with_intervals(shown, table, ("precision", "recall", "f1")))


def comparison_table(table: pd.DataFrame) -> str:
    """`comparison.compare`'s table as a person reads it."""
    shown = table[["label"]].copy()
    for measure in ("auroc", "ap"):
        shown[f"{measure} A"] = table[f"{measure}_a"]
        shown["B" + " " * (measure == "ap")] = table[f"{measure}_b"]
        signed = [f"{value:+.3f}" for value in table[f"{measure}_difference"]]
        shown["B − A" + " " * (measure == "ap")] = signed
        shown["95% interval" + " " * (measure == "ap")] = _interval(table, measure)
        shown["p" + " " * (measure == "ap")] = table[f"{measure}_p"]
    return frame_table(shown).replace("+nan", "   –")


def assessment_sentences(found: Assessment) -> str:
    """What the tables do not show: how many images, and how No Finding was predicted."""
    text = f"{found.images:,} images; "
    if found.normal:
        text += f"{found.contradictions:,} are predicted {found.normal} beside a finding, "
    return text + f"{found.silent:,} are predicted nothing at all."


def subgroup_overview(found: Assessment) -> str:
    """Averages by view, sex and age band."""
    name = next(iter(average_rows(found.labels, found.normal)))
    table = overview(found.subgroups, name)
    shown = table[[column for column in table if not column.endswith(("_low", "_high"))]].copy()
    shown = _with_intervals(shown, table, ("precision", "recall", "f1", "auroc"))
    note = (
        f"{name.capitalize()}; labels: how many have both classes in the subgroup.\n"
        f"A subgroup of fewer than {MIN_PATIENTS} patients is not measured."
    )
    return f"{frame_table(shown, left=2)}\n{note}"


def _with_intervals(
    shown: pd.DataFrame, table: pd.DataFrame, measures: Sequence[str]
) -> pd.DataFrame:
    """`shown` with the bounds that `table` has beside their measures: "0.405 .31–.49"."""
    bounded = [name for name in measures if f"{name}_low" in table.columns]
    for name in bounded:
        pairs = zip(table[f"{name}_low"], table[f"{name}_high"], strict=True)
        texts = ["–" if math.isnan(low) else f"{_short(low)}–{_short(high)}" for low, high in pairs]
        bounds = pd.Series(texts, index=table.index)[shown.index]
        width = max(len(text) for text in bounds)
        shown[name] = [
            f"{_cell(value)} {'' if math.isnan(value) else text:>{width}}"
            for value, text in zip(shown[name], bounds, strict=True)
        ]
    return shown


def _short(share: float) -> str:
    """A number in 0…1 in three signs: ".31", or "1.0"."""
    return "1.0" if share >= 0.995 else f"{share:.2f}".removeprefix("0")


def _interval(table: pd.DataFrame, measure: str) -> pd.Series:
    signed = measure + "_difference" in table.columns
    form = "{:+.3f} {:+.3f}" if signed else "{:.3f}–{:.3f}"
    pairs = zip(table[f"{measure}_low"], table[f"{measure}_high"], strict=True)
    cells = ["–" if math.isnan(low) else form.format(low, high) for low, high in pairs]
    return pd.Series(cells, index=table.index)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3f}"
    return str(value)
