import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from cxr_keras.data import pixel_store
from cxr_keras.data.images import read_image
from cxr_keras.data.loader import RadiographLoader
from cxr_keras.data.preparation import prepare, resolve_data
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
    deadline = time.monotonic() + 30
    while not list(own.glob("pixels/.*.tmp/pixels.npy")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not [p for p in (own / "pixels").iterdir() if p.is_dir() and p.suffix != ".tmp"]
    subprocess.run([sys.executable, "-c", code, *map(str, many)], env=environment, check=True)
    left = [path for path in (own / "pixels").iterdir() if path.is_dir()]
    assert len(left) == 1
    assert left[0].suffix == ""


def test_prepare_leaves_bad_images_out_of_the_manifest(make_folder, capsys):
    rows = [(f"{i:02d}.png", "Mass" if i % 2 else "Edema", i) for i in range(40)]
    folder = make_folder(rows)
    (folder / "images" / "07.png").write_bytes(b"junk")
    prepared = prepare(folder)
    assert len(prepared.manifest) == 39
    assert "07.png" not in set(prepared.manifest["Image Index"])
    said = capsys.readouterr().err
    assert "07.png: not a PNG or JPEG" in said
    assert "1 of 40 images cannot be decoded and are left out." in said
    for _, row in prepared.manifest.iterrows():
        np.testing.assert_array_equal(prepared.store.pixels[row["row"]], read_image(row["path"]))


def test_the_fingerprint_follows_contents_not_places(make_folder, tmp_path):
    rows = [(f"{i:02d}.png", "Mass", i) for i in range(12)]
    folder = make_folder(rows)
    first = prepare(folder).fingerprint
    folder.rename(tmp_path / "moved")
    assert prepare(tmp_path / "moved").fingerprint == first
    Image.new("L", (256, 256), 5).save(tmp_path / "moved" / "images" / "03.png")
    assert prepare(tmp_path / "moved").fingerprint != first


def test_the_loader_shuffles_samples_from_its_own_generator(make_folder):
    rows = [(f"{i:02d}.png", "Mass" if i % 3 else "Edema", i) for i in range(30)]
    split = prepare(make_folder(rows)).split("train")

    def epoch(loader):
        batches = [loader[i] for i in range(len(loader))]
        return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])

    plain = RadiographLoader(split, 4)
    x, y = epoch(plain)
    assert x.dtype == np.uint8
    assert x.shape == (len(split), 256, 256, 1)
    np.testing.assert_array_equal(y, split.truth)
    plain.on_epoch_end()
    np.testing.assert_array_equal(epoch(plain)[0], x)

    a, b = RadiographLoader(split, 4, seed=1), RadiographLoader(split, 4, seed=1)
    np.random.seed(0)
    first = epoch(a)
    np.testing.assert_array_equal(first[0], epoch(b)[0])
    assert not np.array_equal(first[0], x)
    assert sorted(first[0].sum(axis=(1, 2, 3))) == sorted(x.sum(axis=(1, 2, 3)))
    sums = {int(image.sum()): truth.tolist() for image, truth in zip(x, y, strict=True)}
    for image, truth in zip(*first, strict=True):
        assert sums[int(image.sum())] == truth.tolist()
    a.on_epoch_end()
    second = epoch(a)[0]
    assert not np.array_equal(second, first[0])
    batches = [{int(f.sum()) for f in e[:4]} for e in (first[0], second)]
    assert batches[0] != batches[1]  # not the same batches in another order
    b.start_epoch(1)
    np.testing.assert_array_equal(epoch(b)[0], second)


def test_data_falls_back_in_the_promised_order(phantoms, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CXR_KERAS_DATA", str(phantoms))
    assert resolve_data("named") == tmp_path.__class__("named")
    assert resolve_data(None) == phantoms
    assert "from $CXR_KERAS_DATA" in capsys.readouterr().err
    monkeypatch.delenv("CXR_KERAS_DATA")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "nih").symlink_to(phantoms)
    assert str(resolve_data(None)) == "data/nih"
    assert "data/nih" in capsys.readouterr().err


def test_an_unwritable_cache_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CXR_KERAS_CACHE", str(tmp_path / "file"))
    with pytest.raises(CxrError, match=r"Set \$CXR_KERAS_CACHE"):
        pixel_store.open_store(write_images(tmp_path / "images", 1))
