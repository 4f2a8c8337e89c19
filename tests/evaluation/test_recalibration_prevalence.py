"""Probabilities and thresholds moved to another prevalence."""

import numpy as np
import pandas as pd
import pytest
from helpers.run_folders import content, pixels_of, probabilities

from cxr_keras import calibrate, ensemble, load_model
from cxr_keras.data.labels import LABELS
from cxr_keras.errors import CxrError
from cxr_keras.runs import model_file, run_folder


def write_prevalence(path, **shares):
    lines = [f"{label.replace('_', ' ')},{share}" for label, share in shares.items()]
    path.write_text("\n".join(["label,prevalence", *lines]) + "\n")
    return path


def odds(p):
    return p / (1 - p)


@pytest.mark.slow
@pytest.mark.parametrize("method", [pytest.param("none", marks=pytest.mark.slow), "platt"])
def test_probabilities_move_by_the_odds_of_the_prevalence(
    many_copy, many_labels, tmp_path, method, capsys
):
    file = write_prevalence(tmp_path / "there.csv", Mass=0.02, edema=0.6, No_Finding=0.7)
    calibrate(many_copy, method=method, resamples=0)
    here = probabilities(many_copy)
    val = pd.read_csv(many_copy / "predictions_val.csv")
    result = calibrate(many_copy, method=method, prevalence=file, resamples=0)
    there = probabilities(many_copy)
    said = capsys.readouterr().err
    rates = run_folder.read_run(many_copy)["data"]["base_rates"]
    wanted = {"Mass": 0.02, "Edema": 0.6, "No Finding": 0.7}
    for i, label in enumerate(LABELS):
        positives = val[f"true_{label}"].sum()
        share = positives / len(val) if method == "platt" and positives >= 5 else rates[label]
        factor = odds(wanted[label]) / odds(share) if label in wanted else 1
        np.testing.assert_allclose(
            odds(there[:, i]), odds(here[:, i]) * factor, rtol=1e-4, err_msg=label
        )
    found = load_model(many_copy).predict_on_batch(pixels_of(many_copy, many_labels))
    np.testing.assert_allclose(found, there, atol=1e-6)
    card, info = model_file.read_card(many_copy), run_folder.read_run(many_copy)
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
    calibrate(many_copy, method=method, resamples=0)
    np.testing.assert_allclose(probabilities(many_copy), here, atol=1e-6)
    assert model_file.read_card(many_copy).notice == ""


@pytest.mark.slow
def test_a_label_table_of_another_place_and_its_thresholds(
    many_copy, many_labels, tmp_path, run_cli
):
    """Thresholds of the highest F1 that the validation split would have with that prevalence."""
    table = tmp_path / "Data_Entry_2017.csv"
    header = (many_labels / "Data_Entry_2017_v2020.csv").read_text().split("\n")[0]
    rows = [f"{i}.png,{'Mass' if i < 5 else 'No Finding'},0,{i}" for i in range(100)]
    table.write_text("\n".join([header, *rows]))
    result = run_cli(
        "calibrate", many_copy, "--method", "platt", "--prevalence", table, "--resamples", 0
    )
    assert result.returncode == 0, result.stderr
    assert "for the prevalence of Data_Entry_2017.csv" in result.stdout
    assert "gives no prevalence above 0 and below 1 of these labels" in result.stderr
    assert model_file.read_card(many_copy).calibration["prevalence"]["new"] == {
        "Mass": 0.05,
        "No Finding": 0.95,
    }
    val = pd.read_csv(many_copy / "predictions_val.csv")
    truth, score = val["true_Mass"].to_numpy() == 1, val["prob_Mass"].to_numpy()
    weight = np.where(truth, 0.05 / truth.mean(), 0.95 / (1 - truth.mean()))

    def f1(threshold):
        positive = score >= threshold
        return 2 * weight[positive & truth].sum() / (weight[positive].sum() + weight[truth].sum())

    card = model_file.read_card(many_copy)
    threshold = card.thresholds[card.labels.index("Mass")]
    assert f1(threshold) == pytest.approx(max(map(f1, score)))


@pytest.mark.slow
def test_runs_moved_to_a_prevalence_are_not_averaged(many_labels_run, many_copy, tmp_path):
    file = write_prevalence(tmp_path / "there.csv", Mass=0.02)
    calibrate(many_copy, prevalence=file, resamples=0)
    with pytest.raises(CxrError, match="was moved to another prevalence"):
        ensemble([many_labels_run.folder, many_copy], name="x", folder=tmp_path)


def test_a_bad_prevalence_is_a_sentence_and_changes_nothing(many_copy, tmp_path):
    before = content(many_copy)
    bad = tmp_path / "bad.csv"
    bad.write_text("label,prevalence\nMass,2%\n")
    with pytest.raises(CxrError, match=r"above 0 and below 1 .*Received: '2%' for Mass"):
        calibrate(many_copy, prevalence=bad)
    assert content(many_copy) == before
