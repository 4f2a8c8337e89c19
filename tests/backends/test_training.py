"""Networks, losses and pretrained starts train on the backend that the suite runs on."""

import json

import keras
import numpy as np
import pytest
from helpers.backends import probabilities, skip_without

from cxr_keras import evaluate, train
from cxr_keras.models.registry import get_spec, list_models
from cxr_keras.training.losses import LOSSES

BACKEND = keras.backend.backend()
NETWORKS = [spec.name for spec in list_models() if not spec.name.startswith(("vgg", "tiny"))]
if BACKEND != "torch":  # half a minute each, so three; test_agreement.py runs all forward
    NETWORKS = ["densenet_custom", "efficientnet_lite0", "kerascv_resnet18"]


@pytest.fixture(scope="module")
def resnet_weights(tmp_path_factory):
    """A torchvision-like file; reading one is the one thing for which every backend needs torch."""
    import torch
    from helpers.torchvision_nets import original

    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(original("resnet18", classes=1000).state_dict(), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_trains(name, few, tmp_path):
    if name.startswith("kerascv"):
        skip_without("keras_cv")
    weights = "none" if get_spec(name).pretrained else None
    run = train(name, few, epochs=1, batch_size=8, size=64, weights=weights, folder=tmp_path)
    assert np.isfinite(run.history[["loss", "val_loss"]]).all(axis=None)
    again = evaluate(run.folder, resamples=0, out=tmp_path / "again")
    expected = probabilities(run.evaluation.predictions)
    np.testing.assert_allclose(probabilities(again.predictions), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains(loss, few, tiny_model, tmp_path):
    run = train(tiny_model, few, epochs=8, lr=0.01, loss=loss, folder=tmp_path)
    losses = run.history["loss"]
    assert losses[1:].min() < losses[0]
    assert json.loads((run.folder / "run.json").read_text())["versions"]["backend"] == BACKEND


@pytest.mark.slow
@pytest.mark.parametrize("fine_tune", [None, 1, "all"])
def test_pretrained_networks_train_frozen_and_fine_tuned(
    fine_tune, few, resnet_weights, tmp_path, cache
):
    options = {"epochs": 1, "weights": resnet_weights, "fine_tune": fine_tune, "folder": tmp_path}
    run = train("resnet18", few, name="cached", **options)
    start = train("resnet18", few, name="plain", feature_cache=False, **options)
    np.testing.assert_allclose(
        probabilities(run.evaluation.predictions),
        probabilities(start.evaluation.predictions),
        atol=1e-4,
    )
