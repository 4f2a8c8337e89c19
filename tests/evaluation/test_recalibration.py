"""Thresholds and scaling chosen anew."""

import numpy as np
import pandas as pd
import pytest

from cxr_keras import calibrate, ensemble, load_model, predict
from cxr_keras.data.labels import LABELS
from cxr_keras.errors import CxrError
from cxr_keras.runs import model_file, run_folder

COLUMNS = [f"prob_{label}" for label in LABELS]


def test_thresholds_for_a_sensitivity_go_into_the_card(run, copy, phantoms):
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
    assert info["calibration"]["sensitivity"] == 1.0
    for a, b in zip(before, load_model(copy).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(
        model_file.read_images(copy, member) == model_file.read_images(run.folder, member)
        for member in (model_file.TRAINED_ON, model_file.TUNED_ON)
    )


@pytest.mark.parametrize("method", [pytest.param("temperature", marks=pytest.mark.slow), "platt"])
def test_scaled_probabilities_are_what_evaluate_and_predict_give(
    run, second, copy, phantoms, method
):
    from cxr_keras.metrics.calibration import Scaling

    result = calibrate(copy, method=method, resamples=0)
    scaling = Scaling.from_dict(model_file.read_card(copy).scaling)
    raw = pd.read_csv(run.folder / "predictions.csv")[COLUMNS].to_numpy()
    expected = scaling.apply(raw)
    np.testing.assert_allclose(result.predictions[COLUMNS], expected, atol=1e-5)
    images = [phantoms / "images" / name for name in result.predictions["Image Index"][:3]]
    rows = predict(copy, images)
    np.testing.assert_allclose(
        [list(row.probabilities.values()) for row in rows], expected[:3], atol=1e-5
    )
    with pytest.raises(CxrError, match="calibrated outputs"):
        ensemble([copy, second.folder], name="x", folder=copy.parent)
    undone = calibrate(copy, resamples=0)
    np.testing.assert_allclose(undone.predictions[COLUMNS], raw, atol=1e-6)


def test_another_data_folder_has_no_validation_split_to_calibrate_on(copy, make_folder):
    rows = [(f"{i}.png", label, i) for i, label in enumerate(LABELS)]
    with pytest.raises(CxrError, match="was not trained on"):
        calibrate(copy, make_folder(rows))
