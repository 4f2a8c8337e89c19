"""ChestMNIST's archives as a data set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from helpers.chestmnist import COUNTS, write_chestmnist
from helpers.refusals import refusal
from PIL import Image

from cxr_keras.data.dataset import truth_of
from cxr_keras.data.images import read_image
from cxr_keras.data.labels import FINDINGS
from cxr_keras.data.options import CHESTMNIST_SIZES
from cxr_keras.data.pixel_store import open_store
from cxr_keras.data.readers.chestmnist import (
    NAMES,
    chestmnist,
    file_name,
    place_of,
    size_of_archive,
)
from cxr_keras.data.readers.layout import ReadOptions, assemble
from cxr_keras.data.readers.registry import readers


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "chestmnist_64.npz"
    write_chestmnist(path, side=64)
    return path


def test_the_labels_are_nihs_findings_in_medmnists_order():
    assert sorted(NAMES) == sorted(FINDINGS)
    assert NAMES[2] == "Effusion"
    assert NAMES[-2:] == ("Pleural_Thickening", "Hernia")
    assert list(map(file_name, CHESTMNIST_SIZES)) == [
        "chestmnist.npz",
        "chestmnist_64.npz",
        "chestmnist_128.npz",
        "chestmnist_224.npz",
    ]


@pytest.mark.parametrize("as_folder", [True, False])
def test_the_folder_or_the_file_is_a_data_set(tmp_path, as_folder):
    arrays = write_chestmnist(tmp_path / "chestmnist_64.npz", side=64)
    root = tmp_path if as_folder else tmp_path / "chestmnist_64.npz"
    found = chestmnist(root)
    assert found.labels.names == NAMES
    assert found.labels.normal is None
    assert found.shares_patients_with == ("nih", "rsna")
    assert {name: len(images) for name, images in found.lists.items()} == COUNTS
    dataset = assemble(root, found, ReadOptions())
    assert dataset.shares_patients_with == ("nih", "rsna")
    rows = dataset.table.set_index("Image Index")
    assert rows.index.is_monotonic_increasing
    for split, count in COUNTS.items():
        names = [f"{split}_{row:06d}" for row in range(count)]
        assert dataset.lists[split] == frozenset(names)
        assert [place_of(name) for name in names] == [(split, row) for row in range(count)]
        assert (truth_of(rows.loc[names], NAMES) == arrays[f"{split}_labels"]).all()
        for name, pixels in zip(names, arrays[f"{split}_images"], strict=True):
            Image.fromarray(pixels).save(tmp_path / "film.png")
            assert (read_image(rows.loc[name, "path"]) == read_image(tmp_path / "film.png")).all()
    assert rows["Patient ID"].is_unique
    said = " ".join(dataset.notices)
    assert "its own split is by patient: --split-method official keeps them apart" in said
    assert "Its films are NIH's, so do not test on one what was trained on the other." in said
    assert "22 images have no patient: each counts as a patient of its own." in said


def test_its_paths_hold_wherever_the_program_runs(archive, monkeypatch):
    monkeypatch.chdir(archive.parent)
    dataset = assemble(Path(archive.name), chestmnist(Path(archive.name)), ReadOptions())
    paths = dataset.table["path"]
    assert paths.iloc[0] == f"{archive}#test_images/0"
    os.chdir("/")
    store = open_store(list(paths), archive)
    assert len(store.pixels) == len(paths) == 22


def test_it_is_recognised_by_the_names_of_its_files(archive, tmp_path):
    recognise = readers()["chestmnist"].recognise
    assert recognise(tmp_path)
    assert recognise(archive)
    (tmp_path / "other").mkdir()
    assert not recognise(tmp_path / "other")
    assert not recognise(archive.rename(tmp_path / "dermamnist.npz"))
    assert readers()["chestmnist"].title.startswith("ChestMNIST: chestmnist.npz")


def test_a_file_named_by_hand_may_have_any_name(archive, tmp_path):
    found = chestmnist(archive.rename(tmp_path / "mine.npz"))
    assert len(found.images) == 22
    assert size_of_archive(tmp_path / "mine.npz") == 64


def test_two_sizes_in_one_folder(archive, tmp_path):
    write_chestmnist(tmp_path / "chestmnist.npz")
    assert refusal(chestmnist, tmp_path) == (
        f"{tmp_path} holds the same films in several sizes: chestmnist.npz and chestmnist_64.npz. "
        f"Name the file that you want, such as {archive}."
    )
    assert len(chestmnist(archive).images) == 22


def test_no_archive(tmp_path):
    assert refusal(chestmnist, tmp_path) == (
        f"{tmp_path} is or holds no archive of ChestMNIST (chestmnist.npz, chestmnist_64.npz, "
        "chestmnist_128.npz, chestmnist_224.npz). Fetch one with `cxr-keras download DEST --set "
        "chestmnist`."
    )
    (tmp_path / "x.png").touch()
    assert "is or holds no archive" in refusal(chestmnist, tmp_path / "x.png")


@pytest.mark.parametrize(
    ("replaced", "says"),
    [
        ({"val_labels": None}, "is not ChestMNIST's: it lacks val_labels. Fetch it with"),
        (
            {"val_labels": np.zeros((4, 7), "uint8")},
            "val_labels should be 0 or 1 in the shape (n, 14). Received: uint8 (4, 7), up to 0.",
        ),
        ({"test_labels": np.full((6, 14), 3)}, "Received: int64 (6, 14), up to 3."),
        (
            {"test_images": np.zeros((5, 28, 28), "uint8")},
            "test_images should have the shape (6, side, side), as many as test_labels. "
            "Received: (5, 28, 28).",
        ),
        ({"train_images": np.zeros((12, 28, 28, 3), "uint8")}, "Received: (12, 28, 28, 3)."),
    ],
)
def test_an_archive_of_something_else(tmp_path, replaced, says):
    write_chestmnist(tmp_path / "chestmnist.npz", **replaced)
    assert says in refusal(chestmnist, tmp_path)


def test_a_damaged_archive(tmp_path):
    (tmp_path / "chestmnist.npz").write_bytes(b"<html>")
    text = refusal(chestmnist, tmp_path)
    assert "chestmnist.npz cannot be read as a NumPy archive (File is not a zip file)" in text


@pytest.mark.parametrize("image", ["00000001_000.png", "test_", "test_x", "all_000001"])
def test_an_image_of_another_data_set(image):
    assert refusal(place_of, image) == (
        f"{image!r} is no image of ChestMNIST, such as test_000123."
    )
