"""Label tables of real data sets, which the torchxrayvision wheel carries."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest


def real_table(name: str) -> Path:
    """One of its files, found without importing it; skips the test where it is not installed."""
    found = importlib.util.find_spec("torchxrayvision")
    if found is None or found.origin is None:
        pytest.skip("the package torchxrayvision, which holds the table, is not installed")
    path = Path(found.origin).parent / "data" / name
    if not path.is_file():
        pytest.skip(f"torchxrayvision has no {name}")
    return path
