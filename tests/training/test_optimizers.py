import keras
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cxr_keras.errors import CxrError
from cxr_keras.models.torch_kernels import SWITCH
from cxr_keras.training.checkpoint import assign, snapshot
from cxr_keras.training.optimizers import adam, make_optimizer
from cxr_keras.training.options import OPTIMIZERS

OPTIONS = [
    {},
    {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3},
    {"amsgrad": True},
    {"weight_decay": 0.02},
    {"weight_decay": 0.02, "global_clipnorm": 0.5, "gradient_accumulation_steps": 2},
    {"clipnorm": 0.3},
    {"global_clipnorm": 0.5},
    {"gradient_accumulation_steps": 3},
    {"use_ema": True, "ema_momentum": 0.9},
    {"use_ema": True, "ema_momentum": 0.9, "gradient_accumulation_steps": 2},
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


def assert_close(found, expected):
    for a, b in zip(values(found), values(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
def test_many_steps_equal_keras_own_adam(options):
    options = {"learning_rate": 0.01} | options
    fused, plain = adam(**options), keras.optimizers.Adam(**options)
    found, expected = steps(fused, 60), steps(plain, 60)
    assert_close(found, expected)
    for optimizer, variables in ((fused, found), (plain, expected)):
        optimizer.finalize_variable_values(variables)  # averages take their place, if there are any
    assert_close(found, expected)


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
    assert "aten::_fused_adamw_" in {event.key for event in profile.key_averages()}


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
        assert done.names.count("_fused_adamw_") == 1
        besides.append(done.names)
    assert besides[0] == besides[1]  # as much for one variable as for nine
    assert "_local_scalar_dense" not in besides[0]  # what `item`, `int` and `float` call


def test_without_the_fused_kernel_it_is_keras_own_and_says_so(monkeypatch, capsys):
    monkeypatch.delattr(torch, "_fused_adamw_")
    optimizer = adam(0.01)
    assert "no fused Adam: training uses Keras's own, which is slower" in capsys.readouterr().err
    kept = values(steps(optimizer, 3))
    for a, b in zip(kept, values(steps(keras.optimizers.Adam(0.01), 3)), strict=True):
        np.testing.assert_array_equal(a, b)


def named(*names):
    """Variables of these names, with the same numbers at every call."""
    rng = np.random.default_rng(0)
    return [keras.Variable(rng.normal(size=(4, 3)), dtype="float32", name=name) for name in names]


def gradients_of(count, variables, seed=1):
    rng = np.random.default_rng(seed)
    return [[rng.normal(size=v.shape).astype("float32") for v in variables] for _ in range(count)]


def apply_all(optimizer, batches, variables):
    for batch in batches:
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in batch], variables)


def keras_own(name, learning_rate, weight_decay, **options):
    """What Keras calls the same."""
    options |= {"weight_decay": weight_decay or None}
    if name == "sgd":
        return keras.optimizers.SGD(learning_rate, momentum=0.9, **options)
    kind = keras.optimizers.AdamW if weight_decay else keras.optimizers.Adam
    return kind(learning_rate, **options)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_everything_together_is_what_keras_has(name):
    weight_decay = 0 if name == "adam" else 0.05
    rate = keras.optimizers.schedules.CosineDecay(0.05, 20)
    options = {"clip_norm": 1.5, "accumulate": 3, "ema": 0.8}
    ours = make_optimizer(name, rate, weight_decay=weight_decay, **options)
    theirs = keras_own(
        *(name, rate, weight_decay),
        global_clipnorm=1.5,
        gradient_accumulation_steps=3,
        use_ema=True,
        ema_momentum=0.8,
    )
    found, expected = named("kernel", "kernel"), named("kernel", "kernel")
    for optimizer, variables in ((ours, found), (theirs, expected)):
        apply_all(optimizer, gradients_of(20, variables), variables)
    assert_close(found, expected)
    for optimizer, variables in ((ours, found), (theirs, expected)):
        optimizer.finalize_variable_values(variables)
    assert_close(found, expected)


def test_nesterovs_momentum_is_kerass():
    found, expected = named("kernel"), named("kernel")
    ours = make_optimizer("sgd", 0.05, momentum=0.7, nesterov=True)
    apply_all(ours, gradients_of(9, found), found)
    theirs = keras.optimizers.SGD(0.05, momentum=0.7, nesterov=True)
    apply_all(theirs, gradients_of(9, expected), expected)
    assert_close(found, expected)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_biases_and_normalisations_do_not_decay(name):
    """With a gradient of zero a step is the decay and nothing else."""
    pixels = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 3, bias_initializer="ones")(pixels)
    x = keras.layers.DepthwiseConv2D(3, bias_initializer="ones")(x)
    x = keras.layers.BatchNormalization(beta_initializer="ones")(x)
    x = keras.layers.Dense(2, bias_initializer="ones")(keras.layers.Flatten()(x))
    model = keras.Model(pixels, x)
    before = values(model.trainable_weights)
    optimizer = make_optimizer(name, 0.1, weight_decay=0.5)
    zeros = [[np.zeros(v.shape, "float32") for v in model.trainable_weights]]
    apply_all(optimizer, zeros, model.trainable_weights)
    after = values(model.trainable_weights)
    decayed = []
    for variable, old, new in zip(model.trainable_weights, before, after, strict=True):
        np.testing.assert_allclose(new / old, new.flat[0] / old.flat[0], rtol=1e-5)
        decayed.append((variable.name, round(float(new.flat[0] / old.flat[0]), 5)))
    assert decayed == [
        *[("kernel", 0.95), ("bias", 1.0)] * 2,
        *[("gamma", 1.0), ("beta", 1.0)],
        *[("kernel", 0.95), ("bias", 1.0)],
    ]


@pytest.mark.parametrize("kernels", ["on", "off"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_multipliers_are_optimizers_with_other_rates(name, kernels, monkeypatch):
    monkeypatch.setenv(SWITCH, kernels)
    weight_decay = 0 if name == "adam" else 0.1
    variables, alone = named("body", "head", "frozen"), named("body", "head", "frozen")
    body, _, frozen = variables
    kept = values([frozen])[0]
    factors = {body.path: 0.1, frozen.path: 0.0, "no such/kernel": 0.5}
    ours = make_optimizer(name, 0.02, weight_decay=weight_decay, multipliers=factors, ema=0.9)
    batches = gradients_of(12, variables)
    for batch in batches:
        batch[2][:] = np.inf  # not even this may touch it
    apply_all(ours, batches, variables)
    for place, rate in ((0, 0.002), (1, 0.02)):
        one = [alone[place]]
        own = keras_own(name, rate, weight_decay)
        apply_all(own, [[batch[place]] for batch in batches], one)
    assert_close(variables[:2], alone[:2])
    np.testing.assert_array_equal(values([frozen])[0], kept)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_checkpoint_of_any_optimizer_goes_on_as_if_never_stopped(name):
    """In the midst of accumulated batches, and with averaged weights."""

    def make(variables):
        factors = {variables[0].path: 0.5, variables[1].path: 0.0}
        decay = 0 if name == "adam" else 0.1
        options = {"clip_norm": 1.0, "accumulate": 3, "ema": 0.9, "weight_decay": decay}
        return make_optimizer(name, 0.05, multipliers=factors, **options)

    whole, first = named("a", "b", "c"), named("a", "b", "c")
    batches = gradients_of(14, whole)
    uninterrupted, interrupted = make(whole), make(first)
    apply_all(uninterrupted, batches, whole)
    apply_all(interrupted, batches[:7], first)
    state, weights = snapshot(interrupted.variables), snapshot(first)
    again = named("a", "b", "c")
    resumed = make(again)
    assign(again, lambda i: weights[i])
    resumed.build(again)
    assign(resumed.variables, lambda i: state[i])
    apply_all(resumed, batches[7:], again)
    for a, b in zip(snapshot(resumed.variables), snapshot(uninterrupted.variables), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(values(again), values(whole), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("rmsprop", {}, "There is no optimizer 'rmsprop'. Choose one of: adam, adamw, sgd."),
        ("adam", {"weight_decay": 0.1}, "is AdamW. Received: adam with 0.1; choose adamw"),
        ("adamw", {"weight_decay": -1}, "The weight decay must be 0 or more. Received: -1."),
        ("sgd", {"clip_norm": 0.0}, "must be above 0. Received: 0.0."),
        ("sgd", {"accumulate": 0}, "to accumulate must be 1 or more. Received: 0."),
        ("adam", {"ema": 1.0}, "averaged weights must be between 0 and 1. Received: 1.0."),
        ("adam", {"multipliers": {"a": -1}}, "factor of a must be 0 or more. Received: -1."),
    ],
)
def test_what_makes_no_sense_is_a_sentence(name, options, says):
    with pytest.raises(CxrError) as caught:
        make_optimizer(name, 0.1, **options)
    assert says in str(caught.value)


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_gradient_that_is_no_number_spoils_all_that_are_clipped_with_it(bad):
    """As in Keras, so that the loss shows it at once."""
    for optimizer in (
        make_optimizer("adam", 0.1, clip_norm=1.0),
        keras.optimizers.Adam(0.1, global_clipnorm=1.0),
    ):
        variables = named("a", "b")
        batches = gradients_of(1, variables)
        batches[0][0][0, 0] = bad
        apply_all(optimizer, batches, variables)
        assert all(np.isnan(value).all() for value in values(variables))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("kernels", ["on", "off"])
def test_the_body_waits_for_the_head(name, kernels, monkeypatch):
    monkeypatch.setenv("CXR_KERAS_KERNELS", kernels)
    variables = [keras.Variable([1.0, -2.0], name=part) for part in ("body", "head")]
    decay = {} if name == "adam" else {"weight_decay": 0.1}
    optimizer = make_optimizer(name, 0.01, multipliers={variables[0].path: 1.0}, wait=3, **decay)
    for batch in range(5):
        before = [np.array(value) for value in values(variables)]
        optimizer.apply([keras.ops.ones(2), keras.ops.ones(2)], variables)
        body, head = (
            not np.array_equal(a, b) for a, b in zip(before, values(variables), strict=True)
        )
        assert (body, head) == (batch >= 3, True)


@pytest.mark.parametrize("name", ["adam", "sgd"])
@pytest.mark.parametrize("kernels", ["on", "off"])
def test_a_short_training_ends_with_an_average_of_its_last_weights(name, kernels, monkeypatch):
    monkeypatch.setenv("CXR_KERAS_KERNELS", kernels)
    weight = keras.Variable([0.0, 5.0], name="weight")
    optimizer = make_optimizer(name, 0.1, ema=0.999, ema_warmup=True)
    average = None
    for done in range(40):
        optimizer.apply([keras.ops.ones(2)], [weight])
        momentum = min(0.999, (1 + done) / (10 + done)) if done else 0.0
        now = values([weight])[0]
        average = now if average is None else momentum * average + (1 - momentum) * now
    optimizer.finalize_variable_values([weight])
    np.testing.assert_allclose(values([weight])[0], average, rtol=1e-4)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_after_its_wait_the_body_moves_as_with_keras_own_adam(name, monkeypatch):
    """Its first steps are as long as the learning rate, not several times that."""
    rng = np.random.default_rng(0)
    gradients = rng.normal(1, 0.1, (60, 2)).astype("float32")
    found = {}
    for kernels in ("on", "off"):
        monkeypatch.setenv("CXR_KERAS_KERNELS", kernels)
        variables = [keras.Variable([1.0, -2.0], name=part) for part in ("body", "head")]
        optimizer = make_optimizer(name, 0.01, multipliers={variables[0].path: 1.0}, wait=40)
        moves = []
        for gradient in gradients:
            before = np.array(values(variables)[0])
            optimizer.apply([keras.ops.convert_to_tensor(gradient)] * 2, variables)
            moves.append(before - values(variables)[0])
        found[kernels] = np.array(moves)
    assert (found["on"][:40] == 0).all()
    assert (found["on"][40:] < 0.011).all()
    np.testing.assert_allclose(found["on"], found["off"], atol=1e-6)
