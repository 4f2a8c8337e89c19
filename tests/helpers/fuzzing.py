"""Properties of what reads strangers' files, held against generated and damaged ones.

Each property is two tests: a few fixed examples in every run, many in the slow one. To hunt with
other examples than the fixed ones, and as many as you like:

    CXR_KERAS_FUZZ_EXAMPLES=20000 python -m pytest -m slow tests/fuzz

What fails is kept in Hypothesis's database (`.hypothesis/`, which git ignores), and both tests of
the property try it first from then on, until it passes. A find that is mended becomes an
`example` beside its property, so that every machine knows it.
"""

from __future__ import annotations

import functools
import gzip
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase

from cxr_keras.errors import DataError
from helpers.places import ROOT

DATABASE = DirectoryBasedExampleDatabase(ROOT / ".hypothesis" / "examples")
VARIABLE = "CXR_KERAS_FUZZ_EXAMPLES"
EXAMPLES = {"quick": 24, "thorough": int(os.environ.get(VARIABLE, 1000))}
ROOM = 2_000_000_000  # bytes that a small file may make the process ask for


def fuzz(*decorators: Callable, cost: int = 1, database: ExampleDatabase = DATABASE) -> Callable:
    """A property as a quick and a slow test; `cost` divides the number of examples.

    The decorators are Hypothesis's own: one `given`, then an `example` for each find of the past.
    """

    def make(promise: Callable) -> Callable:
        runs = {}
        for budget, examples in EXAMPLES.items():
            run = promise
            for decorator in decorators:
                run = decorator(run)
            if budget == "quick" or VARIABLE not in os.environ:
                run = seed(0)(run)  # fixed examples; `derandomize` would leave the database out
            runs[budget] = settings(
                max_examples=max(examples // cost, 4),
                derandomize=False,
                deadline=None,
                database=database,
                suppress_health_check=list(HealthCheck),
            )(run)

        @pytest.mark.parametrize(
            "budget", ["quick", pytest.param("thorough", marks=pytest.mark.slow)]
        )
        def test(budget: str) -> None:
            runs[budget]()

        test.__doc__ = promise.__doc__
        return test

    return make


@contextmanager
def confined() -> Iterator[list[warnings.WarningMessage]]:
    """Yield a list of the warnings that come out; memory beyond `ROOM` is a MemoryError."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    except (ImportError, OSError):  # not Linux: the memory is not watched
        resource = None
    with warnings.catch_warnings(record=True) as escaped:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # other tests' garbage
        if resource:
            limit = pages * resource.getpagesize() + ROOM
            resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        try:
            yield escaped
        finally:
            if resource:
                resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def assert_sentence(error: DataError, path: Path) -> None:
    text = str(error)
    assert str(path) in text
    assert text.endswith(".")
    assert "\n" not in text


Edit = Callable[[bytes], bytes]
place = st.floats(0, 1, exclude_max=True)


def edit(kind: str, where: float, length: int, new: bytes) -> Edit:
    """Damage of one kind at a place that is a share of the content's length."""

    def apply(content: bytes) -> bytes:
        at = int(where * (len(content) + 1))
        before, after = content[:at], content[at:]
        return {
            "flip": before + bytes(b ^ 1 << length % 8 for b in after[:1]) + after[1:],
            "overwrite": before + new + after[len(new) :],
            "delete": before + after[length:],
            "insert": before + new + after,
            "repeat": before + after[:length] + after,
            "cut": before,
        }[kind]

    return apply


edits = st.builds(
    edit,
    st.sampled_from(["flip", "overwrite", "delete", "insert", "repeat", "cut"]),
    place,
    st.integers(1, 64),
    st.binary(min_size=1, max_size=8),
)


def apply_all(content: bytes, changes: list[Edit]) -> bytes:
    return functools.reduce(lambda so_far, change: change(so_far), changes, content)


def gzipped(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)  # always the same bytes
