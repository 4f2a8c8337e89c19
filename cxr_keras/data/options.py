"""Choices and defaults that the command line shows; this module imports nothing heavy."""

from __future__ import annotations

from typing import Any, Literal, get_args

from cxr_keras.errors import DataError
from cxr_keras.utils.arguments import real

SplitMethod = Literal["patient", "paper", "official"]
SPLIT_METHODS: tuple[SplitMethod, ...] = get_args(SplitMethod)
DEFAULT_SPLIT_METHOD: SplitMethod = "patient"
EVERY_IMAGE = "all"
PER_CLASS = 300  # images chosen for each label, as in the report
ALL_IMAGES_METHOD: SplitMethod = "official"  # takes every image where nobody gives a number
TEST_SHARE = 0.2  # of the chosen images
VAL_SHARE = 0.2  # of the images that are not test
LISTED_TEST_METHOD: SplitMethod = "official"  # its test images are NIH's list
SEED = 42
PHANTOM_COUNT, PHANTOM_SEED = 256, 7
NO_AUGMENTATION = "none"
AUGMENTATIONS = (NO_AUGMENTATION, "light", "strong")
SAMPLERS = ("uniform", "balanced")
Uncertain = Literal["ignore", "ones", "zeros"]
UNCERTAIN: tuple[Uncertain, ...] = get_args(Uncertain)
IGNORE: Uncertain = "ignore"
FORMATS = ("nih", "chexpert", "mimic-cxr", "padchest", "vindr", "rsna", "openi", "chestmnist")
DOWNLOADS = ("nih", "chestmnist")  # which data sets can be fetched; the first by default
CHESTMNIST_SIZES = (28, 64, 128, 224)  # pixels a side
CHESTMNIST_SIZE = 64
SHARED, UNION = "shared", "all"  # which labels of several data sets


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


def split_shares(
    val_share: Any, test_share: Any, split_method: SplitMethod
) -> tuple[float, float | None]:
    """The shares of validation and test, checked; of the test images of a list there is none.

    Args:
        val_share: of the images that are not test, above 0 and below 1.
        test_share: of the chosen images, from 0 (no test split) to below 1. Nobody's number (None)
            means `TEST_SHARE`, and for the official split NIH's list.
        split_method: one of `SPLIT_METHODS`.

    Raises:
        DataError: a share is out of its range, or a test share is given to the official split.
    """
    val = real("val_share", val_share)
    if not 0 < val < 1:
        raise DataError(
            "The share of validation must be above 0, because it chooses the epoch and the "
            f"thresholds, and below 1. Received: {val:g}."
        )
    if split_method == LISTED_TEST_METHOD:
        if test_share is not None:
            raise DataError(
                f"The test images of the {split_method} split are NIH's list, so it takes no share "
                f"of test. Received: {test_share}. Leave it out, or use --split-method patient."
            )
        return val, None
    test = TEST_SHARE if test_share is None else real("test_share", test_share)
    if not 0 <= test < 1:
        raise DataError(
            "The share of test must be 0, for no test split, or above, and below 1. "
            f"Received: {test:g}."
        )
    return val, test
