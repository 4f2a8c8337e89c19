"""Running the frozen part once changes how long training takes and nothing else."""

import keras
import numpy as np
import pandas as pd
import pytest
import torch
from helpers.torchvision_nets import original

from cxr_keras import build_model, load_model, train
from cxr_keras.data.preparation import prepare
from cxr_keras.models.freezing import freeze
from cxr_keras.models.registry import get_spec, register_model
from cxr_keras.models.weights import Pretrained
from cxr_keras.training.feature_cache import frozen_output, stored_features


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


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def dropout_net(tmp_path_factory):
    """A small AlexNet: a frozen convolution, then frozen dense layers behind dropouts."""
    tmp_path = tmp_path_factory.mktemp("small")
    names = {"conv1": "conv", "dense1": "first", "dense2": "second"}
    pretrained = Pretrained("small-00000000.pth", names, "head")

    @register_model(source="the tests", blocks=tuple(names), pretrained=pretrained)
    def dropout_net(x):
        x = keras.layers.Conv2D(4, 7, strides=16, name="conv1")(x)
        x = keras.layers.Flatten(name="flatten")(x)
        x = keras.layers.Dropout(0.5, name="dropout1")(x)
        x = keras.layers.Dense(40, activation="relu", name="dense1")(x)
        x = keras.layers.Dropout(0.2, name="dropout2")(x)
        return keras.layers.Dense(20, activation="relu", name="dense2")(x)

    random = torch.Generator().manual_seed(5)
    shapes = {"conv": (4, 3, 7, 7), "first": (40, 784), "second": (20, 40)}
    state = {}
    for name, shape in shapes.items():
        scale = float(np.prod(shape[1:])) ** -0.5
        state[f"{name}.weight"] = torch.randn(shape, generator=random) * scale
        state[f"{name}.bias"] = torch.zeros(shape[0])
    torch.save(state, tmp_path / "small.pth")
    return "dropout_net", tmp_path / "small.pth"


@pytest.mark.slow
def test_a_network_with_dropout_trains_as_in_the_plain_run(dropout_net, phantoms, tmp_path):
    name, weights = dropout_net
    options = {"epochs": 2, "per_class": 3, "lr": 1e-2, "weights": weights}
    options |= {"folder": tmp_path, "batch_size": 4}
    cached = train(name, phantoms, name="cached", **options)
    plain = train(name, phantoms, name="plain", feature_cache=False, **options)
    assert_same_result(cached, plain)


EXPECTED_CUTS = {  # where the frozen part ends: the layer whose output is stored
    ("alexnet", None): "flatten",
    ("alexnet", 3): "conv4_relu",
    ("resnet18", None): "average",
    ("resnet18", 1): "layer3_1_relu",
    ("densenet121", None): "average",
    ("densenet121", 1): "block3_transition_pool",
    ("vgg16", None): "dense1_relu",
}


@pytest.mark.parametrize(("name", "fine_tune"), EXPECTED_CUTS)
def test_where_networks_are_cut(name, fine_tune):
    with keras.device("meta"):
        model = build_model(name)
    freeze(model, get_spec(name), pretrained=True, fine_tune=fine_tune)
    layer = model.get_layer(EXPECTED_CUTS[name, fine_tune])
    assert frozen_output(model, get_spec(name)) is layer.output


@pytest.mark.parametrize("kind", ["augments", "by the batch"])
def test_what_is_not_the_same_in_every_epoch_is_not_stored(kind):
    image = keras.Input((8, 8, 3))
    first = {
        "augments": lambda: keras.layers.RandomFlip(),
        "by the batch": lambda: keras.layers.BatchNormalization(center=False, scale=False),
    }[kind]()
    x = keras.layers.Conv2D(4, 3, trainable=False)(first(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(2, name="logits")(x))
    assert frozen_output(model, None) is None


def test_a_network_that_trains_whole_is_not_cut():
    assert frozen_output(build_model("densenet_custom"), get_spec("densenet_custom")) is None


def test_a_path_around_the_frozen_layers_is_not_cut_off():
    image = keras.Input((6,))
    x = keras.layers.Dense(5, trainable=False)(image)
    x = keras.layers.Dense(6)(x)
    model = keras.Model(image, keras.layers.Add()([x, image]))
    assert frozen_output(model, None) is None


def test_both_parts_together_are_the_network():
    model = build_model("resnet18")
    spec = get_spec("resnet18")
    freeze(model, spec, pretrained=True, fine_tune=2)
    between = frozen_output(model, spec)
    features = keras.Model(model.input, between)(pixels())
    joined = keras.Model(between, model.output)(features)
    np.testing.assert_allclose(numbers(joined), numbers(model(pixels())), atol=1e-6)


def test_the_store_follows_weights_and_images(make_folder):
    rows = [(f"{i:02d}.png", "Mass", i) for i in range(12)]
    prepared = prepare(make_folder(rows))
    model = build_model("densenet_custom")
    spec = get_spec("densenet_custom")
    freeze(model, spec, pretrained=True, fine_tune=None)
    frozen = keras.Model(model.input, frozen_output(model, spec))
    first = stored_features(frozen, prepared)
    images = prepared.store.pixels[..., None]
    np.testing.assert_allclose(first, numbers(frozen(images)), atol=1e-5)
    assert stored_features(frozen, prepared).filename == first.filename
    layer = model.get_layer("conv1")
    layer.set_weights([weight + 0.01 for weight in layer.get_weights()])
    second = stored_features(frozen, prepared)
    assert second.filename != first.filename
    assert not np.allclose(first, second)
