"""Choices and defaults that the command line shows; this module imports nothing heavy."""

from __future__ import annotations

from typing import Literal, get_args

ScalingMethod = Literal["none", "temperature", "platt"]
SCALING_METHODS: tuple[ScalingMethod, ...] = get_args(ScalingMethod)
RESAMPLES = 1000  # of a bootstrap
MIN_POSITIVES = 5  # of a label, and as many negatives, to choose or fit anything of it
