"""A split that a person made, in a manifest like that which `prepare` writes: taken and checked."""

from __future__ import annotations

import pandas as pd

from cxr_keras.data.dataset import IMAGE, PATIENT, Dataset
from cxr_keras.data.splits import SPLITS, TRAIN, VAL, shared_images, shared_patients
from cxr_keras.errors import DataError

GIVEN = "manifest"  # the method of such a split


def given_split(chosen: pd.DataFrame, dataset: Dataset) -> tuple[pd.DataFrame, list[str]]:
    """The split that a manifest gives, checked.

    Args:
        chosen: its images, with "digest" where they are at hand.
        dataset: the manifest as it was read; its lists are the splits.

    Returns:
        The rows with a "split" column, and notices.

    Raises:
        DataError: there is no training or no validation image, or a patient or an image (under two
            names) is in two splits.
    """
    split = pd.Series("", index=chosen.index)
    for name, images in dataset.lists.items():
        split[chosen[IMAGE].isin(images)] = name
    nowhere = int((~split.isin(SPLITS)).sum())
    notices = [f"{nowhere:,} images of the manifest are in no split: left out."] if nowhere else []
    rows = chosen.assign(split=split)[split.isin(SPLITS)].reset_index(drop=True)
    empty = [name for name in (TRAIN, VAL) if name not in set(rows["split"])]
    if empty:
        raise DataError(
            f"The manifest puts no image into {' and '.join(empty)}. Its column split says one of "
            f"{', '.join(SPLITS)} for each image; test may be without one."
        )
    shared = {pair: number for pair, number in shared_patients(rows).items() if number}
    if shared:
        pairs = ", ".join(f"{number:,} in {pair}" for pair, number in shared.items())
        splits = rows.groupby(PATIENT)["split"].nunique()
        raise DataError(
            f"The manifest has patients in two splits ({pairs}), such as {splits.idxmax()}, so the "
            "result would flatter. Put all images of a patient into one split."
        )
    if copies := shared_images(rows):
        raise DataError(
            f"The manifest has {copies:,} images in two splits under different names. Put copies "
            "of an image into one split."
        )
    return rows, notices
