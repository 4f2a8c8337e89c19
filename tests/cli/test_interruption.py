"""Ctrl-C and kill -9: what a person finds afterwards. The real program, real files."""

import os
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
from helpers.processes import cxr, killed_when, obey_ctrl_c, wait_until

TABLE = "Data_Entry_2017_v2020.csv"


def count_lines(files):
    return sum(file.read_text().count("\n") for file in files)


@pytest.mark.slow
@pytest.mark.parametrize("job", ["train", "prepare", "predict"])
def test_ctrl_c_ends_at_once_with_130_and_keeps_what_was_done(run, phantoms, tmp_path, job):
    images = tmp_path / "images"
    images.mkdir()
    drawn = sorted((phantoms / "images").iterdir())
    names = [f"{i:08d}_000.png" for i in range(3000)]
    for i, name in enumerate(names):
        (images / name).hardlink_to(drawn[i % len(drawn)])
    command = {
        "train": ["train", "resnet_custom", "--data", phantoms, "--epochs", "500"],
        "prepare": ["prepare", tmp_path],
        "predict": ["predict", run.folder, images, "--csv", tmp_path / "f.csv"],
    }[job]
    if job == "prepare":
        images.rename(tmp_path / "images")
        rows = [f"{name},Mass,{i}" for i, name in enumerate(names)]
        (tmp_path / TABLE).write_text("\n".join(["Image Index,Finding Labels,Patient ID", *rows]))
    own = tmp_path / "cache"
    process = subprocess.Popen(
        [sys.executable, "-m", "cxr_keras", *map(str, command), "--per-class", "9999"][
            : None if job == "prepare" else -2
        ],
        cwd=tmp_path,
        env=os.environ | {"CXR_KERAS_CACHE": str(own)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=obey_ctrl_c,
    )
    if job == "train":
        while not process.stderr.readline().startswith("epoch 2/"):
            assert process.poll() is None
    elif job == "prepare":
        wait_until(lambda: list(own.glob("pixels/*/pixels.raw")), process)
    else:
        wait_until(lambda: count_lines(tmp_path.glob(".f.csv.*")) > 20, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130, said
    assert "Interrupted; what was finished is kept" in said
    assert "Traceback" not in said
    assert not (tmp_path / "f.csv").exists()
    assert not list(own.glob("*/.*.tmp"))
    if job == "predict":
        kept = pd.read_csv(tmp_path / "f.partial.csv")
        assert 20 <= len(kept) < len(names)
        assert list(kept["path"]) == [str(images / name) for name in names[: len(kept)]]
        assert f"{len(kept):,} rows are kept in" in said
        assert not list(tmp_path.glob(".f.csv.*"))
    if job == "train":
        folder = tmp_path / "saved_models" / "resnet_custom-ep500-lr0.0005"
        assert len(pd.read_csv(folder / "history.csv")) >= 1
        assert not list(folder.glob(".*.tmp"))


FEATURES = """
import sys
from cxr_keras import train
train("resnet18", {data!r}, weights={weights!r}, epochs=1, per_class=2, folder={folder!r},
      resume="resume" in sys.argv)
"""


def list_features(cache):
    return list(cache.glob("features/.*.tmp/features.npy"))


@pytest.mark.slow
def test_killed_while_the_frozen_part_is_stored(phantoms, tmp_path):
    from helpers.torchvision_nets import original

    torch = pytest.importorskip("torch")
    weights = tmp_path / "resnet18.pth"
    torch.manual_seed(1)
    torch.save(original("resnet18").state_dict(), weights)
    folders = {name: tmp_path / name for name in ("whole", "killed")}
    runs = {}
    for name, folder in folders.items():
        code = FEATURES.format(data=str(phantoms), weights=str(weights), folder=str(folder))
        command = [sys.executable, "-c", code]
        cache = tmp_path / f"cache-{name}"
        environment = os.environ | {"CXR_KERAS_CACHE": str(cache)}
        if name == "killed":
            stored = partial(list_features, cache)
            killed_when(command, stored, environment)
            assert not [p for p in (cache / "features").iterdir() if p.suffix == ""]
            command.append("resume")
        subprocess.run(command, env=environment, check=True, capture_output=True)
        runs[name] = next(folder.iterdir())
        assert not list(cache.glob("features/.*.tmp"))
    first, second = (pd.read_csv(runs[n] / "history.csv").drop(columns="seconds") for n in runs)
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.slow
def test_killed_while_the_checkpoint_is_written(phantoms, tmp_path):
    """Whenever the kill comes, the checkpoint under the final name is whole, and resumes."""
    options = ["train", "alexnet_custom", "--data", str(phantoms), "--epochs", "2", "--name", "r"]
    options += ["--size", "64", "--checkpoint-every", "1", "--per-class", "2"]
    options += ["--output-dir", str(tmp_path)]
    command = [sys.executable, "-m", "cxr_keras", *options]
    whole = tmp_path / "r" / "checkpoint.npz"

    def second_is_being_written():
        return whole.exists() and list(whole.parent.glob(".checkpoint.npz.*.tmp"))

    killed_when(command, second_is_being_written, dict(os.environ))
    assert np.load(whole)["state"].size
    resumed = cxr(*options, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "Resuming after epoch 1 of 2" in resumed.stderr
    straight = cxr(*[o if o != "r" else "straight" for o in options])
    assert straight.returncode == 0, straight.stderr
    pd.testing.assert_frame_equal(
        *(
            pd.read_csv(tmp_path / name / "history.csv").drop(columns="seconds")
            for name in ("r", "straight")
        )
    )
    assert not list((tmp_path / "r").glob(".*.tmp"))
