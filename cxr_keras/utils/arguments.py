"""What Python users pass, as the library wants it: paths, numpy's numbers, one or many."""

from __future__ import annotations

import numbers
import operator
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from cxr_keras.errors import CxrError

if TYPE_CHECKING:
    import numpy as np

PathLike: TypeAlias = "str | os.PathLike[str]"
Whole: TypeAlias = "int | np.integer[Any]"
Real: TypeAlias = "float | np.floating[Any]"


def as_text(path: PathLike | None) -> str | None:
    """A path as text; None and "" are None."""
    return os.fspath(path) if path else None


def as_paths(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """One path or several, as a list of `Path`.

    Raises:
        CxrError: something among them is no path.
    """
    several = [paths] if isinstance(paths, str | os.PathLike) else paths
    try:
        return [Path(path).expanduser() for path in several]
    except TypeError as error:
        raise CxrError(f"Give a path or a list of paths. Received: {paths!r}.") from error


def whole(name: str, value: Any, *, at_least: int) -> int:
    """A whole number, numpy's included.

    Raises:
        CxrError: it is none, or below `at_least`.
    """
    try:
        number = operator.index(value)
    except TypeError as error:
        raise CxrError(f"{name} must be a whole number. Received: {value!r}.") from error
    if number < at_least:
        raise CxrError(f"{name} must be {at_least} or more. Received: {number}.")
    return number


def real(name: str, value: Any) -> float:
    """A number, numpy's included.

    Raises:
        CxrError: it is none.
    """
    if not isinstance(value, numbers.Real):
        raise CxrError(f"{name} must be a number. Received: {value!r}.")
    return float(value)
