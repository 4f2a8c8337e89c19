import functools

import keras
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cxr_keras.training.optimizers import make_optimizer

adam = functools.partial(make_optimizer, "adam")

OPTIONS = [
    {},
    {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3},
    {"amsgrad": True},
    {"clipnorm": 0.3},
    {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.01, 5, 0.7)},
]


def steps(optimizer, count, seed=0, variables=None):
    rng = np.random.default_rng(seed)
    shapes = [(7, 5), (3, 3, 4, 8), (5,), ()]
    variables = variables or [keras.Variable(rng.normal(size=s), dtype="float32") for s in shapes]
    grads = np.random.default_rng(seed + 1)
    for _ in range(count):
        batch = [grads.normal(size=v.shape) * 10 ** grads.uniform(-4, 1) for v in variables]
        batch = [keras.ops.convert_to_tensor(np.asarray(g, "float32")) for g in batch]
        optimizer.apply(batch, variables)
    return variables


def values(variables):
    return [keras.ops.convert_to_numpy(v) for v in variables]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_many_steps_equal_keras_own_adam(options):
    options = {"learning_rate": 0.01} | options
    fused = values(steps(adam(**options), 60))
    plain = values(steps(keras.optimizers.Adam(**options), 60))
    for a, b in zip(fused, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


OURS_AND_KERAS = [
    ("adam", {"clip_norm": 0.5}, keras.optimizers.Adam, {"global_clipnorm": 0.5}),
    ("adam", {"accumulate": 3}, keras.optimizers.Adam, {"gradient_accumulation_steps": 3}),
    ("adamw", {"weight_decay": 0.2}, keras.optimizers.AdamW, {"weight_decay": 0.2}),
    ("sgd", {"weight_decay": 0.2}, keras.optimizers.SGD, {"weight_decay": 0.2, "momentum": 0.9}),
]


@pytest.mark.parametrize(("name", "ours", "kind", "theirs"), OURS_AND_KERAS)
def test_each_optimizer_equals_keras_own_and_leaves_vectors_undecayed(name, ours, kind, theirs):
    own = kind(learning_rate=0.01, **theirs)
    plain = [keras.Variable(value) for value in values(steps(make_optimizer(name, 0.01), 0))]
    if "weight_decay" in theirs:
        own.exclude_from_weight_decay(var_list=[v for v in plain if len(v.shape) < 2])
    steps(own, 30, variables=plain)
    mine = steps(make_optimizer(name, 0.01, **ours), 30)
    for a, b in zip(values(mine), values(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


def test_the_average_of_the_weights_is_keras_own():
    optimizer, theirs = (
        adam(0.01, ema=0.9),
        keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9),
    )
    mine, plain = steps(optimizer, 30), steps(theirs, 30)
    for one, variables in ((optimizer, mine), (theirs, plain)):
        one.finalize_variable_values(variables)
    for a, b in zip(values(mine), values(plain), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_a_share_of_the_rate_is_an_optimizer_with_that_rate(name):
    """One variable at a tenth of the rate moves as it would alone with an optimizer of a tenth."""
    start = values(steps(make_optimizer(name, 0.01), 0))
    together = [keras.Variable(value, name=f"v{i}") for i, value in enumerate(start)]
    rates = {together[0].path: 0.1, together[1].path: 0.0}
    options = {"weight_decay": 0.3} if name != "adam" else {}
    steps(make_optimizer(name, 0.01, rates=rates, **options), 20, variables=together)
    slow = [keras.Variable(value) for value in start]
    steps(make_optimizer(name, 0.001, **options), 20, variables=slow)
    np.testing.assert_allclose(values(together)[0], values(slow)[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(values(together)[1], start[1])


def test_the_body_waits_for_the_head():
    start = values(steps(adam(0.01), 0))
    variables = [keras.Variable(value, name=f"v{i}") for i, value in enumerate(start)]
    optimizer = adam(0.01, rates={variables[0].path: 1.0}, body_from=4)
    steps(optimizer, 4, variables=variables)
    np.testing.assert_array_equal(values(variables)[0], start[0])
    assert not np.array_equal(values(variables)[1], start[1])
    steps(optimizer, 1, variables=variables)
    assert not np.array_equal(values(variables)[0], start[0])


def test_a_checkpoint_of_the_variables_goes_on_as_if_never_stopped():
    whole = values(steps(adam(0.01), 20))
    optimizer = adam(0.01)
    variables = steps(optimizer, 10)
    kept = values(optimizer.variables), values(variables)
    fresh = adam(0.01)
    again = [keras.Variable(value) for value in kept[1]]
    fresh.build(again)
    for variable, value in zip(fresh.variables, kept[0], strict=True):
        variable.assign(value)
    grads = np.random.default_rng(1)
    batches = []
    for _ in range(20):
        batches.append([grads.normal(size=v.shape) * 10 ** grads.uniform(-4, 1) for v in again])
    for batch in batches[10:]:
        tensors = [keras.ops.convert_to_tensor(np.asarray(g, "float32")) for g in batch]
        fresh.apply(tensors, again)
    for a, b in zip(values(again), whole, strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_is_the_fused_kernel():
    with torch.profiler.profile() as profile:
        steps(adam(0.01), 1)
    assert "aten::_fused_adam_" in {event.key for event in profile.key_averages()}


def test_its_configuration_is_adams():
    ours, keras_own = adam(0.01).get_config(), keras.optimizers.Adam(0.01).get_config()
    assert ours | {"name": ""} == keras_own | {"name": ""}


class Operations(TorchDispatchMode):
    """Notes what torch is asked to compute."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [{}, OPTIONS[-1]], ids=["fixed rate", "schedule"])
def test_a_step_reads_nothing_back_and_makes_no_tensor_for_each_variable(options):
    besides = []
    for count in (1, 9):
        optimizer = adam(**{"learning_rate": 0.01} | options)
        variables = [keras.Variable(np.ones((3, 2)), dtype="float32") for _ in range(count)]
        gradients = [torch.ones(3, 2) for _ in variables]
        optimizer.apply(gradients, variables)
        with Operations() as done:
            optimizer.apply(gradients, variables)
        assert done.names.count("_fused_adam_") == count
        besides.append([name for name in done.names if name != "_fused_adam_"])
    assert besides[0] == besides[1]  # as much for one variable as for nine
    assert "_local_scalar_dense" not in besides[0]  # what `item`, `int` and `float` call


def test_without_the_fused_kernel_it_is_keras_own_and_says_so(monkeypatch, capsys):
    monkeypatch.delattr(torch, "_fused_adam_")
    optimizer = adam(0.01)
    assert "no fused Adam: training uses Keras's own, which is slower" in capsys.readouterr().err
    kept = values(steps(optimizer, 3))
    for a, b in zip(kept, values(steps(keras.optimizers.Adam(0.01), 3)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
