"""Names of labels, label cells and their vectors."""

from __future__ import annotations

import numpy as np
from helpers.fuzzing import fuzz
from helpers.label_names import meaning, misspelt
from hypothesis import given
from hypothesis import strategies as st

from cxr_keras.data.labels import LABELS, canonical_label, split_labels
from cxr_keras.data.multi_hot import decode, encode, encode_cells

label_sets = st.sets(st.sampled_from(LABELS))


@fuzz(given(st.lists(st.booleans(), min_size=15, max_size=15)))
def test_decode_and_encode_are_inverses_in_the_labels_order(flags):
    cell = decode(flags)
    assert split_labels(cell) == [label for label, flag in zip(LABELS, flags, strict=True) if flag]
    np.testing.assert_array_equal(encode(split_labels(cell)), np.array(flags, "float32"))


@fuzz(given(st.permutations(LABELS), st.integers(0, 15)))
def test_decode_forgets_the_order_that_encode_was_given(order, count):
    names = order[:count]
    assert split_labels(decode(encode(names))) == sorted(names, key=LABELS.index)


@fuzz(given(st.text() | misspelt(*LABELS)))
def test_canonical_label_is_one_of_the_15_or_none_and_its_own_meaning(name):
    label = canonical_label(name)
    assert label is None or label in LABELS
    assert label is None or canonical_label(label) == label
    assert label == meaning(name)


@fuzz(given(st.sampled_from(LABELS).flatmap(lambda x: st.tuples(st.just(x), misspelt(x)))))
def test_canonical_label_forgives_case_blanks_and_underscores(pair):
    label, spelling = pair
    assert canonical_label(spelling) == label


@fuzz(given(st.text() | st.text("| \t\nMa", max_size=30)))
def test_split_labels_gives_no_blanks(text):
    parts = split_labels(text)
    assert all(part and part == part.strip() and "|" not in part for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.replace("|", " ").split())


@fuzz(given(st.lists(label_sets)))
def test_encode_cells_is_a_loop_over_the_cells(sets):
    matrix = encode_cells("|".join(sorted(names)) for names in sets)
    slow = [[float(label in names) for label in LABELS] for names in sets]
    assert matrix.shape == (len(sets), 15)
    assert matrix.dtype == np.float32
    assert matrix.tolist() == slow
