"""Choices that the command line shows; this module imports nothing heavy."""

from __future__ import annotations

OPTIMIZERS = ("adam", "adamw", "sgd")
SGD_MOMENTUM = 0.9
