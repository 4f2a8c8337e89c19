"""Networks without a test split: measured, calibrated, averaged and compared."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers.model_files import replace_card
from helpers.run_folders import COLUMNS, probabilities

from cxr_keras import calibrate, compare, ensemble, evaluate, load_model
from cxr_keras.data.phantom import write_phantoms
from cxr_keras.errors import CxrError
from cxr_keras.runs import model_file, run_folder

FLATTERS = "of its validation split, which chose its epoch, its thresholds and any calibration"


@pytest.fixture
def no_test_copy(no_test_run, tmp_path):
    return shutil.copytree(no_test_run.folder, tmp_path / "copy")


def everything(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_evaluate_says_what_to_do_in_place_of_a_test_split(no_test_run, phantoms, tmp_path):
    for where in ({}, {"data": phantoms}, {"split": "test"}):
        with pytest.raises(CxrError, match=r"has no test split: .*--data FOLDER, or with --split"):
            evaluate(no_test_run.folder, out=tmp_path / "out", **where)
    assert not list(tmp_path.iterdir())


def test_its_validation_split_is_rebuilt_and_flatters(no_test_run, tmp_path, capsys):
    found = evaluate(no_test_run.folder, split="val", resamples=0, out=tmp_path)
    kept = pd.read_csv(no_test_run.folder / "predictions_val.csv")
    assert found.predictions["Image Index"].tolist() == kept["Image Index"].tolist()
    np.testing.assert_allclose(found.predictions[COLUMNS], kept[COLUMNS], atol=1e-6)
    said = capsys.readouterr().err
    assert "10 of these 10 images chose this network's epoch and thresholds: they flatter" in said


@pytest.mark.slow
def test_other_data_measure_it(no_test_run, tmp_path):
    other = write_phantoms(tmp_path / "other", count=12, seed=11)
    found = evaluate(no_test_run.folder, other, resamples=0, out=tmp_path / "out")
    assert found.assessment.images == 12
    assert "no test split" not in found.notice


def test_a_card_without_shares_means_the_defaults(run, copy, tmp_path):
    card = model_file.read_card(copy)
    old = {name: value for name, value in card.data.items() if "share" not in name.split("_")}
    assert set(card.data) - set(old) == {"val_share", "test_share"}
    replace_card(copy, dataclasses.replace(card, data=old))
    found = evaluate(copy, resamples=0, out=tmp_path / "out")
    names = pd.read_csv(run.folder / "predictions.csv")["Image Index"]
    assert found.predictions["Image Index"].tolist() == names.tolist()


def test_calibrate_replaces_the_tables_of_validation(no_test_copy):
    raw = probabilities(no_test_copy, "predictions_val.csv")
    before = everything(no_test_copy)
    found = calibrate(no_test_copy, method="temperature", resamples=0)
    assert found.folder == no_test_copy / "validation"
    assert FLATTERS in found.notice
    after = everything(no_test_copy)
    assert set(after) == set(before)
    changed = {path.name for path in after if after[path] != before[path]}
    assert {"model.keras", "metrics.csv", "predictions_val.csv", "run.json"} <= changed
    now = probabilities(no_test_copy, "predictions_val.csv")
    assert np.abs(now - raw).max() > 1e-4
    np.testing.assert_allclose(found.predictions[COLUMNS], now, atol=1e-6)


@pytest.mark.slow
def test_a_file_on_its_own_is_calibrated_into_a_folder_of_its_own(no_test_run, phantoms, tmp_path):
    shutil.copy(no_test_run.folder / "model.keras", tmp_path / "x.keras")
    found = calibrate(tmp_path / "x.keras", phantoms, resamples=0)
    assert found.folder == tmp_path / "x" / "validation"
    assert (found.folder / "metrics.csv").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"x", "x.keras"}
    assert {path.name for path in (tmp_path / "x").iterdir()} == {
        "validation",
        "predictions_val.csv",
    }


@pytest.mark.slow
def test_an_ensemble_of_such_networks_is_one(no_test_run, no_test_copy, phantoms, tmp_path):
    calibrate(no_test_copy, method="temperature", resamples=0)  # so that the members differ
    members = [no_test_run.folder, no_test_copy]
    both = ensemble(members, name="both", weighted=True, folder=tmp_path, resamples=0)
    assert both.folder == tmp_path / "both" / "validation"
    assert (both.folder / "metrics.csv").is_file()
    assert not {"metrics.csv", "predictions.csv"} & {p.name for p in (tmp_path / "both").iterdir()}
    assert FLATTERS in both.notice
    mean = sum(probabilities(folder, "predictions_val.csv") for folder in members) / 2
    np.testing.assert_allclose(both.predictions[COLUMNS], mean, atol=1e-6)
    assert load_model(tmp_path / "both").output_shape == (None, 15)
    data = run_folder.read_run(tmp_path / "both")["data"]
    assert (data["val_share"], data["test_share"]) == (0.25, 0)
    with pytest.raises(CxrError, match="has no test split"):
        evaluate(tmp_path / "both")


def test_it_joins_no_ensemble_with_a_network_that_has_a_test_split(run, no_test_run, tmp_path):
    with pytest.raises(CxrError, match=r"different data or splits.*--val-share, --test-share"):
        ensemble([run.folder, no_test_run.folder], name="x", folder=tmp_path)


def test_two_such_runs_are_compared_on_validation_and_it_is_said_once(
    no_test_run, no_test_copy, tmp_path, capsys
):
    table = compare(no_test_run.folder, no_test_copy, resamples=5)
    said = [line for line in capsys.readouterr().err.splitlines() if "validation split" in line]
    assert len(said) == 1
    assert str(no_test_run.folder) in said[0]
    assert str(no_test_copy) in said[0]
    files = [folder / "predictions_val.csv" for folder in (no_test_run.folder, no_test_copy)]
    pd.testing.assert_frame_equal(table, compare(*files, resamples=5))
    assert "validation split" not in capsys.readouterr().err  # named by the user


def test_a_run_whose_test_predictions_are_gone_is_compared_on_validation(run, copy, capsys):
    (copy / "predictions.csv").unlink()
    with pytest.raises(CxrError, match="have no image in common"):
        compare(run.folder, copy, resamples=5)
    assert f"No predictions of a test split in {copy}: compared on" in capsys.readouterr().err
    (copy / "predictions_val.csv").unlink()
    with pytest.raises(CxrError, match=r"There is no .*predictions\.csv"):
        compare(run.folder, copy, resamples=5)
