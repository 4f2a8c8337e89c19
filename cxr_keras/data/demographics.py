"""View, sex and age band of each image, from NIH's columns: the subgroups of every table."""

from __future__ import annotations

import pandas as pd

from cxr_keras.data.dataset import AGE, GENDER, VIEW

AGE_BANDS = (("0–17", 0, 17), ("18–39", 18, 39), ("40–64", 40, 64), ("65 and over", 65, 120))
UNKNOWN = "unknown"


def groups_of(images: pd.DataFrame) -> pd.DataFrame:
    """The subgroups of each image.

    Args:
        images: one row per image, with those of NIH's three columns that are known.

    Returns:
        Text columns "view", "sex" and "age" (a band of `AGE_BANDS`), as far as `images` has NIH's
        column. An empty cell is "unknown", and so is an age that nobody reaches (NIH's 2017 table
        has 414).
    """
    groups = {}
    for name, column in (("view", VIEW), ("sex", GENDER)):
        if column in images.columns:
            text = images[column].fillna("").astype(str).str.strip()
            groups[name] = text.where(text != "", UNKNOWN)
    if AGE in images.columns:
        age = pd.to_numeric(images[AGE], errors="coerce")
        band = pd.Series(UNKNOWN, index=images.index)
        for name, low, high in AGE_BANDS:
            band[(age >= low) & (age < high + 1)] = name
        groups["age"] = band
    return pd.DataFrame(groups, index=images.index)
