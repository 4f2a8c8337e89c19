"""PyTorch's networks and ours give the same numbers; wrong files are refused in a sentence."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import torch
from helpers import torchvision_nets
from helpers.places import SHARED
from helpers.refusals import refusal
from PIL import Image

from cxr_keras import build_model
from cxr_keras.data.images import read_image
from cxr_keras.models.blocks import LOGITS, PROBABILITIES
from cxr_keras.models.registry import get_spec, list_models
from cxr_keras.models.weights import (
    load_state_dict,
    port,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PORTED = ["alexnet", "convnext_tiny", "densenet121", "resnet18", "resnet50", "vgg16", "vgg19"]
HEAVY = {"vgg16", "vgg19"}  # 550 MB each: from memory and for one radiograph only
SLOW = {*HEAVY, "convnext_tiny", "densenet121", "resnet50"}
BY_NAME = [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in PORTED]
# What torchvision publishes: file and parameters with 1000 classes
PUBLISHED = {
    "alexnet": ("alexnet-owt-7be5be79.pth", 61_100_840),
    "convnext_tiny": ("convnext_tiny-983f1562.pth", 28_589_128),
    "densenet121": ("densenet121-a639ec97.pth", 7_978_856),
    "resnet18": ("resnet18-f37072fd.pth", 11_689_512),
    "resnet50": ("resnet50-0676ba61.pth", 25_557_032),
    "vgg16": ("vgg16-397923af.pth", 138_357_544),
    "vgg19": ("vgg19-dcbb9e9d.pth", 143_667_240),
}


@pytest.fixture(scope="module")
def resnet18_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(torchvision_nets.original("resnet18").state_dict(), path)
    return path


@pytest.mark.parametrize("name", PORTED)
def test_originals_have_torchvisions_parameter_count(name):
    network = torchvision_nets.empty(name)
    assert sum(p.numel() for p in network.parameters()) == PUBLISHED[name][1]


def test_registry_names_torchvisions_files():
    theirs = [s for s in list_models() if s.pretrained and s.pretrained.package is None]
    ported = {spec.name: spec.pretrained.file for spec in theirs}
    assert ported == {name: file for name, (file, _) in PUBLISHED.items()}
    assert get_spec("vgg16").pretrained.sha256_prefix == "397923af"
    assert get_spec("vgg16").default_weights == "imagenet"
    assert get_spec("resnet_custom").default_weights == "none"


def test_published_facts():
    facts_file = SHARED / "facts" / "torchvision_weights.json"
    if not facts_file.exists():
        pytest.skip("shared/facts is not here")
    facts = json.loads(facts_file.read_text())
    counts = facts["parameters_with_1000_classes"]
    known = {name: (file, counts[name]) for name, file in facts["files"].items()}
    assert known == {name: PUBLISHED[name] for name in known}
    assert get_spec("alexnet").pretrained.url == facts["base"] + facts["files"]["alexnet"]


def network_from_normalised(model: keras.Model) -> keras.Model:
    """The network after its input stem: normalised radiographs → features, probabilities."""
    normalised = model.get_layer("imagenet_normalisation").output
    features = model.get_layer(LOGITS).input
    return keras.Model(normalised, [features, model.get_layer(PROBABILITIES).output])


def copy_head(original: torch.nn.Module, name: str, model: keras.Model) -> None:
    head = original.get_submodule(torchvision_nets.HEADS[name])
    kernel, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    model.get_layer(LOGITS).set_weights([kernel.T, bias])


@pytest.mark.parametrize("name", BY_NAME)
def test_same_features_and_probabilities_as_pytorch(name, tmp_path):
    original = torchvision_nets.original(name)
    if name in HEAVY:
        model = build_model(name)
        port(model, get_spec(name).pretrained, original.state_dict())
    else:
        file = tmp_path / f"{name}.pth"
        torch.save(original.state_dict(), file)
        model = build_model(name, weights=file)
        file.unlink()
    copy_head(original, name, model)
    count = 1 if name in HEAVY else 2
    x = np.random.default_rng(5).normal(size=(count, 224, 224, 3)).astype("float32")

    features, probabilities = network_from_normalised(model)(x, training=False)

    with torch.no_grad():
        theirs = original.penultimate(torch.from_numpy(x).permute(0, 3, 1, 2))
        head = original.get_submodule(torchvision_nets.HEADS[name])
        theirs_probabilities = torch.sigmoid(head(theirs))
    assert 0.05 < float(theirs.std()) < 20, "a dead or exploding original proves nothing"
    assert float(theirs_probabilities.std()) > 0.01
    np.testing.assert_allclose(to_numpy(features), theirs.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        to_numpy(probabilities), theirs_probabilities.numpy(), rtol=0, atol=1e-4
    )


@pytest.mark.slow
@pytest.mark.parametrize("size", [64, 288])
def test_alexnet_is_pytorchs_at_other_sizes(size):
    original = torchvision_nets.original("alexnet")
    model = build_model("alexnet", size=size, fit="whole")
    port(model, get_spec("alexnet").pretrained, original.state_dict())
    x = np.random.default_rng(5).normal(size=(2, size, size, 3)).astype("float32")
    features, _ = network_from_normalised(model)(x, training=False)
    with torch.no_grad():
        theirs = original.penultimate(torch.from_numpy(x).permute(0, 3, 1, 2))
    np.testing.assert_allclose(to_numpy(features), theirs.numpy(), rtol=1e-4, atol=1e-4)


def test_frozen_batch_norm_uses_stored_statistics(resnet18_file):
    model = build_model("resnet18", weights=resnet18_file)
    for layer in model.layers:
        layer.trainable = layer.name == LOGITS
    part = network_from_normalised(model)
    x = np.random.default_rng(5).normal(2.0, size=(2, 224, 224, 3)).astype("float32")
    before = [np.array(w) for w in model.get_layer("conv1_bn").get_weights()]
    training, inference = part(x, training=True)[0], part(x, training=False)[0]
    np.testing.assert_array_equal(to_numpy(training), to_numpy(inference))
    for old, new in zip(before, model.get_layer("conv1_bn").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def to_numpy(tensor) -> np.ndarray:
    return keras.ops.convert_to_numpy(tensor)


def torch_preprocessing(path: Path) -> np.ndarray:
    """torchvision's transforms, in Pillow and numpy: resize 256, centre crop 224, normalise."""
    image = Image.open(path).convert("RGB")
    width, height = image.size
    shorter = min(width, height)
    image = image.resize((256 * width // shorter, 256 * height // shorter), Image.BILINEAR)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    pixels = np.asarray(image.crop((left, top, left + 224, top + 224)))
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
    normalised = (tensor - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    return normalised.permute(1, 2, 0).numpy()


def example_images(folder: Path) -> list[Path]:
    """Drawn images of several shapes, and real ones where they are."""
    images = sorted((SHARED / "nih-sample" / "images").glob("*.png"))[:3]
    for width, height in [(1024, 1024), (512, 640), (300, 256)]:
        pixels = np.random.default_rng(width).integers(0, 256, (height, width), dtype="uint8")
        image = folder / f"{width}x{height}.png"
        Image.fromarray(pixels).save(image)
        images.append(image)
    return images


def test_same_preprocessing_as_pytorch(tmp_path):
    model = build_model("resnet_custom")
    stem = keras.Model(model.input, model.get_layer("imagenet_normalisation").output)
    for image in example_images(tmp_path):
        pixels = read_image(image)[None, ..., None].astype("float32")
        ours = to_numpy(stem(pixels))[0]
        np.testing.assert_allclose(ours, torch_preprocessing(image), rtol=0, atol=1e-5)


def test_from_file_to_probabilities_as_pytorch(tmp_path, resnet18_file):
    original = torchvision_nets.original("resnet18")
    model = build_model("resnet18", weights=resnet18_file)
    copy_head(original, "resnet18", model)
    image = example_images(tmp_path)[0]
    ours = to_numpy(model(read_image(image)[None, ..., None].astype("float32")))
    x = torch.from_numpy(torch_preprocessing(image)).permute(2, 0, 1)[None]
    with torch.no_grad():
        theirs = torch.sigmoid(original(x)).numpy()
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_old_densenet_names_are_understood(tmp_path):
    new = torchvision_nets.original("densenet121").state_dict()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name): tensor
        for name, tensor in new.items()
        if not name.endswith("num_batches_tracked")  # younger than these files
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    file = tmp_path / "densenet121.pth"
    torch.save(old, file, _use_new_zipfile_serialization=False)  # they are as old as that
    read = load_state_dict(file)
    assert "features.denseblock4.denselayer16.conv2.weight" in read
    port(build_model("densenet121"), get_spec("densenet121").pretrained, read)


def test_head_of_any_width_is_left_out():
    model = build_model("resnet18")
    head = model.get_layer(LOGITS).get_weights()
    state_dict = torchvision_nets.original("resnet18", classes=1000).state_dict()
    port(model, get_spec("resnet18").pretrained, state_dict)
    for before, after in zip(head, model.get_layer(LOGITS).get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_missing_file_or_folder(tmp_path):
    text = refusal(build_model, "resnet18", weights=str(tmp_path / "no.pth"))
    assert text == (
        f"The weights file {tmp_path / 'no.pth'} does not exist. "
        "Give imagenet, none, or the path of a .pth file."
    )
    assert "is a folder" in refusal(build_model, "resnet18", weights=tmp_path)


@pytest.mark.parametrize("name", ["resnet_custom", "densenet_custom", "alexnet_custom"])
def test_custom_networks_have_no_pretrained_weights(name):
    text = refusal(build_model, name, weights="imagenet")
    assert text == f"{name} has no pretrained weights. Received: weights='imagenet'; use none."


def test_truncated_empty_and_foreign_files(tmp_path, resnet18_file):
    whole = resnet18_file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"PK\x03\x04", b"<html>Not found</html>"):
        file = tmp_path / "cut.pth"
        file.write_bytes(content)
        text = refusal(build_model, "resnet18", weights=file)
        assert text.startswith(f"{file} cannot be loaded: expected a PyTorch state dict")
        assert f"Received: {len(content):,} bytes that PyTorch cannot read" in text


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_files_with_code_are_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": Harmful()}, tmp_path / "harm.pth")
    assert "could run code" in refusal(load_state_dict, tmp_path / "harm.pth")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("content", "received"),
    [
        ([torch.zeros(2)], "Received: a list."),
        ({"model": {}, "epoch": 3}, "Received: a dictionary of model, epoch."),
    ],
)
def test_other_content_is_described(tmp_path, content, received):
    torch.save(content, tmp_path / "other.pth")
    text = refusal(load_state_dict, tmp_path / "other.pth")
    assert "is no state dict: expected tensors by parameter name" in text
    assert text.endswith(received)


def test_another_networks_file(resnet18_file):
    text = refusal(build_model, "alexnet", weights=resnet18_file)
    assert text.startswith(f"{resnet18_file} does not hold torchvision's alexnet: it lacks ")
    assert "features.0.weight, features.0.bias" in text
    assert "alexnet has no place for conv1.weight, bn1.weight" in text
    assert text.endswith("Expected the parameters of alexnet-owt-7be5be79.pth.")


def test_missing_unused_and_misshapen_parameters_change_nothing():
    model = build_model("resnet18")
    before = model.get_layer("conv1").get_weights()[0]
    pretrained = get_spec("resnet18").pretrained
    right = torchvision_nets.original("resnet18").state_dict()
    wrong = {
        "it lacks layer4.1.bn2.running_var": {
            name: tensor for name, tensor in right.items() if name != "layer4.1.bn2.running_var"
        },
        "resnet18 has no place for layer5.0.weight": right | {"layer5.0.weight": torch.zeros(1)},
        "layer4.1.conv2.weight has the shape (512, 512, 1, 1), expected (512, 512, 3, 3)": right
        | {"layer4.1.conv2.weight": torch.zeros(512, 512, 1, 1)},
        "layer1.0.bn1.bias has the shape (32,), expected (64,)": right
        | {"layer1.0.bn1.bias": torch.zeros(32)},
    }
    for words, state_dict in wrong.items():
        assert words in refusal(port, model, pretrained, state_dict)
    np.testing.assert_array_equal(model.get_layer("conv1").get_weights()[0], before)
