"""Thresholds and scaling chosen anew."""

import shutil
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from helpers.model_files import as_written_before, read_member
from helpers.refusals import refusal
from helpers.run_folders import COLUMNS, content, pixels_of, probabilities

from cxr_keras import calibrate, ensemble, evaluate, load_model, predict
from cxr_keras.data.images import read_image
from cxr_keras.data.labels import LABELS
from cxr_keras.data.preparation import prepare
from cxr_keras.errors import CxrError
from cxr_keras.inference.grad_cam import grad_cam
from cxr_keras.metrics.calibration import Scaling
from cxr_keras.runs import model_file, run_folder

LISTS = (model_file.TRAINED_ON, model_file.TUNED_ON)


def test_thresholds_for_a_sensitivity_go_into_the_card(many_labels_run, many_copy):
    before = load_model(many_copy).get_weights()
    result = calibrate(many_copy, sensitivity=1.0, resamples=0)
    card = model_file.read_card(many_copy)
    assert result.assessment.thresholds == dict(zip(card.labels, card.thresholds, strict=True))
    validation = pd.read_csv(many_copy / "predictions_val.csv")
    for label, threshold in zip(card.labels, card.thresholds, strict=True):
        positive = validation.loc[validation[f"true_{label}"] == 1, f"prob_{label}"]
        if len(positive) >= 5:
            assert (positive >= threshold).all(), label
    info = run_folder.read_run(many_copy)
    assert info["thresholds"] == pytest.approx(result.assessment.thresholds)
    assert info["calibration"]["sensitivity"] == card.calibration["sensitivity"] == 1.0
    average = result.metrics.set_index("label").loc["average of 14 findings"]
    for measure in ("recall", "f1", "auroc"):
        assert info["test_averages"][measure] == pytest.approx(average[measure], abs=1e-6)
    assert info["test_averages"]["recall"] != many_labels_run.info["test_averages"]["recall"]
    assert info["val_averages"]["recall"] > many_labels_run.info["val_averages"]["recall"]
    assert info["loss"] == many_labels_run.info["loss"]  # probabilities are what they were
    for a, b in zip(before, load_model(many_copy).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for member in LISTS:
        assert read_member(many_copy, member) == read_member(many_labels_run.folder, member)


@pytest.mark.slow
def test_every_way_to_use_a_calibrated_file_gives_the_same(
    many_labels_run, many_copy, many_labels, tiny_model, tmp_path
):
    """Within 1e-6: this package's load_model, a bare Keras, predict, evaluate, an ensemble."""
    result = calibrate(many_copy, method="platt", resamples=0)
    expected = probabilities(many_copy)
    calibration = model_file.read_card(many_copy).calibration
    scaling = Scaling.from_dict(calibration)
    raw = probabilities(many_labels_run.folder)
    assert np.abs(expected - raw).max() > 0.01
    np.testing.assert_allclose(expected, scaling.apply(raw), atol=1e-6)
    np.testing.assert_allclose(result.predictions[COLUMNS], expected, atol=1e-6)
    pixels = pixels_of(many_copy, many_labels)
    ours = load_model(many_copy).predict_on_batch(pixels)
    bare = keras.saving.load_model(many_copy / "model.keras").predict_on_batch(pixels)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    np.testing.assert_array_equal(bare, ours)
    names = pd.read_csv(many_copy / "predictions.csv")["Image Index"]
    rows = predict(many_copy, [many_labels / "images" / name for name in names])
    np.testing.assert_allclose(
        [list(row.probabilities.values()) for row in rows], expected, atol=1e-6
    )
    again = evaluate(many_copy, resamples=0)
    np.testing.assert_allclose(again.predictions[COLUMNS], expected, atol=1e-6)
    assert again.folder == many_copy
    twin = shutil.copytree(many_labels_run.folder, tmp_path / "twin")
    both = ensemble([many_copy, twin], name="both", folder=tmp_path, resamples=0)
    mean = (expected + raw) / 2
    np.testing.assert_allclose(both.predictions[COLUMNS], mean, atol=1e-6)
    np.testing.assert_allclose(load_model(both.folder).predict_on_batch(pixels), mean, atol=1e-6)


@pytest.mark.slow
def test_validation_predictions_and_thresholds_are_of_the_same_probabilities(many_copy):
    from cxr_keras.metrics.thresholds import choose_thresholds

    calibrate(many_copy, method="platt", resamples=0)
    table = pd.read_csv(many_copy / "predictions_val.csv")
    truth = table[[f"true_{label}" for label in LABELS]]
    limits, _ = choose_thresholds(truth, table[COLUMNS], labels=LABELS)
    np.testing.assert_allclose(model_file.read_card(many_copy).thresholds, limits, atol=1e-6)


@pytest.mark.slow
def test_calibrating_again_begins_with_the_raw_outputs(many_labels_run, many_copy, tmp_path):
    straight = shutil.copytree(many_copy, tmp_path / "straight")
    calibrate(straight, method="temperature", resamples=0)
    for method in ("platt", "temperature"):
        calibrate(many_copy, method=method, resamples=0)
    np.testing.assert_array_equal(probabilities(many_copy), probabilities(straight))
    assert read_member(many_copy, "card.json") == read_member(straight, "card.json")
    calibrate(many_copy, resamples=0)
    raw = many_labels_run.folder
    np.testing.assert_allclose(probabilities(many_copy), probabilities(raw), atol=1e-6)
    assert len(load_model(many_copy).layers) == len(load_model(raw).layers)


@pytest.mark.slow
def test_an_ensemble_is_calibrated_like_a_network(
    many_labels_run, many_copy, many_labels, tmp_path
):
    other = shutil.copytree(many_labels_run.folder, tmp_path / "other")
    calibrate(other, method="temperature", resamples=0)
    both = ensemble([many_copy, other], name="both", folder=tmp_path, resamples=0).folder
    raw = probabilities(both)
    result = calibrate(both, method="platt", resamples=0)
    scaling = Scaling.from_dict(model_file.read_card(both).calibration)
    np.testing.assert_allclose(result.predictions[COLUMNS], scaling.apply(raw), atol=1e-6)
    found = load_model(both).predict_on_batch(pixels_of(both, many_labels))
    np.testing.assert_allclose(found, result.predictions[COLUMNS], atol=1e-6)
    calibrate(both, resamples=0)
    np.testing.assert_allclose(probabilities(both), raw, atol=1e-6)


@pytest.mark.slow
def test_the_heat_map_of_a_calibrated_file_is_that_of_the_network(many_copy, many_labels):
    image = read_image(many_labels / "images" / "3.png")
    before = grad_cam(load_model(many_copy), image, [0, 7])
    calibrate(many_copy, method="platt", resamples=0)
    np.testing.assert_array_equal(grad_cam(load_model(many_copy), image, [0, 7]), before)


@pytest.mark.slow
def test_a_file_written_before_the_scaling_was_in_the_graph(many_copy, many_labels, tmp_path):
    """Its card scales its outputs, names its data by their path, and lists plain digests."""
    raw = probabilities(many_copy)
    rng = np.random.default_rng(0)
    scaling = Scaling("platt", tuple(rng.uniform(0.2, 3, 15)), tuple(rng.normal(0, 1, 15)))
    manifest = prepare(many_labels).manifest
    digests = {name: set(rows["digest"]) for name, rows in manifest.groupby("split")}
    as_written_before(
        many_copy,
        scaling=scaling.to_dict(),
        root=many_labels,
        trained_on=digests["train"],
        tuned_on=digests["val"],
    )
    expected = scaling.apply(raw)
    found = load_model(many_copy).predict_on_batch(pixels_of(many_copy, many_labels))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    alone = shutil.copy(many_copy / "model.keras", tmp_path / "alone.keras")
    np.testing.assert_allclose(
        evaluate(alone, resamples=0).predictions[COLUMNS], expected, atol=1e-6
    )
    name = pd.read_csv(many_copy / "predictions.csv")["Image Index"][0]
    row = predict(alone, [many_labels / "images" / name])[0]
    np.testing.assert_allclose(list(row.probabilities.values()), expected[0], atol=1e-6)
    with pytest.raises(CxrError, match="was trained on 76 of these 76 images"):
        evaluate(many_copy, split="train")
    calibrate(many_copy, resamples=0)
    np.testing.assert_allclose(probabilities(many_copy), raw, atol=1e-6)
    assert str(many_labels) not in read_member(many_copy, "card.json")
    for member, split in zip(LISTS, ("train", "val"), strict=True):
        count = len(digests[split])
        assert model_file.count_listed(many_copy, member, manifest["digest"]) == count
        assert not digests[split] & set(read_member(many_copy, member).split("\n"))


def test_another_data_folder_has_no_validation_split_to_calibrate_on(many_copy, make_folder):
    rows = [(f"{i}.png", label, i) for i, label in enumerate(LABELS)]
    before = content(many_copy)
    with pytest.raises(CxrError, match="was not trained on"):
        calibrate(many_copy, make_folder(rows))
    assert content(many_copy) == before


@pytest.mark.slow
def test_a_file_on_its_own_is_calibrated_with_its_tables_beside_it(
    many_copy, many_labels, tmp_path
):
    file = Path(shutil.copy(many_copy / "model.keras", tmp_path / "x.keras"))
    (tmp_path / "metrics.csv").write_text("mine")
    result = calibrate(file, many_labels, method="platt", resamples=0)
    assert result.folder == tmp_path / "x"
    found = load_model(file).predict_on_batch(pixels_of(tmp_path / "x", many_labels))
    np.testing.assert_allclose(found, probabilities(tmp_path / "x"), atol=1e-6)
    assert (tmp_path / "metrics.csv").read_text() == "mine"
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_guarantee_goes_into_the_card_and_the_rows(copy, phantoms, tmp_path, capsys):
    calibrate(copy, guarantee=0.5, resamples=0)
    said = capsys.readouterr().err
    card = model_file.read_card(copy)
    assert card.guarantee["level"] == 0.5
    assert "for patients like the" in said or "are too few for a guarantee" in said
    rows = predict(copy, phantoms / "images", csv_file=tmp_path / "f.csv")
    for row in rows:
        least = card.guarantee["threshold"]
        held = {name for name in card.findings if row.probabilities[name] >= least}
        assert set(row.label_set) == held
        assert list(row.label_set) == sorted(held, key=lambda name: -row.probabilities[name])
    assert "label_set" in (tmp_path / "f.csv").read_text().splitlines()[0]
    about = evaluate(copy, resamples=0, force=True).about
    assert any("Label sets (guarantee 50%" in sentence for sentence in about)
    calibrate(copy, resamples=0)  # a calibration without one takes it away
    assert model_file.read_card(copy).guarantee is None
    assert predict(copy, phantoms / "images")[0].label_set is None


def test_a_guarantee_holds_for_no_other_prevalence(copy, tmp_path):
    table = tmp_path / "p.csv"
    table.write_text("label,prevalence\nNodule,0.1\n")
    text = refusal(calibrate, copy, guarantee=0.9, prevalence=table)
    assert "Leave one of them out" in text
