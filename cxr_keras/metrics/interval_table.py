"""The per-label table with its intervals, of all images or of a subgroup."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import pandas as pd

from cxr_keras.metrics import bootstrap, per_label


def interval_table(
    truth: np.ndarray,
    probability: np.ndarray,
    patients: Iterable[Hashable],
    *,
    labels: Sequence[str],
    normal: str | None,
    thresholds: Sequence[float],
    resampling: bootstrap.Resampling | None,
) -> pd.DataFrame:
    """`per_label.label_table`, and the bounds of `bootstrap.intervals` unless resampling is None.

    The bounds are columns auroc_low, auroc_high, and the same of ap, precision, recall and f1.
    Truth is 1, 0 or NaN (unknown).
    """
    table = per_label.label_table(
        truth, probability, labels=labels, normal=normal, thresholds=thresholds
    )
    if resampling is None:
        return table
    found = bootstrap.intervals(
        truth,
        probability,
        patients,
        labels=labels,
        averages=per_label.average_rows(labels, normal),
        predicted=probability >= np.array(thresholds),
        resampling=resampling,
    )
    bounds = [name for name in found if name.endswith(("_low", "_high"))]
    return table.merge(found[["label", *bounds]], on="label", how="left")
