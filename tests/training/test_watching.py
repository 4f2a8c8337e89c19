"""`train --log`: every epoch's numbers and pictures, where one looks for them."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.refusals import refusal

from cxr_keras import train
from cxr_keras.training.watching import examples

READ = """
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
assert "tensorflow" not in sys.modules
found = EventAccumulator(sys.argv[1]).Reload()
for name in found.Tags()["scalars"]:
    print(name, [(one.step, one.value) for one in found.Scalars(name)])
print("images", [one.step for one in found.Images("heat maps")])
"""


def test_a_csv_has_a_row_an_epoch_and_the_weights_are_as_without(phantoms, tiny_model, tmp_path):
    options = {"epochs": 2, "size": 64, "folder": tmp_path, "schedule": "cosine"}
    plain = train(tiny_model, phantoms, name="plain", **options)
    run = train(tiny_model, phantoms, name="watched", log=["csv"], **options)
    table = pd.read_csv(run.folder / "log.csv")
    assert list(table["epoch"]) == [1, 2]
    for name in ("loss", "val_loss", "val_auroc"):
        np.testing.assert_allclose(table[name], run.history[name], rtol=1e-4)
    assert table["learning_rate"][1] < table["learning_rate"][0]
    assert (table["images_per_second"] > 0).all()
    same = [history.drop(columns="seconds") for history in (run.history, plain.history)]
    pd.testing.assert_frame_equal(*same)
    assert not (plain.folder / "log.csv").exists()


@pytest.mark.slow
def test_tensorboard_shows_numbers_and_heat_maps(phantoms, tiny_model, tmp_path):
    pytest.importorskip("tensorboard")
    run = train(
        tiny_model, phantoms, epochs=2, size=64, folder=tmp_path, log=["tensorboard", "csv"]
    )
    done = subprocess.run(
        [sys.executable, "-c", READ, str(run.folder / "tensorboard")],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert lines["images"] == "[1, 2]"
    table = pd.read_csv(run.folder / "log.csv")
    for name in table.columns.drop("epoch"):
        steps, values = zip(*eval(lines[name]), strict=True)
        assert steps == (1, 2)
        np.testing.assert_allclose(values, table[name], rtol=1e-5)


@pytest.mark.slow
def test_mlflow_has_settings_numbers_and_pictures(phantoms, tiny_model, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.chdir(tmp_path)
    mlflow.set_tracking_uri((tmp_path / "mlruns").as_uri())
    run = train(tiny_model, phantoms, epochs=2, size=64, folder=tmp_path, log=["mlflow"])
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("cxr-keras")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == run.folder.name
    assert found.data.params["model"] == tiny_model
    history = client.get_metric_history(found.info.run_id, "val_loss")
    np.testing.assert_allclose([one.value for one in history], run.history["val_loss"], rtol=1e-4)
    pictures = client.list_artifacts(found.info.run_id, "heat_maps")
    assert [os.path.basename(one.path) for one in pictures] == ["epoch_001.png", "epoch_002.png"]


def test_images_to_show_are_the_first_of_the_most_frequent_labels():
    truth = np.array([[0, 0, np.nan], [0, 1, 0], [1, 1, 0]])
    assert examples(truth) == [(1, 1), (2, 0)]
    assert examples(np.zeros((3, 2))) == []


def test_what_cannot_be_logged_is_a_sentence(phantoms, tiny_model, monkeypatch):
    assert "There is no log 'x'. Choose from: csv" in refusal(
        train, tiny_model, phantoms, log=["x"]
    )
    monkeypatch.setattr("cxr_keras.training.watching.find_spec", lambda name: None)
    assert 'pip install "cxr-keras[tensorboard]"' in refusal(
        train, tiny_model, phantoms, log=["tensorboard"]
    )
