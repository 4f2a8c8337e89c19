"""What does not fit into memory is one sentence, on a GPU as on a CPU."""

import keras
import pytest
import torch

from cxr_keras.cli import main
from cxr_keras.models.registry import list_models, register_model

SENTENCE = (
    "Error: There is not enough memory. Give a smaller network or --size; in training a smaller "
    "--batch-size.\n"
)
ERRORS = {
    "CUDA": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)."),
    "Python": MemoryError(),
}


class Greedy(keras.layers.Layer):
    """Fails as torch does, in the first step of a training."""

    raises: BaseException

    def call(self, inputs, training=None):
        if training:
            raise self.raises
        return inputs


@pytest.fixture
def greedy_network():
    if "greedy_test_net" not in [spec.name for spec in list_models()]:

        @register_model(source="the tests")
        def greedy_test_net(x):
            return Greedy()(keras.layers.GlobalAveragePooling2D()(x))

    return "greedy_test_net"


@pytest.mark.parametrize("kind", ERRORS)
def test_a_training_that_does_not_fit(kind, greedy_network, phantoms, tmp_path, capsys):
    Greedy.raises = ERRORS[kind]
    with pytest.raises(SystemExit) as stopped:
        main(["train", greedy_network, "--data", str(phantoms), "--output-dir", str(tmp_path)])
    assert stopped.value.code == 1
    assert capsys.readouterr().err.endswith(SENTENCE)


def test_any_other_error_of_torchs_stays_a_traceback(greedy_network, phantoms, tmp_path):
    Greedy.raises = RuntimeError("shapes do not fit")
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        main(["train", greedy_network, "--data", str(phantoms), "--output-dir", str(tmp_path)])
