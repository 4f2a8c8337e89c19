"""How images are split."""

import math

import pandas as pd
import pytest
from helpers.label_tables import dataset_of, table_of, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_keras.data import splits
from cxr_keras.data.labels import LABELS
from cxr_keras.data.readers.nih import read_dataset
from cxr_keras.data.selection import choose_images
from cxr_keras.data.splits import (
    label_counts,
    shared_images,
    shared_patients,
    split_digest,
    split_images,
)
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


def with_copies(table, copies):
    """`table` with digests: image i has the pixels of image copies[i], else its own."""
    return table.assign(digest=[f"pixels {copies.get(i, i)}" for i in range(len(table))])


def splits_of(split):
    return split.set_index("Image Index")["split"].to_dict()


@pytest.mark.parametrize("method", ["paper", "patient", "official"])
@settings(max_examples=15, deadline=None)
@given(
    table=tables,
    pairs=st.lists(st.tuples(st.integers(0, 79), st.integers(0, 79)), max_size=4),
    seed=st.integers(0, 9),
)
def test_copies_are_never_in_two_splits(method, table, pairs, seed):
    chosen = choose_images(table, seed=seed)
    names = chosen["Image Index"].tolist()
    patients = chosen["Patient ID"].astype(int)
    in_test = set(chosen.loc[patients % 3 == 0, "Image Index"])
    dataset = dataset_of(table, test=in_test, train_val=set(names) - in_test)
    copies = {a % len(names): b % len(names) for a, b in pairs}
    copied = with_copies(chosen, {a: b for a, b in copies.items() if b not in copies})
    try:
        split, notices = split_images(copied, dataset, method=method, seed=seed)
    except DataError as error:
        if "without an image" not in str(error):
            raise
        return  # too few patients that share nothing to fill three splits
    assert shared_images(split) == 0
    count = len(copied) - copied["digest"].nunique()
    assert any(f"{count} images are copies" in n for n in notices) == bool(count)
    if method == "patient":
        assert set(shared_patients(split).values()) == {0}
    if method != "official":
        assert sorted(split["Image Index"]) == sorted(names)
    else:
        tested = set(split.loc[split["split"] == "test", "Image Index"])
        assert tested == in_test  # NIH's test list stays whole
        gone = copied[~copied["Image Index"].isin(split["Image Index"])]
        test_pixels = set(copied.loc[copied["Image Index"].isin(in_test), "digest"])
        assert set(gone["digest"]) <= test_pixels
        assert not set(split.loc[split["split"] != "test", "digest"]) & test_pixels


@pytest.mark.parametrize("method", ["paper", "patient", "official"])
def test_without_copies_the_split_is_what_it_was(method):
    table = table_of(["Mass", "Edema"] * 30, [i // 2 for i in range(60)])
    names = table["Image Index"].tolist()
    dataset = dataset_of(table, train_val=names[:44], test=names[44:])
    chosen = choose_images(table, seed=0)
    plain, _ = split_images(chosen, dataset, method=method, seed=5)
    digests, notices = split_images(with_copies(chosen, {}), dataset, method=method, seed=5)
    assert splits_of(plain) == splits_of(digests)
    assert not notices


def test_with_the_paper_split_only_copies_move():
    chosen = choose_images(table_of(["Mass"] * 60), seed=0)
    before, _ = split_images(chosen, dataset_of(chosen), method="paper", seed=5)
    names = before["Image Index"].tolist()
    place = {
        s: names.index(before.loc[before["split"] == s, "Image Index"].iloc[-1])
        for s in ("train", "val", "test")
    }
    copied = with_copies(chosen, dict.fromkeys(sorted(place.values())[1:], min(place.values())))
    after, notices = split_images(copied, dataset_of(chosen), method="paper", seed=5)
    moved = {n for n, s in splits_of(after).items() if splits_of(before)[n] != s}
    assert moved == {names[i] for i in sorted(place.values())[1:]}
    assert "2 images are copies of others under other names: 2 of them moved" in notices[0]


def test_with_lists_of_all_three_splits_copies_stay_in_the_later_one():
    table = table_of(["Mass", "Edema"] * 15, range(30))
    names = choose_images(table, seed=0)["Image Index"].tolist()
    lists = {"train": names[:18], "val": names[18:24], "test": names[24:]}
    dataset = dataset_of(table, **lists)
    copied = with_copies(choose_images(table, seed=0), {18: 0, 24: 1, 25: 19})
    split, notices = split_images(copied, dataset, method="official", seed=0)
    gone = set(names) - set(split["Image Index"])
    assert gone == {names[0], names[1], names[19]}
    assert (
        "3 images are copies of others under other names: 3 of them, in train or val" in notices[0]
    )
    assert shared_images(split) == 0


def test_patients_who_share_an_image_are_in_one_split():
    """A copy under another patient's name drags along that patient's other images."""
    table = table_of(["Mass"] * 60, [i // 3 for i in range(60)])
    for seed in range(5):
        copied = with_copies(choose_images(table, seed=0), {3: 0, 59: 4})  # patients 0-1, 1-19
        split, notices = split_images(copied, dataset_of(table), method="patient", seed=seed)
        linked = split[split["Patient ID"].isin(["0", "1", "19"])]
        assert len(linked) == 9
        assert linked["split"].nunique() == 1
        assert "2 images are copies of others" in notices[0]


def test_what_a_share_leaves_over_goes_to_the_largest_remainder():
    # 5 of 21 images: 13 × 5 / 21 is 3.1 and 8 × 5 / 21 is 1.9
    chosen = choose_images(table_of(["Edema"] * 13 + ["Mass"] * 8), seed=0)
    split, _ = split_images(chosen, dataset_of(chosen), method="paper", seed=0)
    tested = split.loc[split["split"] == "test", "Finding Labels"].value_counts()
    assert tested.to_dict() == {"Edema": 3, "Mass": 2}


def test_of_equal_remainders_the_first_labels_get_what_is_over():
    # 38 of 150 images: of a label with two images 0.51, of one with a single image 0.25
    pairs, singles = ([f"label {i:03d}" for i in range(k, 100, 2)] for k in (0, 1))
    table = table_of(pairs + pairs + singles).assign(chosen_for=pairs + pairs + singles)
    arguments = {"method": "paper", "seed": 0, "test_share": 0.25}
    split, _ = split_images(table, dataset_of(table), **arguments)
    tested = split.loc[split["split"] == "test", "chosen_for"]
    assert sorted(tested) == pairs[:38]


def test_a_share_is_not_rounded_up_for_what_floating_point_adds():
    chosen = choose_images(table_of(["Mass"] * 100), seed=0)
    assert 0.07 * 100 > 7
    for method in ("paper", "patient"):
        arguments = {"method": method, "seed": 0, "test_share": 0.07}
        split, _ = split_images(chosen, dataset_of(chosen), **arguments)
        assert (split["split"] == "test").sum() == 7


def test_the_digest_of_a_split_is_that_of_what_lies_where():
    chosen = choose_images(table_of(["Mass"] * 30), seed=0)
    one, other = (
        split_images(chosen, dataset_of(chosen), method="patient", seed=seed)[0] for seed in (0, 1)
    )
    assert split_digest(one.sample(frac=1, random_state=0)) == split_digest(one)
    assert split_digest(other) != split_digest(one)


@pytest.mark.parametrize("given", [("train_val",), ("test",), ("train", "val"), ("val",)])
def test_half_an_official_split_is_none(given):
    table = table_of(["Mass"] * 20)
    dataset = dataset_of(table, **dict.fromkeys(given, table["Image Index"][:10]))
    with pytest.raises(DataError, match=r"nowhere has no official split.*--split-method patient"):
        split_images(choose_images(table, seed=0), dataset, method="official", seed=0)


def test_lists_of_the_data_sets_own_are_followed():
    """Its validation list, too, whatever share of validation is asked for."""
    table = table_of(["Mass"] * 20, [0] * 20)  # and whoever the patients are
    names = table["Image Index"].tolist()
    dataset = dataset_of(table, train=names[1:9], val=names[9:12], test=names[12:19])
    chosen = choose_images(table, seed=0)
    split, notices = split_images(chosen, dataset, method="official", seed=0, val_share=0.5)
    listed = ["train"] * 8 + ["val"] * 3 + ["test"] * 7
    assert splits_of(split) == dict(zip(names[1:19], listed, strict=True))
    assert split.index.tolist() == list(range(18))
    assert notices == ["2 images are on neither official list: left out."]


def test_an_official_split_without_a_test_image_is_refused():
    table = table_of(["Mass"] * 20)
    dataset = dataset_of(table, train_val=table["Image Index"], test=["elsewhere.png"])
    with pytest.raises(DataError, match="leaves test without an image"):
        split_images(choose_images(table, seed=0), dataset, method="official", seed=0)


DEALT = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
NONE_ASKED_FOR = {"test_share": 0}


@pytest.fixture
def split_dealt_as(monkeypatch):
    """Splits ten images, of which the official lists have the last two as test, as it is told."""
    chosen = choose_images(table_of(["Mass"] * 10, list("abcdefghij")), seed=0)
    names = chosen["Image Index"]
    dataset = dataset_of(chosen, train_val=names[:8], test=names[8:])

    def split(method, change, **shares):
        dealt = change(chosen.assign(split=DEALT))
        monkeypatch.setitem(splits.SPLITTERS, method, lambda *_: (dealt, []))
        return split_images(chosen, dataset, method=method, seed=0, **shares)[0]

    return split


@pytest.mark.parametrize(
    ("method", "change", "shares", "says"),
    [
        ("patient", lambda d: pd.concat([d, d[:1]]), {}, "an image is in two splits"),
        (
            "patient",
            lambda d: d.assign(digest=[*"abcdefghi", "a"]),
            {},
            "an image is in two splits under two names",
        ),
        (
            "patient",
            lambda d: d.assign(**{"Patient ID": [*"abcdefghi", "a"]}),
            {},
            "a patient is in two splits",
        ),
        (
            "official",
            lambda d: d.assign(**{"Patient ID": [*"abcdef", "a", *"hij"]}),
            {},
            "a patient is in train and val",
        ),
        (
            "official",
            lambda d: d.assign(split=["test", *DEALT[1:]]),
            {},
            "an image is not where the data set's lists put it",
        ),
        (
            "paper",
            lambda d: d.assign(split=["test", *DEALT[1:]]),
            {},
            "the test split has another size than 20%",
        ),
        (
            "paper",
            lambda d: d.assign(split=[*DEALT[:9], "train"]),
            {},
            "the test split has another size than 20%",
        ),
        ("patient", lambda d: d, NONE_ASKED_FOR, "there is a test split, and none was asked for"),
    ],
)
def test_a_split_that_breaks_its_promise_is_stopped(split_dealt_as, method, change, shares, says):
    """As it would be if the code that deals the images were wrong."""
    with pytest.raises(DataError) as caught:
        split_dealt_as(method, change, **shares)
    assert str(caught.value) == (
        f"The {method} split is wrong: {says}. This is a bug; please report it with the data "
        "folder's label table."
    )
