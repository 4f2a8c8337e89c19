"""Choices that the command line shows; this module imports nothing heavy."""

from __future__ import annotations

from typing import Literal, get_args

Tta = Literal["none", "flip"]  # test-time augmentation; the views of each are in `tta`
TTA: tuple[Tta, ...] = get_args(Tta)
NO_TTA: Tta = "none"

Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
FULL: Precision = "float32"

# heat map methods, see `heat_maps`
METHODS = (
    GRAD_CAM := "gradcam",
    "gradcam++",
    "layercam",
    "hirescam",
    "eigencam",
    "occlusion",
    "integrated-gradients",
)
