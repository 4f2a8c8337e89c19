"""Choices and defaults that the command line shows; this module imports nothing heavy."""

from __future__ import annotations

from typing import Literal, get_args

SplitMethod = Literal["patient", "paper", "official"]
SPLIT_METHODS: tuple[SplitMethod, ...] = get_args(SplitMethod)
DEFAULT_SPLIT_METHOD: SplitMethod = "patient"
PER_CLASS = 300  # images chosen for each label, as in the report
ALL_IMAGES_METHOD: SplitMethod = "official"  # takes every image where nobody gives a number
SEED = 42
PHANTOM_COUNT, PHANTOM_SEED = 256, 7


def images_per_class(per_class: int | None, split_method: SplitMethod) -> int | None:
    """How many images to choose for each label; None for every image.

    Nobody's number (None) means `PER_CLASS`, but every image for the official split: what papers
    print is measured on all of NIH's test list.
    """
    if per_class is None and split_method != ALL_IMAGES_METHOD:
        return PER_CLASS
    return per_class
