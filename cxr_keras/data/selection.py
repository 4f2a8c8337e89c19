"""Which images of a data set are used. Pure pandas and numpy.

The report's choice: 300 images per label (all 227 of Hernia), each image once, which is 4,427 of
NIH's 112,120. Such a choice is balanced: it gives every label a share that no hospital sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import IMAGE, truth_of
from cxr_keras.data.labels import LABELS
from cxr_keras.data.options import PER_CLASS
from cxr_keras.errors import DataError

CHOSEN_FOR = "chosen_for"
NONE = "none"  # of the labels


def choose_images(
    table: pd.DataFrame,
    *,
    per_class: int | None = PER_CLASS,
    seed: int,
    labels: Sequence[str] = LABELS,
) -> pd.DataFrame:
    """Choose up to `per_class` images for each label, the rarest label first, each image once.

    Images that are known to have none of the labels are chosen last, as if they had one of their
    own; after them, those of which nothing is known.

    Args:
        table: rows with "Image Index" and clean "Finding Labels", and where some are unknown
            "Unknown Labels".
        per_class: images chosen for each label; a label with fewer gives all it has left. None
            chooses every image.
        seed: of the choice. The order of the rows does not matter.
        labels: of the data set.

    Returns:
        The chosen rows, sorted by "Image Index", with the label each was chosen for in
        "chosen_for", or "none".

    Raises:
        DataError: `per_class` is below 1.
    """
    if per_class is not None and per_class < 1:
        raise DataError(f"Images per label must be 1 or more. Received: {per_class}.")
    table = table.sort_values(IMAGE, ignore_index=True)
    known = truth_of(table, labels)
    silent, truth = np.isnan(known).all(axis=1), known == 1
    truth = np.concatenate([truth, ~truth.any(axis=1, keepdims=True)], axis=1)
    chosen_for = np.full(len(table), "", dtype=object)
    order = np.argsort(truth[:, :-1].sum(axis=0), kind="stable")
    for index in [*order, len(labels)]:
        free = np.flatnonzero(truth[:, index] & (chosen_for == ""))
        rng = np.random.default_rng([seed, int(index)])
        free = rng.permutation(free)
        taken = free[np.argsort(silent[free], kind="stable")][:per_class]
        chosen_for[taken] = labels[index] if index < len(labels) else NONE
    table[CHOSEN_FOR] = chosen_for
    return table[table[CHOSEN_FOR] != ""].reset_index(drop=True)


def artificial_prevalence(data: Mapping[str, Any]) -> str:
    """What a balanced choice of training data means for the numbers; empty if it was none.

    Args:
        data: what a card or run.json says of the training data. "not_chosen" is how many images
            the limit of "per_class" left out; of a card without it (an old one), a limit counts as
            reached where at least that many images were chosen in all.
    """
    limit = data.get("per_class")
    if not isinstance(limit, int):
        return ""  # every image
    chosen = sum(data.get("sizes", {}).values())
    left_out = data.get("not_chosen", int(chosen >= limit))
    if not left_out:
        return ""
    return (
        f"This network's images were chosen, at most {limit:,} for each label, and then split, so "
        "their prevalence is artificial: thresholds, precision, F1, average precision, calibration "
        "errors and Platt shifts found on them hold for no hospital."
    )
