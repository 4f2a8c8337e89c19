"""Where the tests of downloads fetch to."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where a test fetches to."""
    return tmp_path / "file.gz"
