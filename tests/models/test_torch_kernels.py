"""Torch's kernels compute what the layers they stand for compute."""

import keras
import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from cxr_keras import build_model, load_model, train
from cxr_keras.errors import CxrError
from cxr_keras.inference.grad_cam import grad_cam
from cxr_keras.models.torch_kernels import SWITCH, kernels_enabled, native_kernels
from cxr_keras.training.losses import LOSSES


def pixels(count=3):
    return np.random.default_rng(0).integers(0, 256, (count, 256, 256, 1), dtype="uint8")


def numbers(tensor):
    return keras.ops.convert_to_numpy(tensor)


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


def test_a_network_that_does_not_train_skips_what_keras_does_around_its_layers(monkeypatch):
    model = build_model("resnet_custom", outputs=3, size=64)
    expected = numbers(model(pixels(2)[:, :73, :73]))
    called = []
    usual = keras.layers.Conv2D.__call__
    monkeypatch.setattr(
        keras.layers.Conv2D, "__call__", lambda *a, **k: called.append(1) or usual(*a, **k)
    )
    with native_kernels(model):
        found = numbers(model(pixels(2)[:, :73, :73]))
        assert not called
        model(pixels(2)[:, :73, :73], training=True)
        assert called  # as usual
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_masks_casts_and_own_layers_are_left_to_keras():
    class Own(keras.layers.Layer):
        def call(self, x):
            return x * 2

    for layer in (Own(), keras.layers.Masking(), keras.layers.Dense(2, dtype="mixed_bfloat16")):
        x = keras.Input((4, 2))
        model = keras.Model(x, layer(x))
        with native_kernels(model):
            assert "call" not in vars(model)


def test_native_kernels_is_put_back_and_leaves_no_trace():
    model = build_model("resnet_custom")
    before = model.get_config()
    with native_kernels(model):
        assert model.get_config() == before
    assert all("call" not in vars(layer) for layer in model.layers)


def test_they_are_on_unless_switched_off(monkeypatch):
    monkeypatch.delenv(SWITCH, raising=False)
    assert kernels_enabled()
    monkeypatch.setenv(SWITCH, "off")
    model = build_model("resnet_custom")
    with native_kernels(model):
        assert all("call" not in vars(layer) for layer in model.layers)
    monkeypatch.setenv(SWITCH, "maybe")
    with pytest.raises(CxrError, match=r"is on or off\. Received: 'maybe'"):
        kernels_enabled()


def test_they_are_for_cpu_and_cuda_alone():
    """Apple's mps has no float64, which they use; such a device is pretended here."""
    assert kernels_enabled()
    with FakeTensorMode(), keras.device("mps"):
        assert keras.ops.convert_to_tensor(0).device.type == "mps"
        assert not kernels_enabled()
    with keras.device("meta"):
        assert not kernels_enabled()


class NoFloat64(TorchDispatchMode):
    """Fails where a device without float64 would."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.lift_fresh.default:  # an array, before a device has it
            return result
        for tensor in torch.utils._pytree.tree_leaves(result):
            wide = isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64
            assert not wide, f"{function} gives float64"
        return result


@pytest.mark.parametrize(
    "loss", ["bce", *(pytest.param(n, marks=pytest.mark.slow) for n in LOSSES if n != "bce")]
)
def test_without_them_nothing_on_the_device_is_float64(
    loss, phantoms, tiny_model, tmp_path, monkeypatch
):
    monkeypatch.setenv(SWITCH, "off")
    with NoFloat64():
        run = train(tiny_model, phantoms, epochs=1, loss=loss, folder=tmp_path)
        image = np.zeros((256, 256), "uint8")
        grad_cam(load_model(run.folder), image, [0])
