"""Pretrained networks through the whole of `train`: what is frozen stays, what is not moves."""

import keras
import numpy as np
import pytest
import torch
from helpers.torchvision_nets import original

from cxr_keras import build_model, load_model, train
from cxr_keras.errors import CxrError, ModelError
from cxr_keras.models.freezing import freeze
from cxr_keras.models.registry import get_spec


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A torchvision-like ResNet18 file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(original("resnet18", classes=1000).state_dict(), path)
    return path


def moved(before, after):
    """Names of the layers whose weights, running statistics included, differ."""
    names = set()
    for layer in before.layers:
        ours, theirs = layer.get_weights(), after.get_layer(layer.name).get_weights()
        if not all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)):
            names.add(layer.name)
    return names


@pytest.mark.parametrize(
    ("fine_tune", "blocks"),
    [
        (None, ()),
        pytest.param(1, ("layer4",), marks=pytest.mark.slow),
        pytest.param("all", get_spec("resnet18").blocks, marks=pytest.mark.slow),
    ],
)
def test_only_what_is_unfrozen_moves(weights, phantoms, tmp_path, fine_tune, blocks, capsys):
    run = train(
        "resnet18",
        phantoms,
        epochs=1,
        per_class=1,
        lr=0.01,
        weights=str(weights),
        fine_tune=fine_tune,
        folder=str(tmp_path),
    )
    changed = moved(build_model("resnet18", str(weights)), load_model(run.folder))
    spec = get_spec("resnet18")
    assert "logits" in changed
    assert {spec.block_of(name) for name in changed} - {None} == set(blocks)
    said = capsys.readouterr().err
    count = {None: "7,695 of", 1: "8,401,423 of", "all": "all of"}[fine_tune]
    assert f"resnet18: weights from {weights}, {count} 11,184,207 parameters train." in said


def test_frozen_batch_normalisation_runs_on_its_stored_statistics(weights):
    model = build_model("resnet18", str(weights))
    freeze(model, get_spec("resnet18"), pretrained=True, fine_tune=None)
    features = keras.Model(model.input, model.get_layer("logits").input)
    images = np.random.default_rng(0).uniform(0, 255, (3, 256, 256, 1)).astype("float32")
    trained = keras.ops.convert_to_numpy(features(images, training=True))
    np.testing.assert_array_equal(trained, keras.ops.convert_to_numpy(features(images)))


def test_a_random_network_trains_whole():
    model = build_model("densenet_custom")
    count = freeze(model, get_spec("densenet_custom"), pretrained=False, fine_tune=None)
    assert count.trainable == count.total
    assert str(count) == f"all of {count.total:,} parameters train"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"weights": "none", "fine_tune": 1}, "all of it trains anyway"),
        ({"weights": "nowhere.pth"}, "nowhere.pth does not exist"),
        ({"loss": "hinge"}, "Choose one of: bce"),
    ],
)
def test_settings_that_do_not_fit(phantoms, tmp_path, settings, says):
    with pytest.raises(CxrError, match=says):
        train("resnet18", phantoms, folder=str(tmp_path), **settings)
    assert list(tmp_path.iterdir()) == []


def test_more_blocks_than_there_are(weights, phantoms, tmp_path):
    with pytest.raises(ModelError, match=r"has 5 blocks \(conv1, layer1, .*\). Received: --fine"):
        train("resnet18", phantoms, folder=str(tmp_path), weights=str(weights), fine_tune=6)


def test_a_custom_network_has_no_imagenet_weights(phantoms, tmp_path):
    with pytest.raises(ModelError, match="has no pretrained weights"):
        train("alexnet_custom", phantoms, folder=str(tmp_path), weights="imagenet")


@pytest.mark.slow
def test_offline_without_a_cached_file_is_one_sentence(
    run_cli, phantoms, tmp_path, unused_tcp_port
):
    result = run_cli(
        "train",
        "resnet18",
        "--data",
        phantoms,
        cwd=tmp_path,
        CXR_KERAS_WEIGHTS_URL=f"http://127.0.0.1:{unused_tcp_port}/models",
    )
    assert result.returncode == 1
    assert f"http://127.0.0.1:{unused_tcp_port}/models/resnet18-f37072fd.pth" in result.stderr
    assert "put the file into" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "saved_models").exists()


@pytest.mark.parametrize("loss", ["weighted_bce", "focal", "asymmetric"])
def test_every_loss_trains_and_its_file_loads_without_it(tiny_model, phantoms, tmp_path, loss):
    run = train(tiny_model, phantoms, epochs=1, loss=loss, folder=str(tmp_path))
    assert run.info["settings"]["loss"] == loss
    model = keras.saving.load_model(run.folder / "model.keras")  # names no loss of ours
    assert model.output_shape == (None, 15)
