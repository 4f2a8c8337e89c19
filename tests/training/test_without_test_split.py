"""`train` with a test share of 0: what is written, and what is said of it."""

import json
import shutil

import pandas as pd
import pytest
from click.testing import CliRunner

from cxr_keras import train
from cxr_keras.cli import main
from cxr_keras.errors import RunError
from cxr_keras.evaluation.evaluation import evaluate
from cxr_keras.metrics.per_label import average
from cxr_keras.runs import model_file

SHARES = {"val_share": 0.25, "test_share": 0}


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_tables_of_validation_cannot_be_taken_for_a_test_splits(no_test_run):
    folder = no_test_run.folder
    assert folder.name == "tiny_test_net-ep1-lr0.002-val0.25-test0"
    tables = {"metrics", "samplewise", "cooccurrence", "subgroups", "reliability"}
    assert files_below(folder) == {
        "model.keras",
        "history.csv",
        "predictions_val.csv",
        "run.json",
        "loss.png",
        "validation/reliability.png",
        *(f"validation/{name}.csv" for name in tables),
    }
    assert no_test_run.evaluation.folder == folder / "validation"
    written = pd.read_csv(folder / "validation" / "metrics.csv")
    pd.testing.assert_frame_equal(written, no_test_run.metrics, check_dtype=False, atol=1e-6)
    assert set(no_test_run.evaluation.predictions["split"]) == {"val"}


def test_run_json_and_the_card_say_that_there_is_no_test_split(no_test_run):
    info = json.loads((no_test_run.folder / "run.json").read_text())
    assert info["data"]["sizes"] == {"train": 30, "val": 10, "test": 0}
    assert info["loss"]["test"] is None
    assert info["test_averages"] is None
    for told in (info["settings"], info["data"], model_file.read_card(no_test_run.folder).data):
        assert (told["val_share"], told["test_share"]) == (0.25, 0)
    notice = no_test_run.evaluation.notice
    assert "no test split: these numbers are of its validation split, which chose its epoch" in (
        notice
    )
    assert "say nothing about patients" in notice


@pytest.mark.slow
def test_every_run_has_the_averages_of_its_validation_split(run, no_test_run, tmp_path):
    for one in (run, no_test_run):
        found = evaluate(one.folder, split="val", out=tmp_path / one.folder.name, resamples=0)
        for measure, mean in one.info["val_averages"].items():
            expected = average(found.metrics, measure)
            assert mean is None if pd.isna(expected) else mean == pytest.approx(expected, abs=1e-5)
    assert run.info["test_averages"]["auroc"] == pytest.approx(
        average(run.metrics, "auroc"), abs=1e-6
    )
    assert run.info["data"]["test_share"] == run.info["data"]["val_share"] == 0.2
    assert "no test split" not in run.evaluation.notice


def test_other_shares_are_another_run(no_test_run, phantoms, tiny_model):
    options = {"epochs": 1, "lr": 0.002, "folder": no_test_run.folder.parent}
    options["name"] = no_test_run.folder.name
    with pytest.raises(RunError, match=r"other settings \(val_share 0\.25 → 0\.2, test_share 0\.0"):
        train(tiny_model, phantoms, **options)


@pytest.mark.slow
def test_the_command_line_shows_validation_and_says_so(phantoms, tiny_model, tmp_path):
    shares = ["--val-share", "0.1", "--test-share", "0", "--epochs", "1"]
    command = ["train", tiny_model, "--data", str(phantoms), "--output-dir", str(tmp_path)]
    result = CliRunner().invoke(main, [*command, *shares])
    assert result.exit_code == 0, result.stderr
    assert "36 train / 4 val / no test" in result.stderr
    assert "average of 14 findings" in result.stdout
    assert "4 images; " in result.stdout
    assert " val (epoch 1, kept).\n" in result.stdout
    assert "so they flatter it. `cxr-keras evaluate RUN --data OTHER` measures it" in result.stdout


@pytest.mark.slow
def test_a_run_that_replaces_one_with_a_test_split_leaves_nothing_of_it(
    run, phantoms, tiny_model, tmp_path
):
    shutil.copytree(run.folder, tmp_path / "x")
    again = train(
        tiny_model, phantoms, epochs=1, folder=tmp_path, name="x", overwrite=True, **SHARES
    )
    assert again.evaluation.folder == tmp_path / "x" / "validation"
    assert (again.evaluation.folder / "metrics.csv").is_file()
    assert not {"metrics.csv", "predictions.csv"} & files_below(tmp_path / "x")


@pytest.mark.slow
def test_a_frozen_network_trains_without_a_test_split(phantoms, tmp_path):
    """Its features are stored, for a test split of no image, too."""
    import keras

    grey = keras.Input((256, 256, 1))
    x = keras.layers.Conv2D(4, 9, strides=16, name="frozen", trainable=False)(grey)
    x = keras.layers.GlobalAveragePooling2D()(x)
    network = keras.Model(grey, keras.layers.Dense(15, activation="sigmoid")(x), name="cut")
    done = train(network, phantoms, epochs=1, folder=tmp_path, **SHARES)
    assert done.evaluation.assessment.images == 10
