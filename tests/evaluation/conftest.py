"""Runs to compare and to average."""

import pytest
from helpers.shared import shared

from cxr_keras import train


@pytest.fixture(scope="session")
def second(phantoms, tiny_model, tmp_path_factory):
    """A run on the same split as `run`, with another learning rate."""
    folder = tmp_path_factory.mktemp("second")
    finished = train(tiny_model, phantoms, epochs=2, lr=0.01, folder=folder)
    with shared(folder):
        yield finished
