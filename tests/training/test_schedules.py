"""Learning rates over a training."""

import keras
import numpy as np
import pytest

from cxr_keras.training.config import TrainConfig
from cxr_keras.training.schedules import learning_rate, plateau_rate

STEPS = 200


def rates(schedule, **settings):
    config = TrainConfig("any", lr=0.01, schedule=schedule, **settings)
    rate = learning_rate(config, STEPS)
    if not callable(rate):
        return np.full(STEPS, rate)
    return np.array([float(rate(keras.ops.convert_to_tensor(step))) for step in range(STEPS)])


def test_constant_and_plateau_begin_at_the_rate():
    assert set(rates("constant")) == {0.01}
    assert set(rates("plateau")) == {0.01}


@pytest.mark.parametrize(
    ("schedule", "settings", "first", "peak"),
    [
        ("cosine", {"warmup": 0.1}, 0.0, 20),
        ("cosine", {"warmup": 0.0}, 0.01, 0),
        ("one-cycle", {}, 0.01 / 25, 60),
    ],
)
def test_a_climb_to_the_highest_rate_and_a_fall_to_nothing(schedule, settings, first, peak):
    found = rates(schedule, **settings)
    assert found[0] == pytest.approx(first, abs=1e-8)
    assert found.argmax() == pytest.approx(peak, abs=1)
    assert found.max() == pytest.approx(0.01, rel=1e-3)
    assert (np.diff(found[:peak]) > 0).all()
    assert (np.diff(found[peak + 1 :]) < 0).all()
    assert found[-1] < 1e-5


def test_one_cycle_is_torchs():
    import torch

    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.01)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=STEPS + 1)
    expected = []
    for _ in range(STEPS):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    np.testing.assert_allclose(rates("one-cycle"), expected, atol=2e-4)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], 1.0),
        ([0.1, 0.2, 0.3, 0.4], 1.0),
        ([0.5, 0.4, 0.4], 1.0),
        ([0.5, 0.4, 0.4, 0.5], 0.1),
        ([0.5, 0.4, 0.4, 0.6, 0.5, 0.5, 0.5], 0.1),
        ([0.5] + [0.4] * 6, 0.01),
        ([float("nan")] * 3, 0.1),
    ],
)
def test_a_plateau_takes_a_tenth_after_three_epochs_in_vain(values, expected):
    assert plateau_rate(1.0, values) == pytest.approx(expected)
