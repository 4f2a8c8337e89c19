"""Every optimizer takes the same steps on every backend, with decay and factors of the rate."""

import numpy as np
import pytest
from helpers.backends import run_on

SCRIPT = """
import sys
import keras, numpy as np
from cxr_keras.training.optimizers import make_optimizer

found = {}
for name in ("adam", "adamw", "sgd"):
    for factor in (1.0, 0.3, 0.0):
        rng = np.random.default_rng(3)
        layers = [keras.layers.Dense(4, name="a"), keras.layers.Dense(3, name="b")]
        model = keras.Sequential([keras.Input((5,)), *layers])
        start = [rng.normal(size=weight.shape) for weight in model.get_weights()]
        model.set_weights(start)
        factors = {weight.path: factor for weight in layers[0].weights} if factor != 1 else None
        decay = 0 if name == "adam" else 0.1
        options = {"weight_decay": decay, "clip_norm": 1.0, "accumulate": 2}
        model.compile(make_optimizer(name, 0.05, multipliers=factors, **options), "mse")
        x, y = rng.normal(size=(32, 5)), rng.normal(size=(32, 3))
        model.fit(x, y, batch_size=4, epochs=2, shuffle=False, verbose=0)
        kept = [np.float32(weight) for weight in start[:2]]
        same = all(np.array_equal(a, b) for a, b in zip(kept, model.get_weights()))
        assert same == (factor == 0), (name, factor)
        weights = [weight.ravel() for weight in model.get_weights()]
        found[f"{name} {factor}"] = np.concatenate(weights)
    optimizer = make_optimizer(name, 0.1, weight_decay=0 if name == "adam" else 0.5)
    for layer in layers:
        layer.bias.assign(np.ones(layer.bias.shape))
    optimizer.apply([keras.ops.zeros(w.shape) for w in model.weights], model.weights)
    assert all((keras.ops.convert_to_numpy(layer.bias) == 1).all() for layer in layers), name
np.savez(sys.argv[1], **found)
"""


def steps_of(backend, folder):
    file = folder / f"{backend}.npz"
    run_on(backend, SCRIPT, file)
    return np.load(file)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_the_steps_are_those_of_torch(tmp_path, backend):
    theirs, ours = steps_of(backend, tmp_path), steps_of("torch", tmp_path)
    assert len(ours.files) == 9
    for name in ours.files:
        np.testing.assert_allclose(theirs[name], ours[name], atol=2e-5, err_msg=name)
