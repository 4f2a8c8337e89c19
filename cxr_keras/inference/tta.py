"""Test-time augmentation: a network sees several views of an image, and their mean counts.

The mean is of probabilities, not of logits: so an ensemble of this package averages, too; it takes
any network, also one whose output is no sigmoid of a layer, as an ensemble's; and a view that is
sure by mistake counts for one part of n, where its extreme logit would outweigh the others.

A further one is a name in `options.Tta` and its views here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from cxr_keras.errors import CxrError
from cxr_keras.inference.options import TTA, Tta

View = Callable[[np.ndarray], np.ndarray]  # grey pixels (B, side, side, 1) → the same shape


def _as_it_is(pixels: np.ndarray) -> np.ndarray:
    return pixels


def _mirrored(pixels: np.ndarray) -> np.ndarray:
    """Left and right exchanged; a copy, as torch takes no negative strides."""
    return np.ascontiguousarray(pixels[:, :, ::-1])


VIEWS: Mapping[Tta, tuple[View, ...]] = {
    "none": (_as_it_is,),
    "flip": (_as_it_is, _mirrored),
}


def check_tta(name: str) -> Tta:
    """`name`, if there is such a test-time augmentation.

    Raises:
        CxrError: there is none; the message lists those there are.
    """
    for known in TTA:
        if name == known:
            return known
    names = ", ".join(TTA)
    raise CxrError(f"There is no test-time augmentation {name!r}. Choose one of: {names}.")
