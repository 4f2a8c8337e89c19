import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxr_keras.data.labels import FINDINGS, LABELS, LabelSet, canonical_label, split_labels
from cxr_keras.data.multi_hot import decode, decode_rows, encode, encode_cells
from cxr_keras.errors import DataError


def test_labels_are_nihs_fifteen_in_the_reports_order():
    assert len(LABELS) == 15
    assert list(LABELS) == sorted(LABELS)
    assert set(LABELS) - set(FINDINGS) == {"No Finding"}


@given(st.sets(st.sampled_from(LABELS)))
def test_decode_is_the_inverse_of_encode(names):
    assert set(split_labels(decode(encode(names)))) == names


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("Infiltrate", "Infiltration"),
        (" pleural thickening ", "Pleural_Thickening"),
        ("NO FINDING", "No Finding"),
        ("Fracture", None),
        ("", None),
    ],
)
def test_spellings(name, label):
    assert canonical_label(name) == label


def test_encode_places_a_one_at_the_labels_place():
    assert np.flatnonzero(encode(["Edema", "Mass"])).tolist() == [3, 9]


def test_split_labels_strips_blanks_and_empty_parts():
    assert split_labels(" Mass | Nodule||") == ["Mass", "Nodule"]


@pytest.mark.parametrize("width", [1, 8, 15, 152])
@pytest.mark.parametrize("rows", [0, 1, 200])
def test_the_cells_of_many_rows_are_those_of_each(width, rows):
    labels = [f"label {i}" for i in range(width)]
    flags = np.random.default_rng(0).random((rows, width)) < 0.1
    cells = decode_rows(flags, labels)
    assert cells == [decode(row, labels) for row in flags]
    assert np.array_equal(encode_cells(cells, labels), flags)


@pytest.mark.parametrize(
    "names", [(), ("",), (" Edema", "Mass"), ("Mass\t",), ("A|B",), ("A", "a")]
)
def test_names_that_no_cell_could_hold_are_refused(names):
    with pytest.raises(DataError, match="A label set needs one or more names, each once"):
        LabelSet(names)
