"""Pixels decoded once, and never served stale."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers.processes import wait_until
from PIL import Image

from cxr_keras.data import pixel_store
from cxr_keras.data.images import read_image
from cxr_keras.errors import CxrError, DataError
from cxr_keras.framing import Framing


def write_images(folder, count, start=0):
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(start, start + count):
        path = folder / f"{i:03d}.png"
        pixels = np.random.default_rng(i).integers(0, 255, (300, 280), dtype="uint8")
        Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths


def size_of(store):
    """Images that the store's file holds."""
    return (store.folder / "pixels.raw").stat().st_size // 256**2


def assert_holds(store, paths):
    assert store.index["path"].tolist() == [str(path) for path in paths]
    for row, path in zip(store.index["row"], paths, strict=True):
        np.testing.assert_array_equal(store.pixels[row], read_image(path))


def test_the_store_holds_what_read_image_gives_and_is_decoded_once(tmp_path):
    paths = write_images(tmp_path, 5)
    store = pixel_store.open_store(paths, tmp_path)
    assert store.pixels.shape == (5, 256, 256)
    assert isinstance(store.pixels, np.memmap)
    assert_holds(store, paths)
    for digest, path in zip(store.index["digest"], paths, strict=True):
        assert digest == pixel_store.pixel_digest(read_image(path))
    written = (store.folder / "pixels.raw").stat().st_mtime_ns
    again = pixel_store.open_store(paths, tmp_path)
    assert again.folder == store.folder
    assert (again.folder / "pixels.raw").stat().st_mtime_ns == written


def test_choices_of_images_share_a_store(tmp_path):
    paths = write_images(tmp_path, 8)
    first = pixel_store.open_store(paths[:5], tmp_path)
    seen = first.pixels[:].copy()
    second = pixel_store.open_store(paths[:2:-1], tmp_path)  # two that it has, three that it lacks
    assert second.folder == first.folder
    assert size_of(second) == 8
    assert_holds(second, paths[:2:-1])
    third = pixel_store.open_store(paths[1:3], tmp_path)
    assert size_of(third) == 8
    assert_holds(third, paths[1:3])
    np.testing.assert_array_equal(first.pixels, seen)  # what a training reads does not change


def test_images_of_two_data_folders_are_two_stores(tmp_path):
    a, b = write_images(tmp_path / "a", 2), write_images(tmp_path / "b", 3)
    stores = [pixel_store.open_store(paths, paths[0].parent) for paths in (a, b)]
    assert stores[0].folder != stores[1].folder
    assert [size_of(store) for store in stores] == [2, 3]


def test_a_changed_image_is_never_served_stale(tmp_path):
    paths = write_images(tmp_path, 3)
    before = pixel_store.open_store(paths, tmp_path)
    old = read_image(paths[0])
    stat = paths[0].stat()
    old_size = stat.st_size
    Image.fromarray(np.full((300, 280), 9, "uint8")).save(paths[0])
    with paths[0].open("ab") as file:  # the same size and time as before, as if restored by `cp -p`
        file.write(bytes(old_size - paths[0].stat().st_size))
    os.utime(paths[0], ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert paths[0].stat().st_size == old_size
    after = pixel_store.open_store(paths, tmp_path)
    assert (after.pixels[after.index["row"][0]] == 9).all()
    assert size_of(after) == 4  # only the changed one was decoded again
    np.testing.assert_array_equal(before.pixels[before.index["row"][0]], old)
    assert_holds(pixel_store.open_store(paths, tmp_path), paths)


def test_a_file_that_is_gone_is_bad_now_and_good_when_it_is_back(tmp_path):
    paths = write_images(tmp_path, 21)
    away = paths[4].rename(tmp_path / "away")
    assert pixel_store.open_store(paths, tmp_path).bad()["path"].tolist() == [str(paths[4])]
    away.rename(paths[4])
    assert_holds(pixel_store.open_store(paths, tmp_path), paths)


def test_a_failure_that_was_not_the_file_s_is_forgotten(tmp_path, monkeypatch):
    paths = write_images(tmp_path, 21)
    opened = Image.open

    def out_of_files(path, **options):
        if path == str(paths[4]):
            raise OSError(24, "Too many open files")
        return opened(path, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Image, "open", out_of_files)
        store = pixel_store.open_store(paths, tmp_path)
    assert store.bad()["path"].tolist() == [str(paths[4])]
    assert_holds(pixel_store.open_store(paths, tmp_path), paths)


def test_a_store_cut_short_is_made_again(tmp_path):
    paths = write_images(tmp_path, 3)
    store = pixel_store.open_store(paths, tmp_path)
    os.truncate(store.folder / "pixels.raw", 1000)
    assert_holds(pixel_store.open_store(paths, tmp_path), paths)


def test_bad_files_are_named_and_too_many_stop(tmp_path):
    paths = write_images(tmp_path, 40)
    paths[3].write_bytes(b"junk")
    store = pixel_store.open_store(paths, tmp_path)
    assert store.bad()["path"].tolist() == [str(paths[3])]
    for path in paths[10:13]:
        path.write_bytes(b"junk")
    with pytest.raises(DataError, match="More than 5% of the 40 images cannot be decoded"):
        pixel_store.open_store(paths, tmp_path)


OPEN = (
    "import sys; from cxr_keras.data import pixel_store;"
    "s = pixel_store.open_store(sys.argv[2:], sys.argv[1]);"
    "print(s.folder, *(s.pixels[row].sum() for row in s.index['row']))"
)


def test_two_processes_share_one_store(tmp_path):
    paths = write_images(tmp_path, 60)
    choices = [paths[:40], paths[20:]]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", OPEN, str(tmp_path), *map(str, choice)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for choice in choices
    ]
    answers = [process.communicate(timeout=60)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert answers[0][0] == answers[1][0]
    for choice, (_, *sums) in zip(choices, answers, strict=True):
        assert list(map(int, sums)) == [int(read_image(path).sum()) for path in choice]
    assert size_of(pixel_store.open_store(paths, tmp_path)) == 60


def test_a_process_that_needs_nothing_does_not_wait_for_one_that_decodes(tmp_path, capsys):
    from cxr_keras.utils.files import hold_lock

    paths = write_images(tmp_path, 3)
    store = pixel_store.open_store(paths, tmp_path)
    with hold_lock(store.folder, waiting=None):
        command = [sys.executable, "-c", OPEN, str(tmp_path), *map(str, paths[:2])]
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.split()[0] == str(store.folder)


@pytest.mark.slow
def test_a_killed_preparation_leaves_a_store_of_what_was_whole(tmp_path):
    images = tmp_path / "images"
    paths = write_images(images, 4)
    for i in range(400):
        (images / f"x{i:03d}.png").hardlink_to(paths[0])
    own = tmp_path / "cache"
    environment = os.environ | {"CXR_KERAS_CACHE": str(own)}

    def command(count):
        some = sorted(images.iterdir())[:count]
        return [sys.executable, "-c", OPEN, str(images), *map(str, some)]

    subprocess.run(command(4), env=environment, check=True)
    pixels = next(own.glob("pixels/*/pixels.raw"))
    process = subprocess.Popen(command(404), env=environment)
    wait_until(lambda: pixels.stat().st_size >= 20 * 256**2, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    for count in (4, 404):
        result = subprocess.run(
            command(count), env=environment, check=True, capture_output=True, text=True
        )
        expected = [int(read_image(path).sum()) for path in sorted(images.iterdir())[:count]]
        assert list(map(int, result.stdout.split()[1:])) == expected
    assert pixels.stat().st_size == 404 * 256**2
    assert len([path for path in (own / "pixels").iterdir() if path.is_dir()]) == 1


def test_an_unwritable_cache_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CXR_KERAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(CxrError, match=r"Set \$CXR_KERAS_CACHE"):
        pixel_store.open_store(write_images(tmp_path / "images", 1), tmp_path)


def test_each_size_and_fit_has_a_store_of_its_own(tmp_path):
    paths = write_images(tmp_path, 4)
    framings = [Framing(), Framing(64), Framing(64, "whole"), Framing(256, "whole")]
    stores = [pixel_store.open_store(paths, tmp_path, framing) for framing in framings]
    assert len({store.folder for store in stores}) == len(framings)
    for framing, store in zip(framings, stores, strict=True):
        assert store.pixels.shape == (4, framing.stored, framing.stored)
        assert pixel_store.framing_of(store.folder) == framing
        again = pixel_store.open_store(paths[:2], tmp_path, framing)
        for row, path in zip(again.index["row"], paths[:2], strict=True):
            np.testing.assert_array_equal(again.pixels[row], read_image(path, framing))
    assert len(set(stores[1].index["digest"]) & set(stores[2].index["digest"])) == 0
