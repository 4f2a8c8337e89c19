"""Files that are no network of ours are refused, and nothing in them is run."""

import io
import json
import os
import zipfile

import numpy as np
import pytest
from helpers.model_files import rebuilt

from cxr_keras import predict
from cxr_keras.errors import ModelError


def lambda_model(path):
    import keras

    pixels, trace = keras.Input((256, 256, 1)), f"touch {path}.ran"
    x = keras.layers.Lambda(lambda t: (t, __import__("os").system(trace))[0])(pixels)
    path.with_name(f"{path.name}.ran").unlink()  # building ran it, as it should; loading must not
    x = keras.layers.Dense(15)(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(pixels, x).save(path)


def other_model(path):
    import keras

    pixels = keras.Input((32, 32, 3))
    keras.Model(pixels, keras.layers.Flatten()(pixels)).save(path)


def custom_layer_model(run, path):
    with zipfile.ZipFile(run.folder / "model.keras") as archive:
        config = archive.read("config.json").decode()
    config = config.replace('"class_name": "ReLU"', '"class_name": "Evil"', 1)
    config = config.replace('"module": "keras.layers"', '"module": "os"')
    rebuilt(run.folder / "model.keras", path, {"config.json": config})


def card_of(run, **changes):
    with zipfile.ZipFile(run.folder / "model.keras") as archive:
        return json.dumps(json.loads(archive.read("card.json")) | changes)


class Runs:
    """What a pickle can do when it is opened."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


def pickled_weights(run, path):
    values = io.BytesIO()
    np.savez(values, {"layers/conv1": np.array([Runs(f"{path}.ran")], dtype=object)})
    members = {"model.weights.h5": None, "model.weights.npz": values.getvalue()}
    rebuilt(run.folder / "model.keras", path, members)


BAD_MODELS = {
    "with pickled weights": (pickled_weights, "cannot be loaded as a Keras model"),
    "truncated": (
        lambda run, path: path.write_bytes((run.folder / "model.keras").read_bytes()[:-3000]),
        "is not a .keras file, or it is cut short",
    ),
    "text": (lambda run, path: path.write_text("hello"), "is not a .keras file"),
    "empty": (lambda run, path: path.write_bytes(b""), "is not a .keras file"),
    "another zip": (
        lambda run, path: zipfile.ZipFile(path, "w").writestr("a.txt", "a"),
        "cannot be loaded as a Keras model",
    ),
    "another application's": (lambda run, path: other_model(path), "is not a cxr-keras network"),
    "with a Lambda": (lambda run, path: lambda_model(path), "cannot be loaded as a Keras model"),
    "with a class of no Keras": (custom_layer_model, "cannot be loaded as a Keras model"),
    "of a newer version": (
        lambda run, path: rebuilt(
            run.folder / "model.keras",
            path,
            {"card.json": card_of(run, format="cxr-keras card 9")},
        ),
        "a newer cxr-keras may have written it",
    ),
    "with a card of other labels": (
        lambda run, path: rebuilt(
            run.folder / "model.keras",
            path,
            {
                "card.json": card_of(
                    run, labels=["Mass", "Edema"], normal=None, thresholds=[0.5, 0.5]
                )
            },
        ),
        "gives 15 outputs; expected (N, 256, 256, 1) and 2",
    ),
    "with a card of nonsense": (
        lambda run, path: rebuilt(run.folder / "model.keras", path, {"card.json": "[1]"}),
        "holds a card that cannot be read",
    ),
    "with a card of nameless labels": (
        lambda run, path: rebuilt(
            run.folder / "model.keras",
            path,
            {"card.json": card_of(run, labels=["Cold", 7], normal=None, thresholds=[0.5, 0.5])},
        ),
        "its labels are not names, each once",
    ),
    "with a card of thresholds beyond 1": (
        lambda run, path: rebuilt(
            run.folder / "model.keras", path, {"card.json": card_of(run, thresholds=[1.5] * 15)}
        ),
        "its thresholds are not numbers in 0…1",
    ),
    "with a card of impossible scaling": (
        lambda run, path: rebuilt(
            run.folder / "model.keras",
            path,
            {
                "card.json": card_of(
                    run, scaling={"method": "platt", "slope": [-1.0] * 15, "shift": [0.0] * 15}
                )
            },
        ),
        "slopes must be finite and above 0",
    ),
    "with a card of other thresholds": (
        lambda run, path: rebuilt(
            run.folder / "model.keras", path, {"card.json": card_of(run, thresholds=[0.5])}
        ),
        "has not one threshold a label",
    ),
}


@pytest.mark.parametrize("kind", BAD_MODELS)
def test_a_file_that_is_no_network_of_ours_is_refused_unopened(run, phantoms, tmp_path, kind):
    make, says = BAD_MODELS[kind]
    path = tmp_path / "bad.keras"
    make(run, path)
    with pytest.raises(ModelError) as caught:
        predict(path, [phantoms / "images"])
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "bad.keras.ran").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"junk", "not a .keras file"), (b"PK\x03\x04" + b"\0" * 50, "not a .keras file")],
)
def test_a_file_that_is_no_model_is_refused(tmp_path, phantoms, content, says):
    path = tmp_path / "model.keras"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=says):
        predict(path, [phantoms / "images"])
