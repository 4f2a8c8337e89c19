"""A disk that fills: the real program, real files, a real limit."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.processes import assert_one_sentence, cxr, killed_when

from cxr_keras.data.images import read_image
from cxr_keras.data.preparation import prepare


@pytest.mark.slow
def test_a_disk_that_fills_while_saving_leaves_the_old_file_whole(phantoms, tmp_path):
    options = ["train", "resnet_custom", "--data", phantoms, "--epochs", 1, "--name", "r"]
    options += ["--size", 64]
    assert cxr(*options, cwd=tmp_path).returncode == 0
    file = tmp_path / "saved_models" / "r" / "model.keras"
    before = file.read_bytes()
    code = (
        "import resource; from cxr_keras.runs import model_file; from pathlib import Path\n"
        f"file = Path({str(file)!r}); model = model_file.load_model(file)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "model_file.save_model(model, model_file.read_card(file), file)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "model.keras cannot be written (File too large). Make room" in result.stderr
    assert file.read_bytes() == before
    assert {p.name for p in file.parent.iterdir() if p.name.endswith(".tmp")} == set()
    again = cxr(*options, "--overwrite", limit=1_000_000, cwd=tmp_path)
    assert_one_sentence(again, "cannot be written (File too large)")
    assert file.read_bytes() == before  # the run that was to be replaced
    assert [path.name for path in file.parent.parent.iterdir()] == ["r"]


@pytest.mark.slow
def test_a_disk_that_fills_under_the_pixel_store(phantoms, tmp_path, monkeypatch):
    own = tmp_path / "cache"
    result = cxr("prepare", phantoms, limit=500_000, CXR_KERAS_CACHE=str(own))
    assert_one_sentence(result, "The pixel store", "cannot be written", "set $CXR_KERAS_CACHE")
    monkeypatch.setenv("CXR_KERAS_CACHE", str(own))  # with room again, it goes on where it stopped
    prepared = prepare(phantoms)
    for _, row in prepared.manifest.iterrows():
        np.testing.assert_array_equal(prepared.store.pixels[row["row"]], read_image(row["path"]))


def test_a_disk_that_fills_under_the_phantoms(tmp_path):
    result = cxr("phantom", tmp_path / "new", "--count", 2, limit=10_000)
    assert_one_sentence(result, "Phantoms cannot be written to", "on a disk with room")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_disk_that_fills_under_the_feature_store(phantoms, tmp_path):
    from helpers.torchvision_nets import original

    torch = pytest.importorskip("torch")
    torch.save(original("resnet18").state_dict(), tmp_path / "resnet18.pth")
    cache = tmp_path / "cache"
    assert cxr("prepare", phantoms, CXR_KERAS_CACHE=str(cache)).returncode == 0
    options = ["train", "resnet18", "--data", phantoms, "--weights", tmp_path / "resnet18.pth"]
    options += ["--epochs", 1, "--output-dir", tmp_path]
    full = cxr(*options, limit=60_000, CXR_KERAS_CACHE=str(cache))
    assert_one_sentence(full, str(cache / "features"), "Make room", "--no-feature-cache does")
    assert not [path for path in (cache / "features").iterdir() if path.is_dir()]
    again = cxr(*options, "--resume", CXR_KERAS_CACHE=str(cache))
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_a_disk_that_fills_under_the_checkpoint_leaves_the_old_one_whole(phantoms, tmp_path):
    options = ["train", "resnet_custom", "--data", str(phantoms), "--epochs", "3", "--name", "r"]
    options += ["--size", "64", "--checkpoint-every", "1", "--output-dir", str(tmp_path)]
    file = tmp_path / "r" / "checkpoint.npz"
    killed_when([sys.executable, "-m", "cxr_keras", *options], file.exists, dict(os.environ))
    before = file.read_bytes()
    full = cxr(*options, "--resume", limit=len(before) // 2)
    assert_one_sentence(full, "checkpoint.npz cannot be written (File too large). Make room")
    assert file.read_bytes() == before
    again = cxr(*options, "--resume")
    assert again.returncode == 0, again.stderr
    assert list(pd.read_csv(tmp_path / "r" / "history.csv")["epoch"]) == [1, 2, 3]
