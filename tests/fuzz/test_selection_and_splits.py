"""The choice of images and the splits keep their promises on any table."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from helpers.fuzzing import fuzz, place
from helpers.label_names import CELL, IMAGE, PATIENT
from hypothesis import given
from hypothesis import strategies as st

from cxr_keras.data.dataset import Dataset
from cxr_keras.data.multi_hot import decode
from cxr_keras.data.selection import choose_images
from cxr_keras.data.splits import shared_patients, split_images
from cxr_keras.errors import DataError


def random_table(rows: int, patients: int, labels: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    odds = rng.random(labels) ** 3
    truth = rng.random((rows, labels)) < odds
    truth[np.arange(rows), rng.integers(labels, size=rows)] = True
    width = np.zeros((rows, 15), bool)
    width[:, rng.permutation(15)[:labels]] = truth
    return pd.DataFrame(
        {
            IMAGE: [f"{name:08d}_000.png" for name in rng.permutation(rows)],
            CELL: [decode(row) for row in width],
            PATIENT: (patients * rng.random(rows) ** 2).astype(int).astype(str),
        }
    )


tables = st.builds(
    random_table,
    rows=st.integers(5, 300),
    patients=st.integers(1, 300),
    labels=st.integers(1, 15),
    seed=st.integers(0, 2**32),
)
seeds = st.integers(0, 2**64)


@fuzz(given(tables, st.integers(1, 40), seeds), cost=4)
def test_the_choice_keeps_its_promises(table, per_class, seed):
    before = table.copy()
    chosen = choose_images(table, per_class=per_class, seed=seed)
    pd.testing.assert_frame_equal(table, before)
    assert chosen[IMAGE].is_unique
    assert chosen[IMAGE].is_monotonic_increasing
    assert set(chosen[IMAGE]) <= set(table[IMAGE])
    rows = chosen[[CELL, "chosen_for"]].itertuples(index=False)
    assert all(label in cell.split("|") for cell, label in rows)
    counts = Counter(chosen["chosen_for"])
    assert max(counts.values()) <= per_class
    left = table[~table[IMAGE].isin(chosen[IMAGE])]
    left_behind = {label for cell in left[CELL] for label in cell.split("|")}
    assert all(counts[label] == per_class for label in left_behind)
    shuffled = table.sample(frac=1, random_state=seed % 1000)
    again = choose_images(shuffled, per_class=per_class, seed=seed)
    pd.testing.assert_frame_equal(chosen, again)


@fuzz(given(tables, st.integers(1, 40), seeds), cost=4)
def test_the_paper_split_keeps_its_promises(table, per_class, seed):
    chosen = choose_images(table, per_class=per_class, seed=seed)
    test = math.ceil(0.2 * len(chosen))
    val = math.ceil(0.2 * (len(chosen) - test))
    split = split_or_none(chosen, Dataset(Path("none"), table), "paper", seed)
    if split is None:
        assert len(chosen) < 3
        return
    assert split[IMAGE].tolist() == chosen[IMAGE].tolist()
    assert Counter(split["split"]) == {"train": len(chosen) - test - val, "val": val, "test": test}
    share = test / len(chosen)
    for _, rows in split.groupby("chosen_for"):
        assert abs((rows["split"] == "test").sum() - share * len(rows)) < 1


@fuzz(given(tables, st.integers(1, 40), seeds), cost=4)
def test_the_patient_split_keeps_its_promises(table, per_class, seed):
    chosen = choose_images(table, per_class=per_class, seed=seed)
    split = split_or_none(chosen, Dataset(Path("none"), table), "patient", seed)
    if split is None:
        return
    assert split[IMAGE].tolist() == chosen[IMAGE].tolist()
    assert set(split["split"]) == {"train", "val", "test"}
    assert set(shared_patients(split).values()) == {0}


@fuzz(given(tables, place, place, st.integers(1, 40), seeds), cost=4)
def test_the_official_split_keeps_its_promises(table, in_train, in_test, per_class, seed):
    rng = np.random.default_rng(seed)
    lists = {
        name: frozenset(table.loc[rng.random(len(table)) < share, IMAGE])
        for name, share in (("train_val", in_train), ("test", in_test))
    }
    chosen = choose_images(table, per_class=per_class, seed=seed)
    split = split_or_none(chosen, Dataset(Path("none"), table, lists), "official", seed)
    if split is None:
        return
    listed = lists["train_val"] | lists["test"]
    assert split[IMAGE].tolist() == [name for name in chosen[IMAGE] if name in listed]
    test = set(split.loc[split["split"] == "test", IMAGE])
    assert test == set(chosen[IMAGE]) & lists["test"]
    assert shared_patients(split)["train/val"] == 0


def split_or_none(
    chosen: pd.DataFrame, dataset: Dataset, how: str, seed: int
) -> pd.DataFrame | None:
    """The split, twice the same; None where there is a sentence on too few images instead."""
    reasons, splits = [], []
    for _ in range(2):
        try:
            splits.append(split_images(chosen, dataset, method=how, seed=seed)[0])
        except DataError as error:
            reasons.append(str(error))
    assert all("without an image" in text and text.endswith(".") for text in reasons)
    if len(reasons) == 2:
        return None
    pd.testing.assert_frame_equal(*splits)
    return splits[0]
