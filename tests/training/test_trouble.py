"""Training on what goes wrong: NaN, folders in use, data too few."""

import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest

from cxr_keras import calibrate, load_model, train
from cxr_keras.errors import CxrError, RunError
from cxr_keras.runs import model_file, run_folder


def test_a_loss_that_is_nan_stops_and_says_which_rate_to_try(
    tiny_model, phantoms, tmp_path, capsys
):
    with pytest.raises(RunError, match=r"NaN or infinite in epoch 1.*--lr 1e\+36"):
        train(
            tiny_model, phantoms, epochs=3, lr=1e37, folder=str(tmp_path), name="bad",
            checkpoint_every=1,
        )  # fmt: skip
    assert not (tmp_path / "bad" / "model.keras").exists()
    assert not (tmp_path / "bad" / "checkpoint.npz").exists()


class Ruin(keras.callbacks.Callback):
    """Makes the third epoch's weights NaN, as a rate can that is too high."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            weight = self.model.trainable_variables[0]
            weight.assign(keras.ops.full(weight.shape, float("nan")))


def test_the_best_epoch_before_a_nan_is_kept(tiny_model, phantoms, tmp_path, capsys):
    run = train(tiny_model, phantoms, epochs=6, lr=0.002, folder=str(tmp_path), callbacks=[Ruin()])
    assert "NaN or infinite in epoch 3, so training stops. Try --lr 0.0002" in (
        capsys.readouterr().err
    )
    assert len(run.history) == 3
    assert run.info["diverged"] is True
    assert run.info["best_epoch"] in (1, 2)
    assert all(np.isfinite(weight).all() for weight in load_model(run.folder).get_weights())


@pytest.mark.slow
def test_two_trainings_of_one_name_do_not_harm_each_other(
    tiny_model, phantoms, tmp_path, monkeypatch
):
    """While another process holds the folder, each way to train in it is refused."""
    folder = tmp_path / "same"
    options = {"epochs": 1, "folder": str(tmp_path), "name": "same"}
    train(tiny_model, phantoms, **options)
    info = run_folder.read_run(folder)
    run_folder.write_run(folder, info | {"status": "running"})
    code = (
        "import sys; from pathlib import Path\n"
        "from cxr_keras.runs.run_folder import hold_folder\n"
        "with hold_folder(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    pipe = subprocess.PIPE
    other = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
    assert other.stdout.readline() == "held\n"
    before = (folder / "model.keras").read_bytes()
    for how in ("overwrite", "resume"):
        with pytest.raises(RunError, match="Another process is working in"):
            train(tiny_model, phantoms, **options, **{how: True})
    with pytest.raises(RunError, match="Another process is working in"):
        calibrate(folder, resamples=0)
    assert (folder / "model.keras").read_bytes() == before
    other.kill()
    other.wait()
    train(tiny_model, phantoms, resume=True, **options)
    assert run_folder.read_run(folder)["status"] == "done"


@pytest.mark.slow
def test_what_cannot_start_overwrites_nothing(tiny_model, phantoms, tmp_path):
    options = {"epochs": 1, "folder": str(tmp_path), "name": "kept", "overwrite": True}
    train(tiny_model, phantoms, **options)
    before = (tmp_path / "kept" / "model.keras").read_bytes()
    with pytest.raises(CxrError, match="There is no data folder"):
        train(tiny_model, tmp_path / "nowhere", **options)
    assert (tmp_path / "kept" / "model.keras").read_bytes() == before
    (tmp_path / "empty").mkdir()
    train(tiny_model, phantoms, epochs=1, folder=str(tmp_path), name="empty")


@pytest.mark.slow
def test_resuming_on_other_data_is_refused(tiny_model, make_folder, tmp_path):
    """Else an image that was trained on could lie in the test split of the resumed run."""
    rows = [(f"{i:02d}.png", "Mass", i) for i in range(20)]
    folder = make_folder(rows)
    options = {"epochs": 1, "folder": str(tmp_path / "runs"), "name": "r"}
    train(tiny_model, folder, **options)
    run = tmp_path / "runs" / "r"
    run_folder.write_run(run, run_folder.read_run(run) | {"status": "running"})
    make_folder([*rows, ("99.png", "Edema", 99)])
    with pytest.raises(RunError, match="The data changed since"):
        train(tiny_model, folder, resume=True, **options)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "has no image that its table"),
        ([("a.png", "Mass", 1)], "leaves .* without an image"),
    ],
)
def test_data_too_few_to_train_on_are_a_sentence(make_folder, tiny_model, tmp_path, rows, says):
    folder = make_folder(rows)
    with pytest.raises(CxrError, match=says):
        train(tiny_model, folder, epochs=1, folder=str(tmp_path / "runs"))


@pytest.mark.slow
def test_one_class_no_positives_and_a_batch_larger_than_the_set(
    make_folder, tiny_model, tmp_path, capsys
):
    """A folder in which every image is normal trains, and its table says what is undefined."""
    folder = make_folder([(f"{i:02d}.png", "No Finding", i) for i in range(12)])
    run = train(tiny_model, folder, epochs=1, batch_size=500, folder=str(tmp_path / "runs"))
    table = run.metrics.set_index("label")
    assert table.loc[["Mass", "No Finding"], "auroc"].isna().all()
    assert np.isnan(table.loc["average of 14 findings", "auroc"])
    assert set(model_file.read_card(run.folder).thresholds) == {0.5}
    assert "keep the threshold 0.5" in capsys.readouterr().err
    assert (
        pd.read_csv(run.folder / "metrics.csv")["support"].iloc[:15].sum()
        == run.info["data"]["sizes"]["test"]
    )
