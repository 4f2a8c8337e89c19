"""Recipes: which settings a training takes where nobody says otherwise.

`report` is the report's own: Adam at one rate, no augmentation, every network as it came. `modern`
is what was found best on 8,508 real radiographs, chosen on validation splits by patient (see
docs/recipes.md). Each setting is a field of `TrainConfig` and an option of the command line.
"""

from __future__ import annotations

from typing import Any

from cxr_keras.errors import CxrError

REPORT, MODERN = "report", "modern"

# What a recipe says otherwise than `TrainConfig`, whose defaults are the report's
RECIPES: dict[str, dict[str, Any]] = {
    REPORT: {},
    MODERN: {
        "per_class": "all",
        "size": 192,
        "fit": "whole",
        "epochs": 16,
        "lr": 1e-3,
        "batch_size": 32,
        "fine_tune": "all",
        "precision": "auto",
        "optimizer": "adamw",
        "weight_decay": 0.05,
        "schedule": "one-cycle",
        "augment": "strong",
        "mixup": 0.2,
        "flip": True,
        "ema": 0.999,
        "monitor": "val_auroc",
    },
}


def check_recipe(name: str) -> None:
    """Refuse a name that is none of `RECIPES`.

    Raises:
        CxrError: with those there are.
    """
    if name not in RECIPES:
        raise CxrError(f"There is no recipe {name!r}. Choose one of: {', '.join(RECIPES)}.")
