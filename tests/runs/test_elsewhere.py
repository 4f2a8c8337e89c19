"""Runs whose folder was moved, whose phantoms are gone, or whose images have copies."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_keras import calibrate, ensemble, evaluate, predict, train
from cxr_keras.data.labels import LABELS
from cxr_keras.data.preparation import prepare
from cxr_keras.data.readers.nih import read_label_table
from cxr_keras.data.source import drawn_again, resolve_data
from cxr_keras.runs import run_folder

COLUMNS = [f"prob_{label}" for label in LABELS]


def assert_same_predictions(evaluation, folder):
    before = pd.read_csv(folder / "predictions.csv")
    assert evaluation.predictions["Image Index"].tolist() == before["Image Index"].tolist()
    np.testing.assert_allclose(evaluation.predictions[COLUMNS], before[COLUMNS], atol=1e-6)


@pytest.mark.slow
def test_a_run_folder_that_was_moved_works(run, phantoms, tiny_model, tmp_path, monkeypatch):
    """By a relative path, from inside it, and from elsewhere."""
    other = train(tiny_model, phantoms, epochs=1, seed=3, folder=str(tmp_path / "before"))
    shutil.copytree(run.folder, tmp_path / "after" / "a")
    other.folder.rename(tmp_path / "after" / "b")
    (tmp_path / "before").rmdir()
    monkeypatch.chdir(tmp_path / "after" / "b")
    assert_same_predictions(evaluate("../a", resamples=0), run.folder)
    shutil.copy(next((phantoms / "images").iterdir()), "image.png")
    here, there = predict(".", ["image.png"])[0], predict(tmp_path / "after/b", ["image.png"])[0]
    assert here.probabilities == there.probabilities
    assert calibrate(".", resamples=0).folder.resolve() == tmp_path / "after" / "b"
    both = ensemble([".", "../a"], name="both", folder="..", resamples=0)
    assert_same_predictions(evaluate("../both", resamples=0), both.folder)


@pytest.mark.slow
def test_an_interrupted_run_that_was_moved_goes_on(run, phantoms, tiny_model, tmp_path):
    folder = shutil.copytree(run.folder, tmp_path / "moved" / "renamed")
    run_folder.write_run(folder, run_folder.read_run(folder) | {"status": "running"})
    options = {"epochs": 3, "lr": 0.002, "folder": str(folder.parent), "name": "renamed"}
    assert train(tiny_model, phantoms, resume=True, **options).folder == folder
    assert run_folder.read_run(folder)["status"] == "done"


@pytest.fixture
def few_phantoms(tmp_path, monkeypatch):
    """An empty cache folder, a working folder without data, and few default phantoms."""
    monkeypatch.setenv("CXR_KERAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cxr_keras.data.phantom.PHANTOM_COUNT", 12)
    return tmp_path / "cache"


def test_built_in_phantoms_are_found_or_drawn_the_same(few_phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr("cxr_keras.data.phantom.PHANTOM_COUNT", 1)
    first = resolve_data(None)
    drawn = {path.name: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    assert drawn_again(first, phantoms=True) == first
    shutil.rmtree(few_phantoms)
    assert drawn_again(first, phantoms=False) == first  # somebody's folder that is called so
    again = drawn_again(first, phantoms=True)
    assert {path.name: path.read_bytes() for path in again.rglob("*") if path.is_file()} == drawn
    assert drawn_again(Path(first.name), phantoms=True) == again  # a model file names no path
    assert drawn_again(tmp_path / "mine", phantoms=True) == tmp_path / "mine"  # not ours to draw


@pytest.mark.slow
def test_built_in_phantoms_that_are_gone_are_drawn_again(few_phantoms, tiny_model, capsys):
    run = train(tiny_model, epochs=1, folder="runs")
    shutil.rmtree(few_phantoms)
    os.environ["CXR_KERAS_CACHE"] += "-moved"  # the fixture takes it back
    capsys.readouterr()
    assert_same_predictions(evaluate(run.folder, resamples=0), run.folder)
    said = capsys.readouterr().err
    assert "Drawing 12 phantom radiographs" in said
    assert "data has changed" not in said
    shutil.rmtree(f"{few_phantoms}-moved")
    calibrate(run.folder, resamples=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["patient", *(pytest.param(m, marks=pytest.mark.slow) for m in ("paper", "official"))]
)
def test_a_run_on_images_with_copies_is_evaluated_and_calibrated(
    phantoms, tiny_model, tmp_path, capsys, method
):
    """Ten images again under other names, half of them of other patients."""
    data = shutil.copytree(phantoms, tmp_path / "data")
    table = data / "Data_Entry_2017_v2020.csv"
    lines = table.read_text().splitlines()
    for i, line in enumerate(lines[1:41:4]):
        name, labels, number, patient, *rest = line.split(",")
        copy = f"9{name}"
        shutil.copy(data / "images" / name, data / "images" / copy)
        patient = patient if i % 2 else f"999{i}"
        lines.append(",".join([copy, labels, number, patient, *rest]))
        with (data / ("train_val_list.txt", "test_list.txt")[i % 2]).open("a") as file:
            file.write(f"{copy}\n")
    table.write_text("\n".join(lines) + "\n")
    manifest = prepare(data, split_method=method).manifest
    assert manifest.groupby("digest")["split"].nunique().max() == 1
    assert "10 images are copies of others under other names" in capsys.readouterr().err
    run = train(tiny_model, data, epochs=1, split_method=method, folder=str(tmp_path / "runs"))
    assert_same_predictions(evaluate(run.folder, resamples=0), run.folder)
    calibrate(run.folder, resamples=0)
    if method == "official":
        listed = set((data / "test_list.txt").read_text().split())
        assert set(manifest.loc[manifest["split"] == "test", "Image Index"]) == listed
        assert len(manifest) < len(read_label_table(table)[0])
    else:
        assert len(manifest) == 50
