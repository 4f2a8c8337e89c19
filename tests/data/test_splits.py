"""How images are split."""

import math

import pandas as pd
import pytest
from helpers.label_tables import dataset_of, table_of, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_keras.data.labels import LABELS
from cxr_keras.data.readers.nih import read_dataset
from cxr_keras.data.selection import choose_images
from cxr_keras.data.splits import label_counts, shared_patients, split_images
from cxr_keras.errors import DataError


@pytest.fixture(scope="module")
def full(sample):
    return read_dataset(sample, allow_missing=True)


def test_nihs_table_gives_the_reports_sample_and_split(full):
    chosen = choose_images(full.table, seed=42)
    assert len(chosen) == 4427
    assert chosen["chosen_for"].value_counts().to_dict() == {
        label: 227 if label == "Hernia" else 300 for label in LABELS
    }
    split, _ = split_images(chosen, full, method="paper", seed=42)
    assert split["split"].value_counts().to_dict() == {"train": 2832, "val": 709, "test": 886}
    assert shared_patients(split)["train/test"] > 0
    apart, _ = split_images(chosen, full, method="patient", seed=42)
    assert apart["split"].value_counts().to_dict() == {"train": 2832, "val": 709, "test": 886}
    assert set(shared_patients(apart).values()) == {0}


def test_the_official_split_is_nihs(full):
    chosen = choose_images(full.table, seed=1)
    split, notices = split_images(chosen, full, method="official", seed=1)
    test = set(split.loc[split["split"] == "test", "Image Index"])
    assert test == set(chosen["Image Index"]) & full.lists["test"]
    assert set(shared_patients(split).values()) == {0}
    assert not notices


@settings(max_examples=40, deadline=None)
@given(tables, st.sampled_from(["paper", "patient"]), st.integers(0, 9))
def test_split_promises(table, method, seed):
    chosen = choose_images(table, seed=seed)
    try:
        split, _ = split_images(chosen, dataset_of(table), method=method, seed=seed)
    except DataError as error:
        if method == "paper" or "without an image" not in str(error):
            raise
        return  # too few patients to fill three splits
    assert sorted(split["Image Index"]) == sorted(chosen["Image Index"])
    again, _ = split_images(chosen, dataset_of(table), method=method, seed=seed)
    pd.testing.assert_frame_equal(split, again)
    if method == "patient":
        assert set(shared_patients(split).values()) == {0}
    else:
        sizes = split["split"].value_counts()
        test = math.ceil(0.2 * len(chosen))
        assert sizes["test"] == test
        assert sizes["val"] == math.ceil(0.2 * (len(chosen) - test))


def test_the_paper_split_is_stratified():
    chosen = choose_images(table_of(["Mass"] * 50 + ["Edema"] * 100), seed=0)
    split, _ = split_images(chosen, dataset_of(chosen), method="paper", seed=0)
    counts = label_counts(split).set_index("label")
    assert counts.loc["Mass", ["train", "val", "test", "all"]].tolist() == [32, 8, 10, 50]
    assert counts.loc["Edema", ["train", "val", "test", "all"]].tolist() == [64, 16, 20, 100]


def test_official_split_leaves_out_and_counts_what_is_on_no_list():
    table = table_of(["Mass"] * 20)
    names = table["Image Index"].tolist()
    dataset = dataset_of(table, train_val=names[:14], test=names[14:18])
    chosen = choose_images(table, seed=0)
    split, notices = split_images(chosen, dataset, method="official", seed=0)
    assert len(split) == 18
    assert notices == ["2 images are on neither official list: left out."]


def test_every_image_is_chosen_where_nothing_limits():
    table = table_of(["Mass|Nodule"] * 400 + ["Nodule"] * 350 + ["Hernia"])
    chosen = choose_images(table, per_class=None, seed=0)
    assert chosen["Image Index"].tolist() == sorted(table["Image Index"])
    assert chosen["chosen_for"].value_counts().to_dict() == {
        "Mass": 400,
        "Nodule": 350,
        "Hernia": 1,
    }


def test_the_official_split_takes_every_image_unless_a_number_limits_it(make_folder):
    from cxr_keras.data.preparation import prepare

    rows = [(f"{i:04d}.png", "Mass", i) for i in range(700)]
    lists = {
        "train_val_list": "\n".join(name for name, _, _ in rows[:400]),
        "test_list": "\n".join(name for name, _, _ in rows[400:]),
    }
    folder = make_folder(rows, images=[], **lists)
    whole = prepare(folder, split_method="official", allow_missing=True)
    assert (len(whole.manifest), whole.not_chosen) == (700, 0)
    assert (whole.manifest["split"] == "test").sum() == 300
    limited = prepare(folder, split_method="official", per_class=50, allow_missing=True)
    assert (len(limited.manifest), limited.not_chosen) == (50, 650)
    by_patient = prepare(folder, allow_missing=True)
    assert (len(by_patient.manifest), by_patient.not_chosen) == (300, 400)


def test_errors_say_what_to_do():
    table = table_of(["Mass"] * 20)
    chosen = choose_images(table, seed=0)
    with pytest.raises(DataError, match="--split-method patient"):
        split_images(chosen, dataset_of(table), method="official", seed=0)
    with pytest.raises(DataError, match="Choose one of: patient, paper, official"):
        split_images(chosen, dataset_of(table), method="random", seed=0)
    with pytest.raises(DataError, match="1 or more"):
        choose_images(table, per_class=0, seed=0)
    with pytest.raises(DataError, match="without an image"):
        split_images(chosen.head(1), dataset_of(table), method="paper", seed=0)
