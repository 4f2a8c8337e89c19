"""--precision: what a network computes in, whatever it was trained in."""

import keras
import numpy as np
import pandas as pd
import pytest
from helpers.refusals import refusal

from cxr_keras import ensemble, evaluate, load_model, predict, train
from cxr_keras.models.precision import BFLOAT16, FLOAT32, set_precision
from cxr_keras.models.registry import build_model


def computed_in(model):
    return [layer.compute_dtype for layer in model.layers]


def test_a_network_computes_in_what_is_asked_but_for_its_end():
    model = build_model("resnet_custom", "none", outputs=3, size=64, fit="whole")
    set_precision(model, BFLOAT16)
    assert set(computed_in(model)[:-2]) == {"bfloat16"}
    assert computed_in(model)[-2:] == ["float32"] * 2
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1)).astype("uint8")
    rough = model.predict_on_batch(pixels)
    set_precision(model, FLOAT32)
    assert set(computed_in(model)) == {"float32"}
    exact = model.predict_on_batch(pixels)
    assert 0 < np.abs(rough - exact).max() < 0.02


def test_a_run_in_bfloat16_is_measured_and_loads_in_float32(phantoms, tmp_path):
    options = {"epochs": 1, "size": 64, "precision": "mixed_bfloat16", "folder": tmp_path}
    run = train("resnet_custom", phantoms, **options)
    assert set(computed_in(load_model(run.folder))) == {"float32"}
    config = keras.saving.load_model(run.folder / "model.keras", compile=False)
    assert set(computed_in(config)) == {"float32"}
    table = pd.read_csv(run.folder / "predictions.csv")
    files = [phantoms / "images" / name for name in table["Image Index"]]
    rows = predict(run.folder, files)
    found = [list(row.probabilities.values()) for row in rows]
    np.testing.assert_allclose(found, table.filter(like="prob_"), atol=1e-5)


@pytest.mark.slow
def test_predict_and_evaluate_in_bfloat16(run, phantoms, second, tmp_path):
    exact, rough = (predict(run.folder, phantoms, precision=p) for p in ("float32", "bfloat16"))
    gap = max(
        abs(a.probabilities[name] - b.probabilities[name])
        for a, b in zip(exact, rough, strict=True)
        for name in a.probabilities
    )
    assert 0 < gap < 0.02
    found = evaluate(second.folder, precision="bfloat16", resamples=0)
    assert found.folder == second.folder / "evaluation-test-bfloat16"
    both = ensemble([run.folder, second.folder], name="both", folder=tmp_path, resamples=0)
    members = load_model(both.folder, "bfloat16").layers
    nested = [layer for layer in members if isinstance(layer, keras.Model)]
    assert all("bfloat16" in computed_in(member) for member in nested)
    assert "no precision 'half'" in refusal(predict, run.folder, phantoms, precision="half")


@pytest.fixture(scope="module")
def second(phantoms, tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("second")
    return train(tiny_model, phantoms, epochs=1, lr=0.01, seed=1, folder=folder)
