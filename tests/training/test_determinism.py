"""`--deterministic` sets torch's switches for one run and puts them back."""

import os

import keras
import numpy as np
import pytest
import torch

from cxr_keras import load_model, train
from cxr_keras.errors import CxrError, RunError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def switches():
    cudnn = torch.backends.cudnn
    algorithms = torch.are_deterministic_algorithms_enabled()
    return algorithms, cudnn.deterministic, cudnn.benchmark, os.environ.get(WORKSPACE)


class Look(keras.callbacks.Callback):
    """Notes the switches, and then does what it is told to."""

    def __init__(self, then=lambda: None):
        super().__init__()
        self.then, self.seen = then, None

    def on_train_batch_end(self, batch, logs=None):
        self.seen = switches()
        self.then()


@pytest.fixture(autouse=True)
def another_state(monkeypatch):
    """Not what a deterministic run sets, so that putting back shows."""
    monkeypatch.delenv(WORKSPACE, raising=False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)


def test_the_switches_are_set_and_put_back(phantoms, tiny_model, tmp_path):
    before, look = switches(), Look()
    run = train(
        tiny_model, phantoms, epochs=1, folder=tmp_path, deterministic=True, callbacks=[look]
    )
    assert look.seen == (True, True, False, ":4096:8")
    assert switches() == before == (False, False, True, None)
    assert run.info["settings"]["deterministic"] is True


@pytest.mark.slow
def test_without_it_nothing_is_touched(phantoms, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv(WORKSPACE, ":16:8")
    look = Look()
    train(tiny_model, phantoms, epochs=1, folder=tmp_path, callbacks=[look])
    assert look.seen == (False, False, True, ":16:8")


@pytest.mark.slow
def test_a_workspace_that_a_person_chose_stands(phantoms, tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv(WORKSPACE, ":16:8")
    look = Look()
    train(tiny_model, phantoms, epochs=1, folder=tmp_path, deterministic=True, callbacks=[look])
    assert look.seen[-1] == ":16:8"
    assert os.environ[WORKSPACE] == ":16:8"


def test_a_step_that_cannot_repeat_itself_is_one_sentence(phantoms, tiny_model, tmp_path):
    before = switches()
    put = Look(lambda: torch.zeros(3).put_(torch.tensor([0]), torch.ones(1)))
    with pytest.raises(CxrError, match=r"cannot be trained with --deterministic: put_.*Leave it"):
        train(tiny_model, phantoms, epochs=1, folder=tmp_path, deterministic=True, callbacks=[put])
    assert switches() == before


@pytest.mark.slow
def test_its_numbers_are_those_without_it_on_a_cpu(phantoms, tiny_model, tmp_path):
    runs = [
        train(tiny_model, phantoms, epochs=2, folder=tmp_path, name=str(flag), deterministic=flag)
        for flag in (False, True)
    ]
    for plain, repeatable in zip(*(load_model(run.folder).weights for run in runs), strict=True):
        np.testing.assert_array_equal(plain.numpy(), repeatable.numpy())


def test_a_resumed_run_keeps_to_it(phantoms, tiny_model, tmp_path):
    def stop():
        raise KeyboardInterrupt

    options = {"epochs": 2, "folder": tmp_path, "deterministic": True}
    with pytest.raises(KeyboardInterrupt):
        train(tiny_model, phantoms, callbacks=[Look(stop)], **options)
    with pytest.raises(RunError, match="deterministic True → False"):
        train(tiny_model, phantoms, resume=True, **options | {"deterministic": False})
