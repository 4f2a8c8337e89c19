"""Run folders that are taken, replaced, resumed; their names; and runs of several seeds."""

import json
import shutil
import signal
import subprocess
import sys
import time

import keras
import pandas as pd
import pytest

from cxr_keras import compare, ensemble, train
from cxr_keras.errors import CxrError, RunError
from cxr_keras.runs import model_file, run_folder
from cxr_keras.training.config import TrainConfig


class During(keras.callbacks.Callback):
    """Does something at the end of the first epoch."""

    def __init__(self, what):
        super().__init__()
        self.what = what

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 0:
            self.what()


@pytest.fixture
def old(run, tmp_path):
    """A finished run called "old", and the options of a training that would replace it."""
    folder = shutil.copytree(run.folder, tmp_path / "runs" / "old")
    options = {"epochs": 2, "lr": 0.01, "folder": str(folder.parent), "name": "old"}
    return folder, options | {"checkpoint_every": 1}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def stop(error):
    raise error


# --- overwrite ----------------------------------------------------------------------------------


def test_overwrite_keeps_the_old_run_until_the_new_one_is_done(old, run, phantoms, tiny_model):
    folder, options = old
    before, seen = contents(folder), []
    look = During(lambda: seen.append(contents(folder)))
    new = train(tiny_model, phantoms, overwrite=True, callbacks=[look], **options)
    assert seen == [before]
    assert new.folder == new.evaluation.folder == folder
    assert run_folder.read_run(folder)["settings"]["lr"] == 0.01
    assert set(contents(folder)) == set(before)
    assert [path.name for path in folder.parent.iterdir()] == ["old"]


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_a_training_that_fails_leaves_the_old_run_and_can_be_resumed(
    old, phantoms, tiny_model, capsys, error
):
    folder, options = old
    before = contents(folder)
    fail = During(lambda: stop(error))
    with pytest.raises(type(error)):
        train(tiny_model, phantoms, overwrite=True, callbacks=[fail], **options)
    assert contents(folder) == before
    assert f"The old run is still {folder}. --resume goes on" in capsys.readouterr().err
    with pytest.raises(RunError, match="one that was to replace it was interrupted"):
        train(tiny_model, phantoms, **options)
    with pytest.raises(RunError, match=r"lr 0\.01 → 0\.02"):
        train(tiny_model, phantoms, resume=True, **options | {"lr": 0.02})
    new = train(tiny_model, phantoms, resume=True, **options)
    assert "Resuming after epoch 1" in capsys.readouterr().err
    assert new.folder == folder
    assert contents(folder)["model.keras"] != before["model.keras"]
    assert [path.name for path in folder.parent.iterdir()] == ["old"]


def test_a_training_that_fails_at_once_leaves_nothing_but_the_old_run(old, phantoms, tiny_model):
    folder, options = old
    before = contents(folder)
    fail = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: stop(RuntimeError()))
    with pytest.raises(RuntimeError):
        train(tiny_model, phantoms, overwrite=True, callbacks=[fail], **options)
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["old"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_killed_during_the_exchange_the_next_training_finishes_it(
    old, run, phantoms, tiny_model, moment
):
    """Before the old run was moved aside; before the new one took its name; before the old went."""
    folder, options = old
    aside, new = folder.with_name(".old.old"), folder.with_name(".old.new")
    if moment == "after":
        shutil.copytree(folder, aside)
    else:
        shutil.copytree(folder, new)
    if moment == "between":
        folder.rename(aside)
    if moment != "after":
        (folder if moment == "before" else aside).joinpath("metrics.csv").unlink()  # of the old run
    with pytest.raises(RunError, match="exists, with other settings"):
        train(tiny_model, phantoms, **options)
    assert contents(folder) == contents(run.folder)
    assert [path.name for path in folder.parent.iterdir()] == ["old"]


@pytest.mark.slow
def test_kill_9_leaves_the_old_run_and_the_command_goes_on_with_the_new_one(
    run_cli, phantoms, tmp_path
):
    command = ["train", "resnet_custom", "--data", phantoms, "--output-dir", tmp_path]
    command += ["--size", 64, "--name", "r", "--checkpoint-every", 1, "--epochs"]
    assert run_cli(*command, 1).returncode == 0
    before = contents(tmp_path / "r")
    process = subprocess.Popen(
        [sys.executable, "-m", "cxr_keras", *map(str, command), "3", "--overwrite"],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / ".r.new" / "checkpoint.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert contents(tmp_path / "r") == before
    assert run_cli("evaluate", tmp_path / "r", "--resamples", 0).returncode == 0
    told = run_cli(*command, 3)
    assert told.returncode == 1
    assert str(tmp_path / ".r.new") in told.stderr
    resumed = run_cli(*command, 3, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "Resuming after epoch" in resumed.stderr
    assert len(pd.read_csv(tmp_path / "r" / "history.csv")) == 3
    assert not (tmp_path / ".r.new").exists()


# --- resume, and names that are taken -----------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"resume": True}, r"is no run folder .* nothing to resume\. Give --name"),
        ({"overwrite": True}, "is no run folder"),
        ({}, r"is no run folder\. Give --name"),
    ],
)
def test_a_folder_that_is_no_run_folder_stays_untouched(phantoms, tiny_model, tmp_path, how, says):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(RunError, match=says):
        train(tiny_model, phantoms, epochs=1, folder=str(tmp_path), name="mine", **how)
    assert set(contents(tmp_path / "mine")) == {"notes.txt"}


@pytest.mark.slow
def test_a_run_that_was_killed_at_its_first_file_is_resumed(phantoms, tiny_model, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / ".run.json.abcd.tmp").write_text("{")
    train(tiny_model, phantoms, epochs=1, folder=str(tmp_path), name="r", resume=True)
    assert (tmp_path / "r" / "model.keras").exists()


def test_a_taken_name_says_what_differs(run, phantoms, tiny_model):
    where = {"folder": str(run.folder.parent), "name": run.folder.name}
    with pytest.raises(RunError, match=r"other settings \(lr 0\.002 → 0\.1, seed 42 → 7\)\. Give "):
        train(tiny_model, phantoms, epochs=3, lr=0.1, seed=7, **where)


def test_a_run_that_was_begun_when_there_was_one_seed_goes_on(run, phantoms, tiny_model, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "old")
    info = run_folder.read_run(folder)
    del info["settings"]["data_seed"]
    info["settings"]["seed"] = 7
    (folder / "run.json").write_text(json.dumps(info | {"status": "running"}))
    options = {"epochs": 3, "lr": 0.002, "folder": str(tmp_path), "name": "old", "resume": True}
    with pytest.raises(RunError, match=r"\(data_seed 7 → 42\)"):
        train(tiny_model, phantoms, seed=7, **options)
    with pytest.raises(RunError, match="The data changed since"):  # as far as its data go
        train(tiny_model, phantoms, seed=7, data_seed=7, **options)


@pytest.mark.parametrize(
    ("settings", "ends"),
    [
        ({}, ""),
        ({"feature_cache": False, "checkpoint_every": 3, "batch_size": 32}, ""),
        ({"loss": "focal", "seed": 7, "fine_tune": 2}, "-focal-seed7-ft2"),
        ({"fine_tune": "all"}, "-ftall"),
        ({"data_seed": 1}, "-dataseed1"),
        ({"split_method": "paper"}, "-paper"),
        ({"weights": "none"}, "-random"),
        ({"weights": "weights/my net.pth"}, "-my_net"),
    ],
)
def test_the_default_name_tells_runs_apart(settings, ends):
    config = TrainConfig("resnet18", epochs=30, lr=0.0005, **settings)
    assert config.run_folder.name == f"resnet18-ep30-lr0.0005{ends}"


# --- seeds --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeds(run, phantoms, tiny_model, tmp_path_factory):
    """`run`, and the same with another seed."""
    folder = str(tmp_path_factory.mktemp("seeds"))
    return run, train(tiny_model, phantoms, epochs=3, lr=0.002, seed=7, folder=folder)


@pytest.mark.slow
def test_runs_of_several_seeds_share_the_data_and_differ_in_weights(seeds):
    first, second = seeds
    assert first.info["data"] == second.info["data"]
    assert first.info["data"]["seed"] == 42
    names = [pd.read_csv(r.folder / "predictions.csv")["Image Index"].tolist() for r in seeds]
    assert names[0] == names[1]
    assert not first.history["loss"].equals(second.history["loss"])


@pytest.mark.slow
def test_runs_of_several_seeds_are_an_ensemble_and_are_compared(seeds, tmp_path):
    folders = [one.folder for one in seeds]
    both = ensemble(folders, name="both", folder=tmp_path, resamples=0)
    assert len(both.predictions) == seeds[0].info["data"]["sizes"]["test"]
    table = compare(folders[0], both.folder, resamples=20)
    assert table["auroc_difference"].notna().any()


@pytest.mark.slow
def test_another_data_seed_is_another_split(run, phantoms, tiny_model, tmp_path):
    other = train(tiny_model, phantoms, epochs=1, data_seed=7, folder=str(tmp_path))
    assert other.info["data"]["split_digest"] != run.info["data"]["split_digest"]
    assert other.info["data"]["seed"] == model_file.read_card(other.folder).data["seed"] == 7
    with pytest.raises(CxrError, match="--data-seed"):
        ensemble([run.folder, other.folder], name="x", folder=tmp_path)
