"""Choices that the command line shows; this module imports nothing heavy."""

from __future__ import annotations

from cxr_keras.data.options import EVERY_IMAGE

OWN_SPLITS = ("train", "val", "test", EVERY_IMAGE)  # of the data that a network was trained on
SPLIT_CHOICES = ("train", "val", "train_val", "test", EVERY_IMAGE)  # and of official lists
