"""Running the frozen part once changes how long training takes and nothing else."""

import keras
import numpy as np
import pandas as pd
import pytest
import torch
from torchvision_nets import original

from cxr_keras import build_model, load_model, train
from cxr_keras.data.preparation import prepare
from cxr_keras.frozen import cut, stored_features
from cxr_keras.kernels import native_kernels
from cxr_keras.models.freezing import freeze
from cxr_keras.models.registry import get_spec, list_models


@pytest.fixture(scope="module")
def resnet_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(original("resnet18", classes=1000).state_dict(), path)
    return str(path)


def pixels(count=3):
    return np.random.default_rng(0).integers(0, 256, (count, 256, 256, 1), dtype="uint8")


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


def assert_same_result(a, b):
    old, new = (pd.read_csv(r.folder / "history.csv").drop(columns="seconds") for r in (a, b))
    np.testing.assert_allclose(old, new, atol=1e-5)
    for name in ("predictions.csv", "metrics.csv"):
        old, new = (pd.read_csv(r.folder / name) for r in (a, b))
        pd.testing.assert_frame_equal(old, new, atol=1e-5)
    weights = zip(load_model(a.folder).weights, load_model(b.folder).weights, strict=True)
    for first, second in weights:
        np.testing.assert_allclose(numbers(first.value), numbers(second.value), atol=1e-5)


@pytest.mark.parametrize("fine_tune", [None, pytest.param(1, marks=pytest.mark.slow)])
def test_the_result_is_that_of_the_uncached_run(resnet_weights, phantoms, tmp_path, fine_tune):
    options = {
        "epochs": 2,
        "per_class": 1,
        "lr": 1e-3,
        "weights": resnet_weights,
        "fine_tune": fine_tune,
        "folder": str(tmp_path),
    }
    cached = train("resnet18", phantoms, name="cached", **options)
    plain = train("resnet18", phantoms, name="plain", feature_cache=False, **options)
    assert_same_result(cached, plain)


def test_dropout_after_the_cut_sees_the_same_chances(phantoms, tmp_path):
    """AlexNet's frozen classifier still drops out: the cut lies before it."""
    from cxr_keras.models.registry import _REGISTRY, register_model

    if "dropout_test_net" not in _REGISTRY:

        @register_model(source="the tests", blocks=("conv1", "dense1"))
        def dropout_test_net(x):
            x = keras.layers.Conv2D(4, 7, strides=16, name="conv1")(x)
            x = keras.layers.Flatten(name="flatten")(x)
            x = keras.layers.Dropout(0.5, name="dropout1")(x)
            return keras.layers.Dense(20, name="dense1")(x)

    model = build_model("dropout_test_net")
    freeze(model, get_spec("dropout_test_net"), pretrained=True, fine_tune=None)
    assert cut(model).tensor.shape[1:] == model.get_layer("flatten").output.shape[1:]
    _REGISTRY.pop("dropout_test_net")


EXPECTED_CUTS = {
    ("alexnet", None): "flatten",
    ("resnet18", None): "logits",
    ("densenet121", None): "logits",
    ("alexnet", 3): "conv4_relu",
}


@pytest.mark.parametrize(("name", "fine_tune"), EXPECTED_CUTS)
def test_where_networks_are_cut(name, fine_tune):
    with keras.device("meta"):
        model = build_model(name)
    freeze(model, get_spec(name), pretrained=True, fine_tune=fine_tune)
    layer = model.get_layer(EXPECTED_CUTS[name, fine_tune])
    expected = layer.input if layer.name == "logits" else layer.output
    assert cut(model).tensor is expected


def test_a_network_that_trains_whole_is_not_cut():
    assert cut(build_model("densenet_custom")) is None


def test_both_parts_together_are_the_network(phantoms):
    model = build_model("resnet18")
    freeze(model, get_spec("resnet18"), pretrained=True, fine_tune=2)
    parts = cut(model)
    features = parts.prefix(pixels())
    joined = parts.rest(model.output)(features)
    np.testing.assert_allclose(numbers(joined), numbers(model(pixels())), atol=1e-6)


def test_the_store_follows_weights_and_films(make_folder):
    rows = [(f"{i:02d}.png", "Mass", i) for i in range(12)]
    prepared = prepare(make_folder(rows))
    model = build_model("densenet_custom")
    freeze(model, get_spec("densenet_custom"), pretrained=True, fine_tune=None)
    first = stored_features(cut(model), prepared)
    films = prepared.store.pixels[..., None]
    np.testing.assert_allclose(first, numbers(cut(model).prefix(films)), atol=1e-5)
    assert stored_features(cut(model), prepared).filename == first.filename
    layer = model.get_layer("conv1")
    layer.set_weights([weight + 0.01 for weight in layer.get_weights()])
    second = stored_features(cut(model), prepared)
    assert second.filename != first.filename
    assert not np.allclose(first, second)


# --- torch's batch normalisation --------------------------------------------------------------


def steps(name, count, *, native):
    keras.utils.set_random_seed(1)
    model = build_model(name)
    trainer = keras.Model(model.input, model.get_layer("logits").output)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    trainer.compile(optimizer=keras.optimizers.SGD(0.01), loss=loss)
    truth = np.random.default_rng(2).integers(0, 2, (4, 15)).astype("float32")
    if native:
        with native_kernels(trainer):
            losses = [float(trainer.train_on_batch(pixels(4), truth)) for _ in range(count)]
            outputs = numbers(trainer(pixels(4)))
    else:
        losses = [float(trainer.train_on_batch(pixels(4), truth)) for _ in range(count)]
        outputs = numbers(trainer(pixels(4)))
    return losses, outputs, [numbers(weight.value) for weight in trainer.weights]


@pytest.mark.parametrize(
    "name", ["resnet_custom", pytest.param("densenet_custom", marks=pytest.mark.slow)]
)
def test_native_kernels_trains_as_keras_own_does(name):
    ours, theirs = steps(name, 2, native=True), steps(name, 2, native=False)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-4)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-3)
    for a, b in zip(ours[2], theirs[2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_native_kernels_is_put_back_and_leaves_no_trace():
    model = build_model("resnet_custom")
    before = model.get_config()
    with native_kernels(model):
        assert model.get_config() == before
    assert all("call" not in vars(layer) for layer in model.layers)
    assert {spec.name for spec in list_models()} >= {"resnet_custom"}
