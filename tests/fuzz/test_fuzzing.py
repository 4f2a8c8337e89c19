"""The fuzz itself: its examples are fixed, and it keeps what it finds."""

import pytest
from helpers.fuzzing import fuzz
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase


def test_a_find_of_the_slow_run_is_tried_first_by_every_later_run():
    tried, limit = [], 900_000

    @fuzz(given(st.integers(0, 1_000_000)), database=InMemoryExampleDatabase())
    def below_the_limit(number):
        tried.append(number)
        assert number < limit

    with pytest.raises(AssertionError):
        below_the_limit("thorough")
    for budget in ("quick", "thorough"):
        tried.clear()
        with pytest.raises(AssertionError):
            below_the_limit(budget)
        assert tried[0] == limit


def examples_of(budget):
    tried = []

    @fuzz(given(st.integers()), cost=20, database=InMemoryExampleDatabase())
    def any_number(number):
        tried.append(number)

    any_number(budget)
    return tried


@pytest.mark.parametrize("budget", ["quick", "thorough"])
def test_without_a_find_the_examples_are_the_same_in_every_run(budget, monkeypatch):
    monkeypatch.delenv("CXR_KERAS_FUZZ_EXAMPLES", raising=False)
    first = examples_of(budget)
    assert first == examples_of(budget)
    assert len(set(first)) > 3
