"""Radiographs that are rows of an array in an archive."""

from __future__ import annotations

import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.refusals import refusal
from PIL import Image

from cxr_keras.data import array_images
from cxr_keras.data.array_images import (
    Row,
    arrays_in,
    file_of,
    read_array,
    row_of,
    row_path,
    shape_of,
)
from cxr_keras.data.cache import clear_cache, list_cache
from cxr_keras.data.images import read_image
from cxr_keras.data.pixel_store import open_store
from cxr_keras.errors import DataError, ImageError
from cxr_keras.framing import Framing

FILMS = np.random.default_rng(0).integers(0, 256, (5, 40, 30), "uint8")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CXR_KERAS_CACHE", str(folder))
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "films.npz"
    np.savez_compressed(path, train_images=FILMS, labels=np.eye(5, dtype="uint8"))
    return path


def test_a_path_says_archive_array_and_row():
    assert row_path(Path("a/b.npz"), "train_images", 12) == "a/b.npz#train_images/12"
    assert row_of("a/b.npz#train_images/12") == Row("a/b.npz", "train_images", 12)
    assert file_of("a/b.npz#train_images/12") == "a/b.npz"


@pytest.mark.parametrize(
    "path", ["a/b.png", "a/#1/b.png", "b.npz", "b.npz#x", "b.npz#x/y", "b.npz/x/1", "#x/1"]
)
def test_other_paths_are_files(path):
    assert row_of(path) is None
    assert file_of(path) == path


@pytest.mark.parametrize("framing", [Framing(), Framing(64), Framing(64, "whole")])
def test_a_row_is_scaled_as_the_same_image_in_a_file(archive, tmp_path, framing):
    file = tmp_path / "2.png"
    Image.fromarray(FILMS[2]).save(file)
    read = read_image(row_path(archive, "train_images", 2), framing)
    assert (read == read_image(file, framing)).all()
    assert read.dtype == np.uint8


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_with_channels(tmp_path, channels):
    films = np.random.default_rng(1).integers(0, 256, (2, 30, 30, channels), "uint8")
    np.savez(tmp_path / "films.npz", x=films)
    Image.fromarray(films[1].squeeze()).save(tmp_path / "1.png")
    read = read_image(row_path(tmp_path / "films.npz", "x", 1))
    assert (read == read_image(tmp_path / "1.png")).all()


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that are made anew."""
    folders: list[Path] = []
    build = array_images.build_once
    monkeypatch.setattr(
        array_images,
        "build_once",
        lambda folder, *a, **b: folders.append(folder) or build(folder, *a, **b),
    )
    return folders


def test_an_array_is_unpacked_once(archive, own_cache, unpacked):
    for row in range(5):
        read_image(row_path(archive, "train_images", row))
    (folder,) = unpacked
    assert folder.parent == own_cache / "arrays"
    assert folder.name.startswith("films-train_images-")
    assert [path.name for path in folder.iterdir()] == ["pixels.npy"]
    assert (np.load(folder / "pixels.npy") == FILMS).all()


def test_many_threads_unpack_once(archive, unpacked):
    films = {}

    def read(row):
        films[row] = read_image(row_path(archive, "train_images", row))

    threads = [threading.Thread(target=read, args=(row,)) for row in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(films) == list(range(5))
    assert len(unpacked) == 1


def test_a_changed_archive_is_unpacked_anew(archive):
    path = row_path(archive, "train_images", 0)
    before = read_image(path)
    np.savez_compressed(archive, train_images=255 - FILMS)
    os.utime(archive, ns=(1, 1))
    assert not (read_image(path) == before).all()


def test_the_pixel_store_holds_rows_and_knows_a_changed_archive(archive, tmp_path):
    paths = [row_path(archive, "train_images", row) for row in (3, 1)]
    store = open_store(paths, archive)
    assert store.index["path"].tolist() == paths
    assert (store.pixels[store.index["row"][0]] == read_image(paths[0])).all()
    again = open_store(paths, archive)
    assert len(again.pixels) == 2
    np.savez_compressed(archive, train_images=FILMS[::-1])
    changed = open_store(paths, archive)
    assert (changed.pixels[changed.index["row"][1]] == read_image(paths[1])).all()
    assert changed.index["digest"][0] == store.index["digest"][1]  # 3 of 5 from the end is 1


def test_the_cache_lists_and_clears_what_was_unpacked(archive):
    path = row_path(archive, "train_images", 0)
    before = read_image(path)
    (entry,) = list_cache()
    assert (entry.what, entry.size) == ("unpacked images", FILMS.nbytes + 128)
    assert [gone.folder for gone in clear_cache()] == [entry.folder]
    assert (read_image(path) == before).all()


def test_shapes_and_small_arrays(archive):
    assert shape_of(archive, "train_images") == (5, 40, 30)
    assert arrays_in(archive) == ["train_images", "labels"]
    assert (read_array(archive, "labels") == np.eye(5)).all()


def test_no_such_row_array_or_archive(archive, tmp_path):
    text = refusal(read_image, row_path(archive, "train_images", 5))
    assert text == f"{archive}#train_images/5: there is no such row; the array has 5."
    text = refusal(read_image, row_path(archive, "val_images", 0))
    assert text == f"{archive} has no array 'val_images'. It has: labels, train_images."
    gone = tmp_path / "gone.npz"
    assert refusal(read_image, row_path(gone, "x", 0)) == f"{gone}: no such file."
    assert refusal(shape_of, gone, "x") == f"There is no file {gone}. Name one that exists."
    (tmp_path / "folder.npz").mkdir()
    text = refusal(shape_of, tmp_path / "folder.npz", "x")
    assert text.endswith("folder.npz cannot be read (Is a directory). Name a file.")


@pytest.mark.parametrize("array", [np.zeros((2, 5)), np.zeros((2, 5, 5)), np.zeros((2, 5, 5, 2))])
def test_rows_that_are_no_images(tmp_path, array):
    np.savez(tmp_path / "films.npz", x=array)
    with pytest.raises(ImageError, match=r"no image. A row holds 8-bit values .* Received: float"):
        read_image(row_path(tmp_path / "films.npz", "x", 1))


def test_an_array_of_objects_is_refused(tmp_path):
    path = tmp_path / "films.npz"
    np.savez(path, x=np.array([{}, []], dtype=object))
    with pytest.raises(DataError, match="cannot be read as a NumPy archive"):
        read_image(row_path(path, "x", 0))


@pytest.mark.parametrize("how", ["cut", "no archive", "wrong sum"])
def test_a_damaged_archive_stops_the_store_at_once(archive, own_cache, how):
    content = archive.read_bytes()
    if how == "cut":
        archive.write_bytes(content[: len(content) // 2])
    elif how == "no archive":
        archive.write_bytes(b"<html>")
    else:
        with zipfile.ZipFile(archive) as file:
            start = file.getinfo("train_images.npy").header_offset + 2000
        archive.write_bytes(content[:start] + b"????" + content[start + 4 :])
    text = refusal(open_store, [row_path(archive, "train_images", 0)], archive)
    assert text.startswith(f"{archive} cannot be read as a NumPy archive (")
    assert text.endswith("). Delete it and fetch it again.")
    assert not list((own_cache / "arrays").glob("*/"))


def test_no_room_to_unpack(archive, own_cache, monkeypatch):
    def full(*parts, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(array_images, "build_once", full)
    text = refusal(read_image, row_path(archive, "train_images", 0))
    assert "cannot be written (No space left on device). Make room on that disk" in text
    assert str(own_cache) in text
