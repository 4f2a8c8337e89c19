"""Every error that cxr-keras raises on purpose.

    CxrError                    one sentence: what was wrong, what was received, what to do
    ├── DataError               a data folder, label table or manifest cannot be used
    │   └── ImageError          one image file cannot be read as a radiograph
    ├── ModelError              a network name, a weights file or a `.keras` file cannot be used
    └── RunError                a run folder cannot be written, resumed or read

The command line prints the message of a `CxrError` and exits with 1; anything else is a bug.
"""

from __future__ import annotations


class CxrError(Exception):
    """Base of the errors whose message is meant for the person at the keyboard."""


class DataError(CxrError):
    """A data folder, label table, manifest or pixel store cannot be used."""


class ImageError(DataError):
    """One image file cannot be read as a radiograph."""


class ModelError(CxrError):
    """A network name, a weights file or a `.keras` file cannot be used."""


class RunError(CxrError):
    """A run folder cannot be written, resumed or read."""
