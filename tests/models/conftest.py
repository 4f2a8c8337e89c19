"""A cache of weights of each test's own."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def own_weights_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
