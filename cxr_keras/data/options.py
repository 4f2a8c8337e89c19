"""Choices and defaults that the command line shows; this module imports nothing heavy."""

from __future__ import annotations

from typing import Literal, get_args

SplitMethod = Literal["patient", "paper", "official"]
SPLIT_METHODS: tuple[SplitMethod, ...] = get_args(SplitMethod)
DEFAULT_SPLIT_METHOD: SplitMethod = "patient"
PER_CLASS = 300  # images chosen for each label, as in the report
SEED = 42
PHANTOM_COUNT, PHANTOM_SEED = 256, 7
