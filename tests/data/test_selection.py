"""Which images are chosen."""

import pandas as pd
from helpers.label_tables import table_of, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_keras.data.labels import LABELS
from cxr_keras.data.selection import choose_images


@settings(max_examples=40, deadline=None)
@given(tables, st.integers(1, 12), st.integers(0, 9))
def test_choice_promises(table, per_class, seed):
    chosen = choose_images(table, per_class=per_class, seed=seed)
    assert chosen["Image Index"].is_unique
    for _, row in chosen.iterrows():
        assert row["chosen_for"] in row["Finding Labels"].split("|")
    counts = chosen["chosen_for"].value_counts()
    assert (counts <= per_class).all()
    # a label that got fewer than asked left none of its images behind
    left = table[~table["Image Index"].isin(chosen["Image Index"])]
    for label in LABELS:
        if counts.get(label, 0) < per_class:
            assert not left["Finding Labels"].str.split("|").map(lambda x, y=label: y in x).any()
    shuffled = table.sample(frac=1, random_state=seed)
    again = choose_images(shuffled, per_class=per_class, seed=seed)
    pd.testing.assert_frame_equal(chosen, again)


def test_another_seed_is_another_choice():
    table = table_of(["Mass"] * 50)
    a, b = (choose_images(table, per_class=10, seed=s)["Image Index"].tolist() for s in (1, 2))
    assert a != b
