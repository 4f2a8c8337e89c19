"""Choices that the command line shows; this module imports nothing heavy."""

from __future__ import annotations

OWN_SPLITS = ("train", "val", "test", "all")  # of the data that a network was trained on
EVERY_IMAGE = "all"
SPLIT_CHOICES = ("train", "val", "train_val", "test", EVERY_IMAGE)  # and of NIH's official lists
