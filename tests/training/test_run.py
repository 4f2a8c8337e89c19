"""`train`: the run folder, the same run again, and a run that was stopped."""

import json
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.processes import TINY_NETWORK, wait_until
from helpers.shared import shared

from cxr_keras import load_model, train
from cxr_keras.data.labels import LABELS
from cxr_keras.errors import CxrError, ModelError, RunError
from cxr_keras.evaluation.evaluation import evaluate

RUN_FILES = {
    "model.keras",
    "history.csv",
    "predictions.csv",
    "predictions_val.csv",
    "metrics.csv",
    "samplewise.csv",
    "cooccurrence.csv",
    "subgroups.csv",
    "reliability.csv",
    "reliability.png",
    "run.json",
    "loss.png",
}


def history_without_seconds(folder):
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


def weights_of(folder):
    return [np.asarray(weight) for weight in load_model(folder).get_weights()]


def assert_same_run(a, b):
    pd.testing.assert_frame_equal(history_without_seconds(a), history_without_seconds(b))
    for first, second in zip(weights_of(a), weights_of(b), strict=True):
        np.testing.assert_array_equal(first, second)


def test_the_run_folder_holds_what_the_readme_says(run):
    assert {path.name for path in run.folder.iterdir()} == RUN_FILES
    assert run.folder.name == "tiny_test_net-ep3-lr0.002"
    history = pd.read_csv(run.folder / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    assert {"loss", "val_loss", "precision", "recall", "auc", "seconds"} <= set(history)
    info = json.loads((run.folder / "run.json").read_text())
    assert info["status"] == "done"
    assert info["settings"]["lr"] == 0.002
    assert "say nothing about patients" in info["notice"]
    assert (run.folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    predictions = pd.read_csv(run.folder / "predictions.csv")
    assert len(predictions) == info["data"]["sizes"]["test"]
    assert set(predictions["split"]) == {"test"}
    assert list(predictions.columns[-30:]) == [
        f"{kind}_{label}" for kind in ("prob", "true") for label in LABELS
    ]
    validation = pd.read_csv(run.folder / "predictions_val.csv")
    assert len(validation) == info["data"]["sizes"]["val"]
    assert list(validation) == list(predictions)


def test_the_kept_weights_are_those_of_the_best_validation_loss(run, tmp_path):
    history = pd.read_csv(run.folder / "history.csv")
    result = evaluate(run.folder, split="val", out=tmp_path)
    assert result.loss == pytest.approx(history["val_loss"].min(), abs=1e-5)
    assert run.info["best_epoch"] == history["val_loss"].idxmin() + 1


@pytest.mark.slow
def test_the_same_seed_gives_the_same_history_and_weights(run, phantoms, tiny_model, tmp_path):
    again = train(tiny_model, phantoms, epochs=3, lr=0.002, folder=str(tmp_path))
    assert_same_run(run.folder, again.folder)
    other = train(tiny_model, phantoms, epochs=3, lr=0.002, folder=str(tmp_path), name="b", seed=1)
    assert not history_without_seconds(run.folder).equals(history_without_seconds(other.folder))


def test_an_existing_run_folder_is_refused_unless_told(run, phantoms, tiny_model):
    options = {"epochs": 3, "lr": 0.002, "folder": str(run.folder.parent)}
    with pytest.raises(
        RunError, match=r"exists, with these settings\. Give --overwrite to replace it, or --name"
    ):
        train(tiny_model, phantoms, **options)
    with pytest.raises(RunError, match="is finished"):
        train(tiny_model, phantoms, resume=True, **options)
    with pytest.raises(RunError, match="exclude each other"):
        train(tiny_model, phantoms, resume=True, overwrite=True, **options)
    assert {path.name for path in run.folder.iterdir()} == RUN_FILES


def test_overwrite_deletes_run_folders_only(phantoms, tiny_model, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(RunError, match="is no run folder"):
        train(tiny_model, phantoms, epochs=1, folder=str(tmp_path), name="mine", overwrite=True)
    assert (tmp_path / "mine" / "notes.txt").exists()


SCRIPT = (
    TINY_NETWORK
    + """
import logging, sys

logging.basicConfig(level=logging.INFO)
train("tiny_test_net", {data!r}, epochs=12, lr=0.002, folder={folder!r}, checkpoint_every=1,
      resume="resume" in sys.argv)
"""
)


def script(data, folder):
    return SCRIPT.format(data=str(data), folder=str(folder))


@pytest.fixture(scope="module")
def whole(phantoms, tmp_path_factory):
    """The run folder of SCRIPT when nothing stops it."""
    folder = tmp_path_factory.mktemp("whole")
    code = script(phantoms, folder)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    with shared(folder):
        yield folder / "tiny_test_net-ep12-lr0.002"


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_run_resumes_to_the_same_history_and_weights(phantoms, whole, tmp_path, how):
    command = [sys.executable, "-c", script(phantoms, tmp_path)]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        command,
        stdout=quiet,
        stderr=quiet,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell may ignore it
    )
    folder = tmp_path / whole.name
    wait_until((folder / "checkpoint.npz").exists, process)
    process.send_signal(how)
    assert process.wait(timeout=20) != 0
    assert (folder / "checkpoint.npz").exists()
    assert not (folder / "model.keras").exists()
    command.append("resume")
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "Resuming after epoch" in result.stderr
    assert_same_run(whole, folder)
    leftovers = {path.name for path in folder.iterdir()} - RUN_FILES
    assert all(name.endswith(".tmp") for name in leftovers)


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision", ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_mixed_precision_trains_and_its_file_gives_float32(
    tiny_model, phantoms, tmp_path, precision
):
    import keras

    run = train(tiny_model, phantoms, epochs=2, precision=precision, folder=str(tmp_path))
    assert run.history["loss"].notna().all()
    assert keras.config.dtype_policy().name == "float32"
    model = load_model(run.folder)
    assert model.get_layer("conv1").compute_dtype == "float32"  # whatever it was trained in
    assert {str(w.dtype) for w in model.get_layer("conv1").weights} == {"float32"}
    assert str(model.output.dtype) == "float32"


def test_resume_with_other_settings_is_refused(phantoms, tiny_model, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(
        json.dumps({"status": "running", "settings": {"lr": 0.1, "epochs": 2}})
    )
    with pytest.raises(RunError, match=r"lr 0\.1 → 0\.002"):
        train(tiny_model, phantoms, lr=0.002, folder=str(tmp_path), name="run", resume=True)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epochs": 0}, "epochs must be 1 or more. Received: 0"),
        ({"lr": 0.0}, "learning rate must be above 0"),
        ({"batch_size": -1}, "batch_size must be 1 or more"),
        ({"seed": -1}, "seed must be 0 or more"),
    ],
)
def test_wrong_settings_are_one_sentence(tiny_model, phantoms, settings, says):
    with pytest.raises(CxrError, match=says):
        train(tiny_model, phantoms, **settings)


def test_an_unknown_network_leaves_no_folder(phantoms, tmp_path):
    with pytest.raises(ModelError, match=r"Choose one of: .*alexnet_custom"):
        train("alexnet_costum", phantoms, folder=str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
