"""From a data folder to splits of decoded images."""

import numpy as np
from PIL import Image

from cxr_keras.data.images import read_image
from cxr_keras.data.preparation import prepare
from cxr_keras.data.source import resolve_data
from cxr_keras.framing import Framing


def test_prepare_leaves_bad_images_out_of_the_manifest(make_folder, capsys):
    rows = [(f"{i:02d}.png", "Mass" if i % 2 else "Edema", i) for i in range(40)]
    folder = make_folder(rows)
    (folder / "images" / "07.png").write_bytes(b"junk")
    prepared = prepare(folder)
    assert len(prepared.manifest) == 39
    assert "07.png" not in set(prepared.manifest["Image Index"])
    said = capsys.readouterr().err
    assert "07.png: not a PNG, JPEG or DICOM" in said
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


def test_another_size_has_the_same_split_and_its_own_manifest(phantoms):
    default, small = prepare(phantoms), prepare(phantoms, size=64, fit="whole")
    assert small.folder != default.folder
    assert small.fingerprint != default.fingerprint
    for column in ("Image Index", "split"):
        assert small.manifest[column].tolist() == default.manifest[column].tolist()
    batch = small.split("val").batch(slice(0, 2))
    assert batch.shape == (2, 64, 64, 1)
    paths = small.split("val").rows["path"]
    np.testing.assert_array_equal(batch[1, ..., 0], read_image(paths[1], Framing(64, "whole")))
