"""Pixels decoded once, and never served stale."""

import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.processes import wait_until
from PIL import Image

from cxr_keras.data import pixel_store
from cxr_keras.data.images import read_image
from cxr_keras.errors import CxrError, DataError


def write_images(folder, count, start=0):
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(start, start + count):
        path = folder / f"{i:03d}.png"
        pixels = np.random.default_rng(i).integers(0, 255, (300, 280), dtype="uint8")
        Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths


def test_the_store_holds_what_read_image_gives_and_is_decoded_once(tmp_path):
    paths = write_images(tmp_path, 5)
    store = pixel_store.open_store(paths)
    assert store.pixels.shape == (5, 256, 256)
    assert isinstance(store.pixels, np.memmap)
    for row, path in enumerate(paths):
        np.testing.assert_array_equal(store.pixels[row], read_image(path))
        assert store.index["digest"][row] == pixel_store.pixel_digest(read_image(path))
    written = (store.folder / "pixels.npy").stat().st_mtime_ns
    again = pixel_store.open_store(paths)
    assert again.folder == store.folder
    assert (again.folder / "pixels.npy").stat().st_mtime_ns == written


def test_a_changed_image_is_never_served_stale(tmp_path):
    paths = write_images(tmp_path, 3)
    before = pixel_store.open_store(paths)
    stat = paths[0].stat()
    old_size = stat.st_size
    Image.fromarray(np.full((300, 280), 9, "uint8")).save(paths[0])
    with paths[0].open("ab") as file:  # the same size and time as before, as if restored by `cp -p`
        file.write(bytes(old_size - paths[0].stat().st_size))
    os.utime(paths[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert paths[0].stat().st_size == old_size
    after = pixel_store.open_store(paths)
    assert after.folder != before.folder
    assert (after.pixels[0] == 9).all()


def test_bad_files_are_named_and_too_many_stop(tmp_path):
    paths = write_images(tmp_path, 40)
    paths[3].write_bytes(b"junk")
    store = pixel_store.open_store(paths)
    assert store.bad()["path"].tolist() == [str(paths[3])]
    for path in paths[10:13]:
        path.write_bytes(b"junk")
    with pytest.raises(DataError, match="More than 5% of the 40 images cannot be decoded"):
        pixel_store.open_store(paths)


def test_two_processes_share_one_store(tmp_path):
    paths = write_images(tmp_path, 60)
    code = (
        "import sys; from cxr_keras.data import pixel_store;"
        "s = pixel_store.open_store(sys.argv[1:]); print(s.folder, int(s.pixels.sum()))"
    )
    command = [sys.executable, "-c", code, *map(str, paths)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    answers = {process.communicate(timeout=60)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(answers) == 1
    total = sum(int(read_image(path).sum()) for path in paths)
    assert answers.pop().split()[1] == str(total)


def test_a_killed_preparation_leaves_nothing_under_the_stores_name(tmp_path):
    paths = write_images(tmp_path / "images", 4)
    for i in range(400):
        (tmp_path / "images" / f"x{i:03d}.png").hardlink_to(paths[0])
    many = sorted((tmp_path / "images").iterdir())
    own = tmp_path / "cache"
    code = "import sys; from cxr_keras.data import pixel_store;pixel_store.open_store(sys.argv[1:])"
    environment = os.environ | {"CXR_KERAS_CACHE": str(own)}
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, many)], env=environment)
    wait_until(lambda: list(own.glob("pixels/.*.tmp/pixels.npy")), process)
    process.kill()
    process.wait()
    assert not [p for p in (own / "pixels").iterdir() if p.is_dir() and p.suffix != ".tmp"]
    subprocess.run([sys.executable, "-c", code, *map(str, many)], env=environment, check=True)
    left = [path for path in (own / "pixels").iterdir() if path.is_dir()]
    assert len(left) == 1
    assert left[0].suffix == ""


def test_an_unwritable_cache_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CXR_KERAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(CxrError, match=r"Set \$CXR_KERAS_CACHE"):
        pixel_store.open_store(write_images(tmp_path / "images", 1))
