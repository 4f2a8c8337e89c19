"""Running the frozen part once changes how long training takes and nothing else."""

import keras
import numpy as np
import pandas as pd
import pytest
import torch
from torchvision_nets import original

from cxr_keras import build_model, load_model, train
from cxr_keras.data.loader import RadiographLoader
from cxr_keras.data.preparation import prepare
from cxr_keras.evaluation.evaluation import predict_side
from cxr_keras.models.freezing import freeze
from cxr_keras.models.registry import get_spec, list_models
from cxr_keras.models.torch_kernels import native_kernels
from cxr_keras.models.weights import Pretrained
from cxr_keras.training import lookahead
from cxr_keras.training.frozen import cut, stored_features, with_features


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


@pytest.fixture
def dropout_net(tmp_path):
    """A small AlexNet: a frozen convolution, then frozen dense layers behind dropouts."""
    from cxr_keras.models.registry import _REGISTRY, register_model

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
    yield "dropout_net", str(tmp_path / "small.pth")
    del _REGISTRY["dropout_net"]


def frozen_network(name, fine_tune=None):
    model = build_model(name)
    freeze(model, get_spec(name), pretrained=True, fine_tune=fine_tune)
    return model


@pytest.mark.parametrize("films_at_once", [pytest.param(256, marks=pytest.mark.slow), 8])
def test_frozen_layers_behind_a_dropout_train_as_in_the_plain_run(
    dropout_net, phantoms, tmp_path, monkeypatch, films_at_once
):
    name, weights = dropout_net
    monkeypatch.setattr(lookahead, "FILMS_AT_ONCE", films_at_once)
    options = {"epochs": 2, "per_class": 3, "lr": 1e-2, "weights": weights}
    options |= {"folder": str(tmp_path), "batch_size": 4}
    ahead = train(name, phantoms, name="ahead", **options)
    plain = train(name, phantoms, name="plain", feature_cache=False, **options)
    assert_same_result(ahead, plain)


def test_dropout_behind_the_cut_draws_anew_each_time(dropout_net, phantoms):
    model = frozen_network(dropout_net[0])
    parts = cut(model)
    assert parts.tensor is model.get_layer("flatten").output
    behind = lookahead.cut_dropout(model, parts)
    assert behind.tensor is model.get_layer("dense2").output
    side = prepare(phantoms, per_class=2).side("train")
    features = np.random.default_rng(0).normal(size=(len(side.pixels), 784)).astype("float32")
    loader = lookahead.LookaheadLoader(with_features(side, features), 8, behind.prefix, seed=1)
    first, truth = loader[0]
    np.testing.assert_array_equal(truth, RadiographLoader(side, 8, seed=1)[0][1])
    loader.start_epoch(0)
    assert not np.allclose(numbers(first), numbers(loader[0][0]))
    fixed = predict_side(behind.prefix, with_features(side, features))
    plain = parts.rest(behind.tensor)(features[side.index], training=False)
    np.testing.assert_allclose(fixed, numbers(plain), atol=1e-5)


def test_nothing_runs_ahead_of_training_where_it_would_change_the_result():
    def branches(*, seed=None, parallel=False):
        image = keras.Input((6,))
        x = keras.layers.Dense(5, trainable=False)(image)
        a = keras.layers.Dense(4, trainable=False)(keras.layers.Dropout(0.5, seed=seed)(x))
        b = keras.layers.Dense(4, trainable=False)(keras.layers.Dropout(0.4)(x))
        x = keras.layers.Add()([a, b]) if parallel else a
        model = keras.Model(image, keras.layers.Dense(2, name="logits")(x))
        return lookahead.cut_dropout(model, cut(model))

    assert branches() is not None
    assert branches(parallel=True) is None  # Keras draws for them in an order of its own
    assert branches(seed=3) is None  # its state belongs into a checkpoint

    def behind(**trains):
        x = image = keras.Input((6,))
        x = keras.layers.Dense(5, name="dense1", trainable=False)(x)
        x = keras.layers.Dropout(0.5, name="dropout1")(x)
        x = keras.layers.Dense(4, name="dense2", trainable=trains["dense2"])(x)
        x = keras.layers.Dropout(trains["last_dropout"], name="dropout2")(x)
        x = keras.layers.Dense(3, name="dense3", trainable=trains["dense3"])(x)
        model = keras.Model(image, keras.layers.Dense(2, name="logits")(x))
        found = lookahead.cut_dropout(model, cut(model))
        return found and found.tensor.shape[1]

    assert behind(dense2=False, last_dropout=0.5, dense3=False) == 3
    assert behind(dense2=False, last_dropout=0.5, dense3=True) == 4
    assert behind(dense2=True, last_dropout=0.5, dense3=True) is None  # a dropout draws later
    assert behind(dense2=True, last_dropout=0.0, dense3=True) is None  # no weights to run ahead


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


def test_layers_that_lie_in_another_graph_too_are_cut_in_this_one():
    """As KerasCV's do: a backbone's layers are laid into the network (see `keras_cv.py`)."""
    inner = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="conv", trainable=False)(inner)
    backbone = keras.Model(inner, keras.layers.ReLU(name="relu")(x) + 1.0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.call(image * 2.0))
    model = keras.Model(image, keras.layers.Dense(2, name="logits")(x))
    parts = cut(model)
    assert parts.tensor.shape == (None, 4)
    values = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("float32")
    joined = parts.rest(model.output)(parts.prefix(values))
    np.testing.assert_allclose(numbers(joined), numbers(model(values)), atol=1e-6)


@pytest.mark.parametrize("kind", ["augments", "by the batch", "nested"])
def test_what_is_not_the_same_in_every_epoch_is_not_stored(kind):
    image = keras.Input((8, 8, 3))
    inner = keras.Input((8, 8, 3))
    first = {
        "augments": lambda: keras.layers.RandomFlip(),
        "by the batch": lambda: keras.layers.BatchNormalization(center=False, scale=False),
        "nested": lambda: keras.Model(inner, keras.layers.Conv2D(3, 3)(inner), trainable=False),
    }[kind]()
    x = keras.layers.Conv2D(4, 3, trainable=False)(first(image))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(2, name="logits")(x))
    assert cut(model) is None


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


@pytest.mark.parametrize("name", ["resnet_custom", "densenet_custom", "resnet18"])
def test_a_convolution_does_the_work_of_its_normalisation_when_nothing_trains(name):
    model, rng = build_model(name), np.random.default_rng(3)
    norms = [one for one in model.layers if isinstance(one, keras.layers.BatchNormalization)]
    for layer in norms:
        layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    plain = numbers(model(pixels()))
    with native_kernels(model, inference=True):
        folded = [layer for layer in norms if layer.call.func.__name__ == "_nothing"]
        assert folded
        np.testing.assert_allclose(numbers(model(pixels())), plain, atol=1e-5)
    np.testing.assert_array_equal(numbers(model(pixels())), plain)
