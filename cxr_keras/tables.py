"""Tables of text for a terminal, on stdout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from cxr_keras.metrics import AVERAGE_FINDINGS, DEFINED_SUFFIX


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
    text = frame_table(table[~is_count])
    counts = table[is_count].set_index("label").loc[AVERAGE_FINDINGS + DEFINED_SUFFIX]
    partial = [f"{name} {counts[name]:.0f}" for name in counts.index[1:] if counts[name] < 14]
    if partial:
        text += (
            "\n– undefined (a label never called has no precision, one without both classes no "
            f"AUROC).\nOf the 14 findings the averages cover: {', '.join(partial)}."
        )
    return text


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3f}"
    return str(value)
