"""Ctrl-C ends a training wherever it falls."""

import signal

import keras
import pytest

from cxr_keras import train
from cxr_keras.utils.interrupts import interrupts_kept


@pytest.fixture(autouse=True)
def pythons_own_handler():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Press(keras.callbacks.Callback):
    """Ctrl-C in the third batch, while Keras checks its structure."""

    armed = False

    def on_train_batch_begin(self, batch, logs=None):
        self.armed = batch == 2

    def now(self, structure):
        if self.armed:
            self.armed = False
            signal.raise_signal(signal.SIGINT)
        return structure


def test_ctrl_c_within_a_check_where_keras_catches_everything_ends_the_training(
    phantoms, tiny_model, tmp_path, monkeypatch
):
    press = Press()
    monkeypatch.setattr("keras.src.tree.lists_to_tuples", press.now)
    with (
        pytest.warns(UserWarning, match="structure of `inputs`"),  # that is all Keras says
        pytest.raises(KeyboardInterrupt),
    ):
        train(tiny_model, phantoms, epochs=2, batch_size=4, folder=tmp_path, callbacks=[press])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_check_without_an_interrupt_says_nothing():
    with interrupts_kept() as check:
        check()


def test_the_handler_of_somebody_else_is_left_alone():
    def own(number, frame):
        heard.append(number)

    heard: list[int] = []
    signal.signal(signal.SIGINT, own)
    with interrupts_kept() as check:
        signal.raise_signal(signal.SIGINT)
        check()
    assert heard == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is own
