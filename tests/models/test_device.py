"""`--device`: where a command computes, and what it says where that cannot be."""

import os

import keras
import pytest
import torch
from helpers.processes import assert_one_sentence, cxr
from helpers.refusals import refusal

from cxr_keras.models.device import use_device


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv("KERAS_TORCH_DEVICE", "cpu")
    monkeypatch.delenv("WORLD_SIZE", raising=False)


@pytest.fixture
def two_gpus(monkeypatch):
    """As torch would answer on a machine with two GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:x", "cuda:-1", "cpu:0", "CPU", ""])
def test_what_is_no_device(name):
    assert refusal(use_device, name) == (
        f"A device is cpu, cuda, cuda:N or mps. Received: {name!r}."
    )


def test_a_device_that_is_not_here(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    text = refusal(use_device, "cuda")
    assert "finds no CUDA GPU here" in text
    assert torch.__version__ in text
    assert "needs an Apple GPU" in refusal(use_device, "mps")


def test_a_gpu_that_is_not_among_those_here(two_gpus):
    assert refusal(use_device, "cuda:2") == (
        "There is no cuda:2: the GPUs here are cuda:0 to cuda:1."
    )


def test_several_processes_do_not_share_a_gpu(two_gpus, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "each of several processes needs its own" in refusal(use_device, "cuda:1")


@pytest.mark.skipif(torch.cuda.is_available(), reason="Keras computes on this machine's GPU")
def test_keras_that_has_started_stays_where_it_is(two_gpus):
    assert keras.ops.convert_to_tensor(0).device.type == "cpu"
    assert "Keras computes on cpu already" in refusal(use_device, "cuda:1")
    assert os.environ["KERAS_TORCH_DEVICE"] == "cuda:1"


@pytest.mark.slow
def test_the_option_decides_where_a_command_computes(run, phantoms):
    image = next((phantoms / "images").iterdir())
    # "meta" is torch's device of tensors without numbers: nothing can be predicted there
    elsewhere = {"KERAS_TORCH_DEVICE": "meta", "KERAS_BACKEND": "torch"}
    result = cxr("predict", run.folder, image, "--device", "cpu", **elsewhere)
    assert result.returncode == 0, result.stderr
    assert image.name in result.stdout
    assert cxr("predict", run.folder, image, **elsewhere).returncode != 0


@pytest.mark.slow
def test_another_backend_says_how_it_chooses(run, phantoms):
    pytest.importorskip("jax")
    image = next((phantoms / "images").iterdir())
    result = cxr("predict", run.folder, image, "--device", "cpu", KERAS_BACKEND="jax")
    assert_one_sentence(result, "KERAS_BACKEND is jax", "JAX_PLATFORMS")
