"""`export`: the ONNX file gives what the Keras file gives, in a process without Keras."""

import importlib.util
import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from click.testing import CliRunner
from helpers.refusals import refusal

from cxr_keras import calibrate, ensemble, predict
from cxr_keras.cli import main
from cxr_keras.data.images import read_image
from cxr_keras.models.registry import build_model
from cxr_keras.runs import model_file, onnx_file
from cxr_keras.runs.card import Card

MISSING = [p for p in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(p) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f"not installed here: {MISSING}")
needs_torch = pytest.mark.skipif(keras.backend.backend() != "torch", reason="torch writes ONNX")
pytestmark = [needs_onnx, needs_torch, pytest.mark.slow]  # .ci/run installs the extra onnx

BARE = """
import sys, json
sys.modules["keras"] = sys.modules["torch"] = sys.modules["tensorflow"] = None
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
pixels = np.load(sys.argv[2])
np.save(sys.argv[3], session.run(["probabilities"], {"pixels": pixels.astype("float32")})[0])
print(json.dumps(session.get_modelmeta().custom_metadata_map))
"""


def run_bare(file, pixels, folder):
    """Probabilities and metadata by ONNX Runtime, where Keras and torch cannot be imported."""
    np.save(folder / "pixels.npy", pixels)
    command = [sys.executable, "-c", BARE, file, folder / "pixels.npy", folder / "found.npy"]
    result = subprocess.run(map(str, command), capture_output=True, text=True, check=True)
    return np.load(folder / "found.npy"), json.loads(result.stdout)


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    target = tmp_path_factory.mktemp("onnx") / "net.onnx"
    result = CliRunner().invoke(main, ["export", str(run.folder), str(target)])
    assert result.exit_code == 0, result.output
    return target


def test_onnx_runtime_alone_gives_the_same_probabilities(exported, run, phantoms, tmp_path):
    pixels = np.stack([read_image(file) for file in sorted((phantoms / "images").iterdir())[:7]])
    found, said = run_bare(exported, pixels[..., None], tmp_path)
    expected = model_file.load_model(run.folder).predict_on_batch(pixels[..., None])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    card = model_file.read_card(run.folder)
    assert json.loads(said["labels"]) == list(card.labels)
    assert json.loads(said["thresholds"]) == pytest.approx(card.thresholds)
    assert (said["size"], said["stored"], said["fit"]) == ("224", "256", "crop")


def test_predict_takes_the_file_and_says_what_it_cannot_do(exported, run, phantoms, tmp_path):
    rows = predict(exported, phantoms, csv_file=tmp_path / "onnx.csv")
    usual = predict(run.folder, phantoms, csv_file=tmp_path / "keras.csv")
    for row, other in zip(rows, usual, strict=True):
        assert row.findings == other.findings
        assert row.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    flipped = predict(exported, phantoms, tta="flip")
    assert flipped[0].probabilities == pytest.approx(
        predict(run.folder, phantoms, tta="flip")[0].probabilities, abs=1e-5
    )
    assert ".keras file" in refusal(predict, exported, phantoms, heatmaps=tmp_path)
    assert ".keras file" in refusal(predict, exported, phantoms, fix_orientation=True)
    assert ".keras file" in refusal(predict, exported, phantoms, precision="bfloat16")


def test_what_is_no_such_file_is_refused(exported, run, phantoms, tmp_path):
    assert "ends in .onnx" in refusal(onnx_file.export, run.folder, tmp_path / "net.bin")
    assert "no model file" in refusal(predict, tmp_path / "none.onnx", phantoms)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(exported.read_bytes()[:2000])
    assert "cannot be loaded" in refusal(predict, cut, phantoms)
    import onnx

    stranger = onnx.load(exported)
    del stranger.metadata_props[:]
    onnx.save(stranger, cut)
    assert "did not write" in refusal(predict, cut, phantoms)
    outside = onnx.load(exported)
    weights = outside.graph.initializer[0]
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="secret.bin")
    cut.write_bytes(outside.SerializeToString())
    assert "other files" in refusal(predict, cut, phantoms)
    renamed = onnx.load(exported)
    renamed.graph.input[0].name = "image"
    for node in renamed.graph.node:
        node.input[:] = ["image" if name == "pixels" else name for name in node.input]
    onnx.save(renamed, cut)
    assert "as its card says" in refusal(predict, cut, phantoms)


def test_a_file_that_would_say_something_else_is_not_written(run, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "TOLERANCE", -1.0)
    assert "nothing is written" in refusal(onnx_file.export, run.folder, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


# the smallest of each family; the others are the same layers
FAMILIES = (
    *("alexnet_custom", "resnet_custom", "densenet_custom", "efficientnet_lite0", "convnext_tiny"),
)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_agrees(name, tmp_path):
    keras.utils.set_random_seed(3)
    network = build_model(name, "none", outputs=15, size=64, fit="whole")
    pixels = blobs(24)
    spread_out(network, pixels)
    card = Card(data={"size": 64, "fit": "whole"})
    model_file.save_model(network, card, tmp_path / "model.keras")
    onnx_file.export(tmp_path / "model.keras", tmp_path / "model.onnx")
    expected = model_file.load_model(tmp_path / "model.keras").predict_on_batch(pixels)
    found, _ = run_bare(tmp_path / "model.onnx", pixels, tmp_path)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert expected.std() > 0.05


def blobs(count):
    """Images of 64 pixels, each with some bright discs."""
    rng, (rows, columns) = np.random.default_rng(1), np.mgrid[:64, :64]
    images = np.full((count, 64, 64), 40.0)
    for image in images:
        for row, column, wide in rng.uniform((0, 0, 4), (64, 64, 16), (5, 3)):
            image += 60 * ((rows - row) ** 2 + (columns - column) ** 2 < wide**2)
    return np.clip(images, 0, 255).astype("uint8")[..., np.newaxis]


def spread_out(network, pixels):
    """Give a network with random weights statistics and a head with which its answers differ."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    network(pixels, training=True)
    logits = keras.Model(network.input, network.get_layer("logits").output)
    kernel = network.get_layer("logits").kernel
    scale = 0.5 / logits.predict_on_batch(pixels).std()
    kernel.assign(keras.ops.convert_to_numpy(kernel) * scale)


def test_a_calibrated_ensemble_gives_its_calibrated_probabilities(run, copy, phantoms, tmp_path):
    calibrate(copy, method="platt", resamples=0)
    shutil.copytree(copy, tmp_path / "other")
    both = ensemble([copy, tmp_path / "other"], name="both", folder=tmp_path, resamples=0).folder
    calibrate(both, method="temperature", resamples=0)
    onnx_file.export(both, tmp_path / "both.onnx")
    rows, usual = (predict(one, phantoms) for one in (tmp_path / "both.onnx", both))
    for row, other in zip(rows, usual, strict=True):
        assert row.probabilities == pytest.approx(other.probabilities, abs=1e-5)
    plain = predict(run.folder, phantoms)
    assert rows[0].probabilities != pytest.approx(plain[0].probabilities, abs=1e-3)
