"""The shares of validation and test, and a split without a test split."""

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.label_tables import dataset_of, table_of, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_keras.cli import main
from cxr_keras.data.labels import LABELS
from cxr_keras.data.preparation import prepare
from cxr_keras.data.selection import choose_images
from cxr_keras.data.splits import (
    describe_sizes,
    shared_images,
    shared_patients,
    split_digest,
    split_images,
)
from cxr_keras.errors import CxrError, DataError

SHARES = st.integers(1, 99).map(lambda percent: percent / 100)
MIXED = ["Mass", "Edema|Mass", "Hernia", "No Finding", "Nodule"] * 40


def sizes_of(split):
    counts = split["split"].value_counts()
    return tuple(int(counts.get(name, 0)) for name in ("train", "val", "test"))


def rounded_up(percent, images):
    """⌈percent% of images⌉ in whole numbers."""
    return -(-percent * images // 100)


@pytest.mark.parametrize(
    ("method", "digest", "sizes"),
    [
        ("paper", "e6751c818ffc8238", "128 train / 32 val / 40 test"),
        ("patient", "923a329d611ee2c5", "126 train / 32 val / 42 test"),
        ("official", "7f063b00a9537e2c", "120 train / 30 val / 50 test"),
    ],
)
def test_the_default_shares_give_the_splits_of_before_there_were_any(method, digest, sizes):
    """Old runs are evaluated on the splits that they were trained on."""
    table = table_of(MIXED, [i // 3 for i in range(200)])
    names = table["Image Index"].tolist()
    dataset = dataset_of(table, train_val=names[:150], test=names[150:])
    split, _ = split_images(choose_images(table, seed=0), dataset, method=method, seed=5)
    assert (split_digest(split), describe_sizes(split)) == (digest, sizes)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 99), st.integers(0, 99), st.sampled_from(["paper", "patient"]))
def test_the_shares_are_those_asked_for(val, test, method):
    chosen = choose_images(table_of(MIXED), seed=1)  # each image of a patient of its own
    tested = rounded_up(test, 200)
    validated = rounded_up(val, 200 - tested)
    arguments = {"method": method, "seed": 3, "val_share": val / 100, "test_share": test / 100}
    if tested + validated == 200:
        with pytest.raises(DataError, match=r"leaves train without an image\. .*other shares"):
            split_images(chosen, dataset_of(chosen), **arguments)
        return
    split, _ = split_images(chosen, dataset_of(chosen), **arguments)
    assert sizes_of(split) == (200 - tested - validated, validated, tested)


@settings(max_examples=60, deadline=None)
@given(
    table=tables,
    copies=st.lists(st.tuples(st.integers(0, 79), st.integers(0, 79)), max_size=4),
    method=st.sampled_from(["paper", "patient"]),
    val=SHARES,
    seed=st.integers(0, 9),
)
def test_a_test_share_of_0_gives_no_image_to_test(table, copies, method, val, seed):
    """Also where patients have more images than the splits have room, and with copies."""
    chosen = choose_images(table, seed=seed)
    same = {a % len(chosen): b % len(chosen) for a, b in copies}
    same = {a: b for a, b in same.items() if b not in same}
    chosen["digest"] = [f"pixels {same.get(i, i)}" for i in range(len(chosen))]
    arguments = {"method": method, "seed": seed, "val_share": val, "test_share": 0}
    try:
        split, _ = split_images(chosen, dataset_of(table), **arguments)
    except DataError as error:
        if "without an image" not in str(error):
            raise
        return  # too few patients that share nothing to fill two splits
    assert set(split["split"]) == {"train", "val"}
    assert split["Image Index"].tolist() == chosen["Image Index"].tolist()
    assert shared_images(split) == 0
    if method == "patient":
        assert set(shared_patients(split).values()) == {0}
    assert describe_sizes(split).endswith(" val / no test")


def test_the_paper_split_stays_stratified_without_a_test_split():
    chosen = choose_images(table_of(["Mass"] * 50 + ["Edema"] * 100), seed=0)
    split, _ = split_images(
        chosen, dataset_of(chosen), method="paper", seed=0, val_share=0.1, test_share=0
    )
    validated = split.loc[split["split"] == "val", "Finding Labels"].value_counts().to_dict()
    assert validated == {"Mass": 5, "Edema": 10}


def test_the_official_split_takes_a_share_of_validation_and_none_of_test():
    table = table_of(["Mass"] * 100)
    names = table["Image Index"].tolist()
    dataset = dataset_of(table, train_val=names[:80], test=names[80:])
    chosen = choose_images(table, seed=0)
    split, _ = split_images(chosen, dataset, method="official", seed=0, val_share=0.1)
    assert sizes_of(split) == (72, 8, 20)
    for share in (0, 0.2):
        with pytest.raises(DataError, match=f"are NIH's list.*Received: {share}"):
            split_images(chosen, dataset, method="official", seed=0, test_share=share)


WRONG = [
    ({"val_share": 0}, r"validation must be above 0.*Received: 0\."),
    ({"val_share": 1.0}, r"and below 1\. Received: 1\."),
    ({"val_share": float("nan")}, "Received: nan"),
    ({"val_share": "much"}, r"val_share must be a number\. Received: 'much'"),
    ({"test_share": -0.1}, r"test must be 0, for no test split, or above.*Received: -0\.1\."),
    ({"test_share": 1}, r"below 1\. Received: 1\."),
    ({"test_share": float("nan")}, "Received: nan"),
    ({"test_share": 0, "split_method": "official"}, "--split-method patient"),
]


@pytest.mark.parametrize(("shares", "says"), WRONG)
def test_other_shares_are_refused_in_a_sentence(phantoms, tiny_model, tmp_path, shares, says):
    from cxr_keras import train

    with pytest.raises(CxrError, match=says):
        prepare(phantoms, allow_missing=True, out=tmp_path / "out", **shares)
    with pytest.raises(CxrError, match=says):
        train(tiny_model, phantoms, folder=tmp_path / "runs", **shares)
    assert not list(tmp_path.iterdir())


def test_numpys_numbers_are_shares_too(phantoms):
    as_numpy = {"val_share": np.float64(0.25), "test_share": np.float32(0)}
    found = prepare(phantoms, allow_missing=True, **as_numpy)
    assert sizes_of(found.manifest) == (30, 10, 0)


def test_each_pair_of_shares_has_a_manifest_of_its_own(phantoms):
    shares = [{}, {"val_share": 0.1}, {"test_share": 0}, {"val_share": 0.1, "test_share": 0}]
    found = [prepare(phantoms, allow_missing=True, **pair) for pair in shares]
    assert len({prepared.folder for prepared in found}) == 4
    assert len({prepared.fingerprint for prepared in found}) == 4
    said = prepare(phantoms, allow_missing=True, val_share=0.2, test_share=0.2)  # the defaults
    assert said.folder == found[0].folder


def test_prepare_says_that_there_is_no_test_split(phantoms, tmp_path):
    shares = ["--val-share", "0.25", "--test-share", "0"]
    command = ["prepare", str(phantoms), "--allow-missing", "--out", str(tmp_path), *shares]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.stderr
    assert "40 images: 30 train / 10 val / no test" in result.stdout
    for label in LABELS:
        row = next(line for line in result.stdout.splitlines() if line.startswith(label))
        train, val, test, everything = map(int, row.removeprefix(label).split())
        assert (test, train + val) == (0, everything)
    assert "No patient is in two splits." in result.stdout
