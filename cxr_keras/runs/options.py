"""Names that the command line shows; this module imports nothing heavy."""

from __future__ import annotations

RUNS_FOLDER = "saved_models"
