"""One training over several processes: which one this is, its share of a batch, and the whole."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from helpers.processes import cxr, wait_until
from helpers.refusals import refusal

from cxr_keras import evaluate, load_model
from cxr_keras.data.loader import RadiographLoader
from cxr_keras.data.preparation import PreparedSplit
from cxr_keras.training.processes import Place, place_of

TRAIN = ("train", "resnet_custom", "--size", "64", "--batch-size", "16", "--seed", "1")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, Place()),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Place(3, 8, 1)),
        (
            {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "6", "SLURM_LOCALID": "2"},
            Place(5, 6, 2),
        ),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_LOCALID": "0"}, Place()),
        ({"SLURM_NTASKS": "4"}, Place()),  # an allocation, in which nothing was started by srun
    ],
)
def test_which_of_how_many_processes_this_is(environment, place):
    assert place_of(environment) == place


def test_an_environment_that_makes_no_sense():
    text = refusal(place_of, {"RANK": "first", "WORLD_SIZE": "2"})
    assert "does not say which process this is: RANK=first, WORLD_SIZE=2" in text
    text = refusal(place_of, {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "some"})
    assert "SLURM_PROCID=1, SLURM_STEP_NUM_TASKS=some" in text


def made_split(images, unknown=0.0):
    """A split of images of one pixel, each its own number, with two labels."""
    rng = np.random.default_rng(images)
    truth = rng.integers(0, 2, (images, 2)).astype("float32")
    truth[rng.random((images, 2)) < unknown] = np.nan
    pixels = np.arange(images, dtype="uint8").reshape(-1, 1, 1)
    rows = pd.DataFrame({"Image Index": range(images)})
    return PreparedSplit(rows, pixels, np.arange(images), truth, ("A", "B"))


def shares(split, batch_size, processes):
    """The loaders of all processes, each with the same seed."""
    return [
        RadiographLoader(split, batch_size, seed=3, share=(rank, processes))
        for rank in range(processes)
    ]


@pytest.mark.parametrize("processes", [2, 3])
def test_every_image_of_an_epoch_is_seen_by_one_process(processes):
    split = made_split(23)
    alone = RadiographLoader(split, 6, seed=3)
    loaders = shares(split, 6, processes)
    assert {len(loader) for loader in loaders} == {len(alone)}
    for batch in range(len(alone)):
        parts = [loader[batch][0].ravel().tolist() for loader in loaders]
        assert sorted(n for part in parts for n in part) == sorted(alone[batch][0].ravel().tolist())
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("unknown", [0.0, 0.4])
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_the_mean_over_processes_is_that_of_the_whole_batch(processes, unknown):
    """The last batch has 1 image, so that some process has none."""
    split = made_split(25, unknown)
    cost = np.random.default_rng(0).random((25, 2))  # of each label of each image
    for batch in range(len(RadiographLoader(split, 8, seed=3))):
        means, everything = [], []
        for loader in shares(split, 8, processes):
            pixels, truth, weights = loader[batch]
            places = pixels.ravel()
            known = ~np.isnan(truth)
            own = (cost[places] * known).sum() / max(known.sum(), 1)
            means.append(own * weights[0])
            assert (weights == weights[0]).all()
            if weights[0]:
                everything += cost[places][known].tolist()
        whole = np.mean(everything) if everything else 0.0
        assert np.mean(means) == pytest.approx(whole)


def together(*args):
    """`torchrun --nproc-per-node 2 -m -- cxr_keras …`, begun."""
    command = [*TORCHRUN, "-m", "--", "cxr_keras", *map(str, args)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.slow
def test_two_processes_train_the_weights_of_one(phantoms, tmp_path):
    """With SGD: Adam makes steps of rounding errors where a gradient is 0 but for these."""
    said = ("--data", phantoms, "--output-dir", tmp_path, "--per-class", "8", "--epochs", "3")
    said += ("--optimizer", "sgd", "--lr", "0.001", "--sync-batch-norm")
    assert cxr(*TRAIN, *said, "--name", "one").returncode == 0
    process = together(*TRAIN, *said, "--name", "two")
    out, err = process.communicate(timeout=170)
    assert process.returncode == 0, err
    assert err.count("epoch 3/3") == 1  # one process speaks
    assert out.count("average of 14 findings") == 1
    one, two = (load_model(tmp_path / name).get_weights() for name in ("one", "two"))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    curves = [pd.read_csv(tmp_path / name / "history.csv") for name in ("one", "two")]
    for column in ("val_loss", "val_auroc", "val_ap"):
        np.testing.assert_allclose(curves[0][column], curves[1][column], atol=1e-4)
    np.testing.assert_allclose(curves[0]["loss"], curves[1]["loss"], rtol=0.02)


@pytest.mark.slow
def test_what_two_processes_validate_is_the_network_that_they_save(phantoms, tmp_path):
    """Each counts the statistics of the averaged weights on its own share of the images."""
    said = ("--data", phantoms, "--output-dir", tmp_path, "--epochs", "2", "--ema", "0.9")
    said += ("--monitor", "val_auroc", "--name", "two")
    process = together(*TRAIN, *said)
    _, err = process.communicate(timeout=170)
    assert process.returncode == 0, err
    run, history = tmp_path / "two", pd.read_csv(tmp_path / "two" / "history.csv")
    kept = history.iloc[json.loads((run / "run.json").read_text())["best_epoch"] - 1]
    found = evaluate(run, split="val", out=tmp_path / "val", resamples=0)
    assert found.loss == pytest.approx(kept["val_loss"], abs=1e-5)


@pytest.mark.slow
def test_a_frozen_network_trains_over_two_processes(phantoms, tmp_path):
    said = ("train", "resnet18", "--weights", "none", "--fine-tune", "head", "--size", "64")
    process = together(
        *said, "--data", phantoms, "--output-dir", tmp_path, "--epochs", "1", "--per-class", "6"
    )
    _, err = process.communicate(timeout=170)
    assert process.returncode == 0, err


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_resume_goes_on_alone(phantoms, tmp_path):
    said = ("--data", phantoms, "--output-dir", tmp_path, "--name", "r", "--epochs", "40")
    said += ("--per-class", "6", "--checkpoint-every", "1")
    process = together(*TRAIN, *said)
    checkpoint = tmp_path / "r" / "checkpoint.npz"
    wait_until(checkpoint.exists, process)
    children = subprocess.run(
        ["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=True
    )
    begun = time.monotonic()
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode
    assert time.monotonic() - begun < 45
    assert "Another process of this training has died" in err or "SIGKILL" in err
    result = cxr(*TRAIN, *said, "--resume")
    assert result.returncode == 0, result.stderr
    assert "Resuming after epoch" in result.stderr
    assert len(pd.read_csv(tmp_path / "r" / "history.csv")) == 40


@pytest.mark.slow
def test_a_batch_of_fewer_images_than_processes_is_refused(phantoms, tmp_path):
    process = together(
        *TRAIN[:2], "--data", phantoms, "--batch-size", "1", "--output-dir", tmp_path
    )
    _, err = process.communicate(timeout=170)
    assert process.returncode
    assert "Error: A batch of 1 images is not enough for 2 processes" in err
    assert not list(tmp_path.iterdir())
