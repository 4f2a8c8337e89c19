"""Every registered network: shapes, names, blocks, round trips, and that it learns."""

from __future__ import annotations

import importlib.util
import re

import keras
import numpy as np
import pytest

from cxr_keras import build_model, predict, train
from cxr_keras.data.labels import LABELS
from cxr_keras.errors import CxrError, ModelError
from cxr_keras.framing import Framing
from cxr_keras.models.blocks import LOGITS, PROBABILITIES
from cxr_keras.models.registry import (
    ModelSpec,
    count_parameters,
    get_spec,
    list_models,
    register_model,
)
from cxr_keras.training.optimizers import make_optimizer

NAMES = [spec.name for spec in list_models() if spec.name != "tiny_test_net"]
if importlib.util.find_spec("keras_cv") is None:  # .ci/run has an environment with it
    NAMES = [name for name in NAMES if not name.startswith("kerascv")]
SLOW = pytest.mark.slow
TOO_SLOW = ("alexnet", "resnet18", "densenet121", "vgg16", "vgg19")
TOO_SLOW += ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
TOO_SLOW += ("convnext_tiny", "resnet50")
COUNTED = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)

# Weight layers as the names and the report count them; ResNets leave out their skips' 1×1
WEIGHT_LAYERS = {
    "alexnet": 8,
    "alexnet_custom": 8,
    "convnext_tiny": 59,
    "densenet121": 121,
    "densenet_custom": 9,
    "efficientnet_lite0": 50,
    "efficientnet_lite1": 65,
    "efficientnet_lite2": 65,
    "kerascv_densenet121": 121,
    "kerascv_resnet18": 18,
    "kerascv_resnet50": 50,
    "resnet18": 18,
    "resnet50": 50,
    "resnet_custom": 6,
    "vgg16": 16,
    "vgg19": 19,
}
FEATURES = {
    "alexnet": 4096,
    "alexnet_custom": 4096,
    "convnext_tiny": 768,
    "densenet121": 1024,
    "densenet_custom": 176,
    "efficientnet_lite0": 1280,
    "efficientnet_lite1": 1280,
    "efficientnet_lite2": 1280,
    "kerascv_densenet121": 1024,
    "kerascv_resnet18": 512,
    "kerascv_resnet50": 2048,
    "resnet18": 512,
    "resnet50": 2048,
    "resnet_custom": 256,
    "vgg16": 4096,
    "vgg19": 4096,
}
HEAVY = 50_000_000  # parameters, above which every copy costs seconds


@pytest.fixture(
    scope="module",
    params=[pytest.param(n, marks=SLOW) if n in TOO_SLOW else n for n in NAMES],
)
def network(request) -> keras.Model:
    """One network after the other, each built once for all tests; the last test trains it."""
    keras.utils.set_random_seed(3)
    return build_model(request.param)


def grey_images(count: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (count, 256, 256, 1)).astype("float32")


def probabilities(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(images, training=False))


def weight_layers(model: keras.Model) -> list[keras.Layer]:
    return [layer for layer in model.layers if layer.weights]


def test_shapes_and_names(network):
    assert network.input_shape == (None, 256, 256, 1)
    assert network.output_shape == (None, len(LABELS))
    assert network.get_layer(LOGITS).input.shape[-1] == FEATURES[network.name]
    assert network.get_layer(PROBABILITIES).output is network.output
    automatic = re.compile(r"(conv2d|dense|batch_normalization)(_\d+)?")
    for layer in weight_layers(network):
        assert not automatic.fullmatch(layer.name), f"{layer.name} was not named"


def test_number_of_weight_layers(network):
    counted = [layer for layer in network.layers if isinstance(layer, COUNTED)]
    if "resnet" in network.name:
        skips = [layer for layer in counted if layer.name.endswith(("_skip", "_0_conv"))]
        assert all(layer.kernel_size == (1, 1) for layer in skips)
        counted = [layer for layer in counted if layer not in skips]
    assert len(counted) == WEIGHT_LAYERS[network.name]


def test_built_in_layers_only(network):
    for layer in network.layers:
        assert type(layer).__module__.startswith("keras.src.layers"), layer.name


def test_blocks_hold_every_weight_in_order(network):
    spec = get_spec(network.name)
    assert spec.block_of(LOGITS) is None
    if spec.pretrained is None and not spec.blocks:
        pytest.skip("a network without blocks: nothing of it is ever frozen")
    found = [spec.block_of(layer.name) for layer in weight_layers(network)[:-1]]
    assert None not in found
    assert tuple(dict.fromkeys(found)) == spec.blocks
    assert found == sorted(found, key=spec.blocks.index)


def test_pretrained_names_every_layer_of_the_body(network):
    pretrained = get_spec(network.name).pretrained
    if pretrained is None:
        pytest.skip("a network without pretrained weights")
    body = [layer.name for layer in weight_layers(network) if layer.name != LOGITS]
    assert sorted(pretrained.layers) == sorted(body)
    assert len(set(pretrained.layers.values())) == len(body)


def assert_same(copy: keras.Model, network: keras.Model, images: np.ndarray) -> None:
    assert [w.path for w in copy.weights] == [w.path for w in network.weights]
    for ours, theirs in zip(copy.weights, network.weights, strict=True):
        a, b = keras.ops.convert_to_numpy(ours.value), keras.ops.convert_to_numpy(theirs.value)
        assert np.array_equal(a, b), ours.path
    wanted = probabilities(network, images)
    np.testing.assert_allclose(probabilities(copy, images), wanted, rtol=0, atol=1e-6)


def test_config_round_trip_and_save_and_load(network, tmp_path):
    images = grey_images(1)
    if network.non_trainable_weights:
        network(images, training=True)  # moves the running statistics off their first values
    before = probabilities(network, images)
    assert before.shape == (1, len(LABELS))
    assert ((before > 0) & (before < 1)).all()

    file = tmp_path / "model.keras"
    network.save(file)
    loaded = keras.saving.load_model(file)
    file.unlink()
    assert_same(loaded, network, images)
    if network.count_params() > HEAVY:
        return  # loading went through the configuration too

    twin = keras.Model.from_config(network.get_config())
    twin.set_weights(network.get_weights())
    assert_same(twin, network, images)


def test_one_training_step_lowers_the_loss(network):
    """One step on the logits, as training does; without dropout, so that losses compare."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    trainer = keras.Model(network.input, network.get_layer(LOGITS).output)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    trainer.compile(optimizer=make_optimizer("adam", 1e-4), loss=loss)
    images = grey_images(2)
    truth = np.random.default_rng(2).integers(0, 2, (2, len(LABELS))).astype("float32")
    before = float(trainer.train_on_batch(images, truth))
    after = keras.ops.convert_to_numpy(loss(truth, trainer(images, training=True)))
    assert np.isfinite(after)
    assert after < before


# --- the registry ----------------------------------------------------------------------------


def test_every_network_is_counted_here():
    names = {spec.name for spec in list_models() if not spec.name.endswith("_test_net")}
    assert names == set(WEIGHT_LAYERS) == set(FEATURES)


@pytest.mark.skipif("kerascv_resnet18" in NAMES, reason="KerasCV is installed here")
def test_without_keras_cv_one_sentence_has_the_install_command():
    with pytest.raises(ModelError, match=r'pip install "cxr-keras\[keras-cv\]"'):
        build_model("kerascv_resnet18")


@SLOW
@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("kerascv")])
def test_a_kerascv_network_trains_evaluates_and_explains_itself(name, phantoms, tmp_path):
    run = train(name, phantoms, epochs=1, per_class=1, batch_size=4, folder=str(tmp_path))
    image = sorted((phantoms / "images").iterdir())[0]
    assert not predict(run.folder, [image], heatmaps=tmp_path / "maps")[0].error
    assert list((tmp_path / "maps").iterdir())


def test_parameters_are_counted_without_memory():
    counted = count_parameters("densenet_custom")
    assert counted == build_model("densenet_custom").count_params()


def test_unknown_name_lists_the_known():
    with pytest.raises(ModelError) as caught:
        build_model("resnet81")
    assert str(caught.value) == (
        f"There is no network called 'resnet81'. Choose one of: "
        f"{', '.join(spec.name for spec in list_models())}."
    )


def test_names_are_registered_once():
    with pytest.raises(ValueError, match="Two networks are called 'alexnet'"):

        @register_model(source="a second one")
        def alexnet(x):
            return x


def test_block_of_takes_whole_names():
    spec = ModelSpec("net", lambda x: x, "a test", blocks=("conv1", "conv10"))
    assert spec.block_of("conv1") == "conv1"
    assert spec.block_of("conv1_bn") == "conv1"
    assert spec.block_of("conv10_bn") == "conv10"
    assert spec.block_of("conv100") is None


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=SLOW) if n == "densenet121" else n for n in NAMES]
)
def test_every_network_takes_other_sizes(name, size):
    count = count_parameters(name, size=size, fit="whole")
    assert count == count_parameters(name)  # so that weights fit whatever the size


@pytest.mark.parametrize("fit", ["crop", "whole"])
def test_a_network_of_another_size_runs_and_loads(fit, tmp_path):
    model = build_model("resnet_custom", size=65, fit=fit)
    side = Framing(65, fit).stored
    images = grey_images(2)[:, :side, :side]
    model.save(tmp_path / "model.keras")
    assert_same(keras.saving.load_model(tmp_path / "model.keras"), model, images)


def test_the_default_size_crops_as_ever():
    layers = build_model("resnet_custom").layers[:4]
    assert [layer.name for layer in layers][:2] == ["pixels", "centre_crop"]
    assert layers[1].cropping == ((16, 16), (16, 16))
    with pytest.raises(CxrError, match=r"size must be 64 or more\. Received: 32\."):
        build_model("resnet_custom", size=32)
