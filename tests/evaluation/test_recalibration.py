"""Thresholds, scaling and prevalence chosen anew."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from helpers.model_files import as_written_before, read_member

from cxr_keras import calibrate, ensemble, evaluate, load_model, predict, train
from cxr_keras.data.images import read_image
from cxr_keras.data.labels import LABELS
from cxr_keras.data.preparation import prepare
from cxr_keras.errors import CxrError
from cxr_keras.inference.grad_cam import grad_cam
from cxr_keras.metrics.calibration import Scaling
from cxr_keras.runs import model_file, run_folder

COLUMNS = [f"prob_{label}" for label in LABELS]
LISTS = (model_file.TRAINED_ON, model_file.TUNED_ON)


@pytest.fixture
def copy(many_labels_run, tmp_path):
    """A copy of a run that a test may change."""
    return shutil.copytree(many_labels_run.folder, tmp_path / "copy")


def probabilities(folder, name="predictions.csv"):
    return pd.read_csv(folder / name)[COLUMNS].to_numpy()


def pixels_of(folder, data):
    names = pd.read_csv(folder / "predictions.csv")["Image Index"]
    return np.stack([read_image(data / "images" / name) for name in names])[..., None]


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_thresholds_for_a_sensitivity_go_into_the_card(many_labels_run, copy):
    before = load_model(copy).get_weights()
    result = calibrate(copy, sensitivity=1.0, resamples=0)
    card = model_file.read_card(copy)
    assert result.assessment.thresholds == dict(zip(card.labels, card.thresholds, strict=True))
    validation = pd.read_csv(copy / "predictions_val.csv")
    for label, threshold in zip(card.labels, card.thresholds, strict=True):
        positive = validation.loc[validation[f"true_{label}"] == 1, f"prob_{label}"]
        if len(positive) >= 5:
            assert (positive >= threshold).all(), label
    info = run_folder.read_run(copy)
    assert info["thresholds"] == pytest.approx(result.assessment.thresholds)
    assert info["calibration"]["sensitivity"] == card.calibration["sensitivity"] == 1.0
    for a, b in zip(before, load_model(copy).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for member in LISTS:
        assert read_member(copy, member) == read_member(many_labels_run.folder, member)


def test_every_way_to_use_a_calibrated_file_gives_the_same(
    many_labels_run, copy, many_labels, tiny_model, tmp_path
):
    """Within 1e-6: this package's load_model, a bare Keras, predict, evaluate, an ensemble."""
    result = calibrate(copy, method="platt", resamples=0)
    expected = probabilities(copy)
    calibration = model_file.read_card(copy).calibration
    scaling = Scaling.from_dict(calibration)
    raw = probabilities(many_labels_run.folder)
    assert np.abs(expected - raw).max() > 0.01
    np.testing.assert_allclose(expected, scaling.apply(raw), atol=1e-6)
    np.testing.assert_allclose(result.predictions[COLUMNS], expected, atol=1e-6)
    pixels = pixels_of(copy, many_labels)
    ours = load_model(copy).predict_on_batch(pixels)
    bare = keras.saving.load_model(copy / "model.keras").predict_on_batch(pixels)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    np.testing.assert_array_equal(bare, ours)
    names = pd.read_csv(copy / "predictions.csv")["Image Index"]
    rows = predict(copy, [many_labels / "images" / name for name in names])
    np.testing.assert_allclose(
        [list(row.probabilities.values()) for row in rows], expected, atol=1e-6
    )
    again = evaluate(copy, resamples=0)
    np.testing.assert_allclose(again.predictions[COLUMNS], expected, atol=1e-6)
    assert again.folder == copy
    twin = shutil.copytree(many_labels_run.folder, tmp_path / "twin")
    both = ensemble([copy, twin], name="both", folder=tmp_path, resamples=0)
    mean = (expected + raw) / 2
    np.testing.assert_allclose(both.predictions[COLUMNS], mean, atol=1e-6)
    np.testing.assert_allclose(load_model(both.folder).predict_on_batch(pixels), mean, atol=1e-6)


@pytest.mark.slow
def test_validation_predictions_and_thresholds_are_of_the_same_probabilities(copy):
    from cxr_keras.metrics.thresholds import choose_thresholds

    calibrate(copy, method="platt", resamples=0)
    table = pd.read_csv(copy / "predictions_val.csv")
    truth = table[[f"true_{label}" for label in LABELS]]
    limits, _ = choose_thresholds(truth, table[COLUMNS], labels=LABELS)
    np.testing.assert_allclose(model_file.read_card(copy).thresholds, limits, atol=1e-6)


@pytest.mark.slow
def test_calibrating_again_begins_with_the_raw_outputs(many_labels_run, copy, tmp_path):
    straight = shutil.copytree(copy, tmp_path / "straight")
    calibrate(straight, method="temperature", resamples=0)
    for method in ("platt", "temperature"):
        calibrate(copy, method=method, resamples=0)
    np.testing.assert_array_equal(probabilities(copy), probabilities(straight))
    assert read_member(copy, "card.json") == read_member(straight, "card.json")
    calibrate(copy, resamples=0)
    raw = many_labels_run.folder
    np.testing.assert_allclose(probabilities(copy), probabilities(raw), atol=1e-6)
    assert len(load_model(copy).layers) == len(load_model(raw).layers)


@pytest.mark.slow
def test_an_ensemble_is_calibrated_like_a_network(many_labels_run, copy, many_labels, tmp_path):
    other = shutil.copytree(many_labels_run.folder, tmp_path / "other")
    calibrate(other, method="temperature", resamples=0)
    both = ensemble([copy, other], name="both", folder=tmp_path, resamples=0).folder
    raw = probabilities(both)
    result = calibrate(both, method="platt", resamples=0)
    scaling = Scaling.from_dict(model_file.read_card(both).calibration)
    np.testing.assert_allclose(result.predictions[COLUMNS], scaling.apply(raw), atol=1e-6)
    found = load_model(both).predict_on_batch(pixels_of(both, many_labels))
    np.testing.assert_allclose(found, result.predictions[COLUMNS], atol=1e-6)
    calibrate(both, resamples=0)
    np.testing.assert_allclose(probabilities(both), raw, atol=1e-6)


@pytest.mark.slow
def test_the_heat_map_of_a_calibrated_file_is_that_of_the_network(copy, many_labels):
    image = read_image(many_labels / "images" / "3.png")
    before = grad_cam(load_model(copy), image, [0, 7])
    calibrate(copy, method="platt", resamples=0)
    np.testing.assert_array_equal(grad_cam(load_model(copy), image, [0, 7]), before)


def test_a_file_written_before_the_scaling_was_in_the_graph(copy, many_labels, tmp_path):
    """Its card scales its outputs, names its data by their path, and lists plain digests."""
    raw = probabilities(copy)
    rng = np.random.default_rng(0)
    scaling = Scaling("platt", tuple(rng.uniform(0.2, 3, 15)), tuple(rng.normal(0, 1, 15)))
    manifest = prepare(many_labels).manifest
    digests = {name: set(rows["digest"]) for name, rows in manifest.groupby("split")}
    as_written_before(
        copy,
        scaling=scaling.to_dict(),
        root=many_labels,
        trained_on=digests["train"],
        tuned_on=digests["val"],
    )
    expected = scaling.apply(raw)
    found = load_model(copy).predict_on_batch(pixels_of(copy, many_labels))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    alone = shutil.copy(copy / "model.keras", tmp_path / "alone.keras")
    np.testing.assert_allclose(
        evaluate(alone, resamples=0).predictions[COLUMNS], expected, atol=1e-6
    )
    name = pd.read_csv(copy / "predictions.csv")["Image Index"][0]
    row = predict(alone, [many_labels / "images" / name])[0]
    np.testing.assert_allclose(list(row.probabilities.values()), expected[0], atol=1e-6)
    with pytest.raises(CxrError, match="was trained on 76 of these 76 images"):
        evaluate(copy, split="train")
    calibrate(copy, resamples=0)
    np.testing.assert_allclose(probabilities(copy), raw, atol=1e-6)
    assert str(many_labels) not in read_member(copy, "card.json")
    for member, split in zip(LISTS, ("train", "val"), strict=True):
        count = len(digests[split])
        assert model_file.count_listed(copy, member, manifest["digest"]) == count
        assert not digests[split] & set(read_member(copy, member).split("\n"))


def test_another_data_folder_has_no_validation_split_to_calibrate_on(copy, make_folder):
    rows = [(f"{i}.png", label, i) for i, label in enumerate(LABELS)]
    before = content(copy)
    with pytest.raises(CxrError, match="was not trained on"):
        calibrate(copy, make_folder(rows))
    assert content(copy) == before


@pytest.mark.slow
def test_a_file_on_its_own_is_calibrated_with_its_tables_beside_it(copy, many_labels, tmp_path):
    file = Path(shutil.copy(copy / "model.keras", tmp_path / "x.keras"))
    (tmp_path / "metrics.csv").write_text("mine")
    result = calibrate(file, many_labels, method="platt", resamples=0)
    assert result.folder == tmp_path / "x"
    found = load_model(file).predict_on_batch(pixels_of(tmp_path / "x", many_labels))
    np.testing.assert_allclose(found, probabilities(tmp_path / "x"), atol=1e-6)
    assert (tmp_path / "metrics.csv").read_text() == "mine"
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


# --- all files or none ---------------------------------------------------------------------------


def test_a_disk_that_fills_late_leaves_the_old_run_whole(copy):
    """Network and tables are written, the predictions of the validation split are not."""
    before = content(copy)
    code = (
        "import sys, resource\n"
        "from cxr_keras import calibrate\n"
        "from cxr_keras.utils import files\n"
        "from cxr_keras.evaluation import recalibration\n"
        "write = recalibration.write_table\n"
        "def full(table, target):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "    write(table, target)\n"
        "recalibration.write_table = full\n"
        "calibrate(sys.argv[1], method='platt', resamples=0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(copy)], capture_output=True, text=True, timeout=170
    )
    assert f"{copy}/predictions_val.csv cannot be written (File too large)" in result.stderr
    assert content(copy) == before
    assert not [path.name for path in copy.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_run_whole(copy):
    resource = pytest.importorskip("resource")
    before = content(copy)
    limit = 20_000  # more than run.json, less than the reliability diagram
    result = subprocess.run(
        [sys.executable, "-m", "cxr_keras", "calibrate", str(copy), "--method", "platt"],
        capture_output=True,
        text=True,
        timeout=170,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert result.returncode == 1
    assert "cannot be written (File too large). Make room" in result.stderr
    assert content(copy) == before


@pytest.mark.slow
@pytest.mark.parametrize("moved", [0, 1, 4])
def test_killed_while_the_files_are_moved_the_change_is_completed_by_the_next_reader(
    copy, tmp_path, moved
):
    done = shutil.copytree(copy, tmp_path / "done")
    calibrate(done, method="platt", resamples=0)
    code = (
        "import os, sys\n"
        "from cxr_keras import calibrate\n"
        "replace, count = os.replace, 0\n"
        "def killed(source, target):\n"
        "    global count\n"
        "    if '.new/' in str(source):\n"
        "        if count == int(sys.argv[2]):\n"
        "            os.kill(os.getpid(), 9)\n"
        "        count += 1\n"
        "    replace(source, target)\n"
        "os.replace = killed\n"
        "calibrate(sys.argv[1], method='platt', resamples=0)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(copy), str(moved)], capture_output=True, timeout=170
    )
    assert result.returncode == -9
    assert content(copy) != content(done)
    model_file.read_card(copy)  # any use of it
    now, then = content(copy), content(done)
    assert now.keys() == then.keys()
    for name in set(now) - {"model.keras", "reliability.png"}:  # archives hold their dates
        assert now[name] == then[name], name
    assert read_member(copy, "card.json") == read_member(done, "card.json")
    assert not [path.name for path in copy.iterdir() if path.name.startswith(".")]


# --- another prevalence --------------------------------------------------------------------------


def write_prevalence(path, **shares):
    lines = [f"{label.replace('_', ' ')},{share}" for label, share in shares.items()]
    path.write_text("\n".join(["label,prevalence", *lines]) + "\n")
    return path


def odds(p):
    return p / (1 - p)


@pytest.mark.parametrize("method", [pytest.param("none", marks=pytest.mark.slow), "platt"])
def test_probabilities_move_by_the_odds_of_the_prevalence(
    copy, many_labels, tmp_path, method, capsys
):
    file = write_prevalence(tmp_path / "there.csv", Mass=0.02, edema=0.6, No_Finding=0.7)
    calibrate(copy, method=method, resamples=0)
    here = probabilities(copy)
    val = pd.read_csv(copy / "predictions_val.csv")
    result = calibrate(copy, method=method, prevalence=file, resamples=0)
    there = probabilities(copy)
    said = capsys.readouterr().err
    rates = run_folder.read_run(copy)["data"]["base_rates"]
    wanted = {"Mass": 0.02, "Edema": 0.6, "No Finding": 0.7}
    for i, label in enumerate(LABELS):
        positives = val[f"true_{label}"].sum()
        share = positives / len(val) if method == "platt" and positives >= 5 else rates[label]
        factor = odds(wanted[label]) / odds(share) if label in wanted else 1
        np.testing.assert_allclose(
            odds(there[:, i]), odds(here[:, i]) * factor, rtol=1e-4, err_msg=label
        )
    found = load_model(copy).predict_on_batch(pixels_of(copy, many_labels))
    np.testing.assert_allclose(found, there, atol=1e-6)
    card, info = model_file.read_card(copy), run_folder.read_run(copy)
    moved = card.calibration["prevalence"]
    assert moved["new"] == wanted
    assert moved["source"] == "there.csv"
    assert moved["old"].keys() == wanted.keys()
    assert info["calibration"] == card.calibration
    assert "for the prevalence of there.csv" in card.notice == result.notice == info["notice"]
    assert f"Mass {moved['old']['Mass']:.3g} → 0.02" in said
    assert "images with a label look the same" in said
    assert "stay as they are: Atelectasis, Cardiomegaly" in said
    assert ("taken to be right at the training split's" in said) == (method == "none")
    calibrate(copy, method=method, resamples=0)
    np.testing.assert_allclose(probabilities(copy), here, atol=1e-6)
    assert model_file.read_card(copy).notice == ""


@pytest.mark.slow
def test_a_label_table_of_another_place_and_its_thresholds(copy, many_labels, tmp_path, run_cli):
    """Thresholds of the highest F1 that the validation split would have with that prevalence."""
    table = tmp_path / "Data_Entry_2017.csv"
    header = (many_labels / "Data_Entry_2017_v2020.csv").read_text().split("\n")[0]
    rows = [f"{i}.png,{'Mass' if i < 5 else 'No Finding'},0,{i}" for i in range(100)]
    table.write_text("\n".join([header, *rows]))
    result = run_cli(
        "calibrate", copy, "--method", "platt", "--prevalence", table, "--resamples", 0
    )
    assert result.returncode == 0, result.stderr
    assert "for the prevalence of Data_Entry_2017.csv" in result.stdout
    assert "gives no prevalence above 0 and below 1 of these labels" in result.stderr
    assert model_file.read_card(copy).calibration["prevalence"]["new"] == {
        "Mass": 0.05,
        "No Finding": 0.95,
    }
    val = pd.read_csv(copy / "predictions_val.csv")
    truth, score = val["true_Mass"].to_numpy() == 1, val["prob_Mass"].to_numpy()
    weight = np.where(truth, 0.05 / truth.mean(), 0.95 / (1 - truth.mean()))

    def f1(threshold):
        positive = score >= threshold
        return 2 * weight[positive & truth].sum() / (weight[positive].sum() + weight[truth].sum())

    card = model_file.read_card(copy)
    threshold = card.thresholds[card.labels.index("Mass")]
    assert f1(threshold) == pytest.approx(max(map(f1, score)))


@pytest.mark.slow
def test_runs_moved_to_a_prevalence_are_not_averaged(many_labels_run, copy, tmp_path):
    file = write_prevalence(tmp_path / "there.csv", Mass=0.02)
    calibrate(copy, prevalence=file, resamples=0)
    with pytest.raises(CxrError, match="was moved to another prevalence"):
        ensemble([many_labels_run.folder, copy], name="x", folder=tmp_path)


def test_a_bad_prevalence_is_a_sentence_and_changes_nothing(copy, tmp_path):
    before = content(copy)
    bad = tmp_path / "bad.csv"
    bad.write_text("label,prevalence\nMass,2%\n")
    with pytest.raises(CxrError, match=r"above 0 and below 1 .*Received: '2%' for Mass"):
        calibrate(copy, prevalence=bad)
    assert content(copy) == before


# --- what is in the file -------------------------------------------------------------------------


def test_no_path_of_this_machine_is_in_a_model_file(many_labels_run, copy, many_labels, tmp_path):
    import zipfile

    both = ensemble([many_labels_run.folder, copy], name="both", folder=tmp_path, resamples=0)
    calibrate(copy, method="platt", resamples=0)
    for folder in (many_labels_run.folder, both.folder, copy):
        with zipfile.ZipFile(folder / "model.keras") as archive:
            for name in archive.namelist():
                for part in (many_labels.parent, many_labels_run.folder.parent, tmp_path):
                    assert os.fsencode(part) not in archive.read(name), (name, part)
        card = json.loads(read_member(folder, "card.json"))
        assert card["data"]["root"] == "labels"
    members = json.loads(read_member(both.folder, "card.json"))["settings"]["members"]
    assert [member["run"] for member in members] == [many_labels_run.folder.name, "copy"]
    info = run_folder.read_run(both.folder)
    assert info["data"]["root"] == str(many_labels)
    assert info["settings"]["members"][1]["run"] == str(copy)


@pytest.mark.slow
def test_training_without_provenance_lists_no_image(many_labels, tiny_model, tmp_path, capsys):
    runs = [
        train(tiny_model, many_labels, epochs=1, lr=lr, provenance=False, folder=str(tmp_path))
        for lr in (0.01, 0.02)
    ]
    both = ensemble([run.folder for run in runs], name="both", folder=tmp_path, resamples=0)
    calibrate(runs[0].folder, method="platt", resamples=0)
    import zipfile

    for folder in (runs[0].folder, both.folder):
        with zipfile.ZipFile(folder / "model.keras") as archive:
            assert not set(LISTS) & set(archive.namelist())
        evaluate(folder, resamples=0)
        assert "does not say which images it was trained on" in capsys.readouterr().err
