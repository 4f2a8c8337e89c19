"""Calibrated probabilities as layers of a network."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from cxr_keras.errors import ModelError
from cxr_keras.metrics.calibration import Scaling
from cxr_keras.models.blocks import sigmoid_head
from cxr_keras.models.scaling import calibrated_logits_of, logits_of, mean_of, with_scaling
from cxr_keras.models.user_built import with_logits

NUMBER = 15


def network(seed, spread=1.0):
    """A network of 15 outputs on tiny images, and what gives its logits."""
    keras.utils.set_random_seed(seed)
    pixels = keras.Input((4, 4, 1))
    features = keras.layers.Flatten()(pixels)
    model = keras.Model(pixels, sigmoid_head(features, NUMBER), name=f"net{seed}")
    head = model.get_layer("logits")
    head.set_weights([spread * weight for weight in head.get_weights()])
    return model


def images(seed=0):
    return np.random.default_rng(seed).normal(0, 3, (8, 4, 4, 1)).astype("float32")


def logits(model):
    return np.float64(keras.Model(model.input, logits_of(model)).predict_on_batch(images()))


def random_scaling(seed):
    rng = np.random.default_rng(seed)
    return rng.uniform(0.05, 5, NUMBER), rng.normal(0, 3, NUMBER)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.1, 1.0, 4.0]))
def test_the_layers_are_the_scaling_of_the_metrics(seed, spread):
    model = network(seed, spread)
    slope, shift = random_scaling(seed)
    found = with_scaling(model, slope, shift).predict_on_batch(images())
    z = logits(model)
    np.testing.assert_allclose(found, expit(slope * z + shift), atol=1e-6)
    scaling = Scaling("platt", tuple(slope), tuple(shift))
    np.testing.assert_allclose(found, scaling.apply(expit(z)), atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.1, 1.0, 4.0]), st.floats(0, 1))
def test_a_scaled_ensemble_is_the_scaling_of_the_mean(seed, spread, weight):
    """Also where a probability rounds to 0 or 1, and for a member that is scaled itself."""
    first, second = network(seed, spread), network(seed + 1, spread)
    own = random_scaling(seed + 2)
    weights = np.float64(np.float32([weight, 1 - weight]))
    ensemble = mean_of([first, with_scaling(second, *own)], weights)
    z1, z2 = logits(first), own[0] * logits(second) + own[1]
    mean = weights[0] * expit(z1) + weights[1] * expit(z2)
    rest = weights[0] * expit(-z1) + weights[1] * expit(-z2)
    np.testing.assert_allclose(ensemble.predict_on_batch(images()), mean, atol=1e-6)
    slope, shift = random_scaling(seed + 3)
    found = with_scaling(ensemble, slope, shift).predict_on_batch(images())
    np.testing.assert_allclose(
        found, expit(slope * (np.log(mean) - np.log(rest)) + shift), atol=2e-6
    )


def test_a_scaling_is_replaced_and_undone_not_stacked():
    for model in (network(1), mean_of([network(1), network(2)], [0.5, 0.5])):
        raw = model.predict_on_batch(images())
        once = with_scaling(model, *random_scaling(1))
        twice = with_scaling(once, *random_scaling(2))
        direct = with_scaling(model, *random_scaling(2))
        np.testing.assert_array_equal(*(m.predict_on_batch(images()) for m in (twice, direct)))
        assert len(twice.layers) == len(once.layers)
        np.testing.assert_allclose(with_scaling(twice).predict_on_batch(images()), raw, atol=1e-6)
        assert with_scaling(model) is model


def test_files_of_scaled_networks_hold_keras_layers_only(tmp_path):
    scaled = with_scaling(network(1), *random_scaling(1))
    nested = with_scaling(mean_of([scaled, network(2)], [0.3, 0.7]), *random_scaling(2))
    for model in (scaled, nested):
        model.save(tmp_path / "model.keras")
        back = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
        np.testing.assert_array_equal(*(m.predict_on_batch(images()) for m in (back, model)))
        assert {type(layer).__module__.split(".")[0] for layer in back.layers} == {"keras"}
        z = keras.Model(back.input, calibrated_logits_of(back)).predict_on_batch(images())
        np.testing.assert_allclose(expit(z), back.predict_on_batch(images()), atol=1e-6)


def test_training_a_calibrated_network_further_drops_its_scaling():
    pixels = keras.Input((256, 256, 1))
    features = keras.layers.GlobalAveragePooling2D()(pixels)
    model = keras.Model(pixels, sigmoid_head(features, NUMBER))
    again = with_logits(with_scaling(model, *random_scaling(1)), NUMBER)
    batch = np.random.default_rng(0).random((2, 256, 256, 1), dtype="float32")
    np.testing.assert_array_equal(*(m.predict_on_batch(batch) for m in (again, model)))
    assert again.get_layer("logits") is model.get_layer("logits")


def test_what_ends_otherwise_is_refused_in_a_sentence():
    pixels = keras.Input((4, 4, 1))
    last = keras.layers.Dense(NUMBER, activation="sigmoid", name="out")
    model = keras.Model(pixels, last(keras.layers.Flatten()(pixels)), name="mine")
    with pytest.raises(ModelError, match=r"mine ends in Dense 'out', not in logits"):
        with_scaling(model, *random_scaling(1))
