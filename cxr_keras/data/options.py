"""Choices and defaults that the command line shows; this module imports nothing heavy."""

from __future__ import annotations

from typing import Literal, get_args

from cxr_keras.errors import DataError

SplitMethod = Literal["patient", "paper", "official"]
SPLIT_METHODS: tuple[SplitMethod, ...] = get_args(SplitMethod)
DEFAULT_SPLIT_METHOD: SplitMethod = "patient"
EVERY_IMAGE = "all"
PER_CLASS = 300  # images chosen for each label, as in the report
ALL_IMAGES_METHOD: SplitMethod = "official"  # takes every image where nobody gives a number
SEED = 42
PHANTOM_COUNT, PHANTOM_SEED = 256, 7
NO_AUGMENTATION = "none"
AUGMENTATIONS = (NO_AUGMENTATION, "light", "strong")
SAMPLERS = ("uniform", "balanced")


def images_per_class(per_class: int | str | None, split_method: SplitMethod) -> int | str | None:
    """How many images to choose for each label; None or "all" for every image.

    Nobody's number (None) means `PER_CLASS`, but every image for the official split: what papers
    print is measured on all of NIH's test list.

    Raises:
        DataError: it is neither a number nor "all".
    """
    if isinstance(per_class, str) and per_class != EVERY_IMAGE:
        raise DataError(
            f"Images per label are a number or {EVERY_IMAGE!r}. Received: {per_class!r}."
        )
    if per_class is None and split_method != ALL_IMAGES_METHOD:
        return PER_CLASS
    return per_class
