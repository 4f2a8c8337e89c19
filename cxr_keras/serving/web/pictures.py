"""Images and heat maps as the page shows them: PNGs of the whole image, 8-bit grey."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from cxr_keras.framing import Framing

LONGEST_SIDE = 2048  # pixels of an image that is shown


def as_png(grey: np.ndarray) -> bytes:
    """A PNG of a grey image, uint8 (h, w)."""
    written = BytesIO()
    Image.fromarray(grey).save(written, "PNG", compress_level=1)
    return written.getvalue()


def over_whole_image(heat: np.ndarray, framing: Framing, width: int, height: int) -> np.ndarray:
    """A heat map of the network's square, laid over the whole image: uint8 (h, w), 255 the highest.

    Args:
        heat: (framing.stored, framing.stored) in 0…1.
        framing: how the image became the square.
        width: of the image, in pixels.
        height: of the image.

    Returns:
        As many pixels as the image has once it is scaled for the network, 0 where that was cut off.
    """
    side = framing.stored
    left, top, across, down = framing.placed(width, height)
    whole = np.zeros((down, across), "uint8")
    square = np.round(np.clip(heat, 0, 1) * 255).astype("uint8")
    rows = slice(max(0, -top), min(down, side - top))
    columns = slice(max(0, -left), min(across, side - left))
    whole[rows, columns] = square[
        rows.start + top : rows.stop + top, columns.start + left : columns.stop + left
    ]
    return whole
