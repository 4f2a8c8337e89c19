"""Training takes numbers below 1.2e-38 as 0, with which processors compute many times slower."""

import os
import subprocess
import sys

import keras
import pytest
import torch

from cxr_keras import train
from cxr_keras.training.denormals import denormals_flushed


def kept():
    """Whether this thread keeps a denormal number."""
    return torch.tensor(1e-40).item() != 0


def test_afterwards_the_thread_is_as_before():
    assert kept()
    with denormals_flushed():
        assert not kept()
        with denormals_flushed():
            pass
        assert not kept()
    assert kept()
    with pytest.raises(KeyError), denormals_flushed():
        raise KeyError
    assert kept()


class Look(keras.callbacks.Callback):
    """Looks in the middle of a training."""

    def on_train_batch_end(self, batch, logs=None):
        self.kept = kept()


def test_it_is_so_in_training(phantoms, tiny_model, tmp_path):
    look = Look()
    train(tiny_model, phantoms, epochs=1, folder=tmp_path, callbacks=[look])
    assert not look.kept
    assert kept()


PROGRAM = """
import sys
import keras, torch
from cxr_keras import train

class Look(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        tiny = torch.full((1024, 1024), 1e-20)
        self.largest = (tiny @ tiny).max().item()  # sums of 1e-40: 1e-37, or 0 where each is 0

torch.set_num_threads(2)
look, (data, folder) = Look(), sys.argv[1:]
options = {"epochs": 1, "size": 64, "per_class": 2}
train("resnet_custom", data, folder=folder, callbacks=[look], **options)
assert look.largest == 0, look.largest
"""


@pytest.mark.slow
def test_in_a_process_that_trains_all_threads_of_a_matrix_product_do_so(phantoms, tmp_path):
    """The libraries below torch have threads of their own."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", PROGRAM, str(phantoms), str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
