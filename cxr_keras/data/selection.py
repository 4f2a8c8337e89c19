"""Which images of a data set are used. Pure pandas and numpy.

The report's choice: 300 images per label (all 227 of Hernia), each image once, which is 4,427 of
NIH's 112,120.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cxr_keras.data.labels import LABELS, encode_cells
from cxr_keras.data.options import PER_CLASS
from cxr_keras.data.readers.nih import FINDING_LABELS, IMAGE
from cxr_keras.errors import DataError

CHOSEN_FOR = "chosen_for"


def choose_images(table: pd.DataFrame, *, per_class: int = PER_CLASS, seed: int) -> pd.DataFrame:
    """Choose up to `per_class` images for each label, the rarest label first, each image once.

    Args:
        table: rows with "Image Index" and clean "Finding Labels".
        per_class: images chosen for each label; a label with fewer gives all it has left.
        seed: of the choice. The order of the rows does not matter.

    Returns:
        The chosen rows, sorted by "Image Index", with the label each was chosen for in
        "chosen_for".

    Raises:
        DataError: `per_class` is below 1.
    """
    if per_class < 1:
        raise DataError(f"Images per label must be 1 or more. Received: {per_class}.")
    table = table.sort_values(IMAGE, ignore_index=True)
    truth = encode_cells(table[FINDING_LABELS]).astype(bool)
    chosen_for = np.full(len(table), "", dtype=object)
    for index in np.argsort(truth.sum(axis=0), kind="stable"):
        free = np.flatnonzero(truth[:, index] & (chosen_for == ""))
        rng = np.random.default_rng([seed, int(index)])
        taken = rng.permutation(free)[:per_class]
        chosen_for[taken] = LABELS[index]
    table[CHOSEN_FOR] = chosen_for
    return table[table[CHOSEN_FOR] != ""].reset_index(drop=True)
