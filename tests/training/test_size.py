"""A run of another size and fit: everything that follows takes images as it does."""

import dataclasses
import json

import keras
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from helpers.model_files import replace_card
from helpers.refusals import refusal
from helpers.run_folders import COLUMNS, probabilities
from helpers.shared import shared
from PIL import Image

from cxr_keras import build_model, calibrate, evaluate, load_model, predict, train
from cxr_keras.cli import main
from cxr_keras.data.images import read_image
from cxr_keras.framing import Framing
from cxr_keras.runs import model_file, run_folder

WHOLE = Framing(72, "whole")


@pytest.fixture(scope="module")
def small(phantoms, tiny_model, tmp_path_factory):
    """A run on whole images of 72 pixels."""
    folder = tmp_path_factory.mktemp("small")
    finished = train(tiny_model, phantoms, epochs=1, size=72, fit="whole", folder=folder)
    with shared(folder):
        yield finished


def images_of(run, data):
    names = pd.read_csv(run.folder / "predictions.csv")["Image Index"]
    return [data / "images" / name for name in names]


def test_the_run_says_its_size(small, tiny_model):
    assert small.folder.name == f"{tiny_model}-ep1-lr0.0005-size72-whole"
    info = run_folder.read_run(small.folder)
    for part in ("settings", "data"):
        assert (info[part]["size"], info[part]["fit"]) == (72, "whole")
    assert model_file.read_card(small.folder).framing == WHOLE


def test_a_default_run_is_named_as_ever_and_says_its_size_too(run):
    assert run.folder.name == "tiny_test_net-ep3-lr0.002"
    assert model_file.read_card(run.folder).framing == Framing()
    assert run.info["data"]["size"] == 224


def test_a_bare_keras_and_predict_give_what_was_measured(small, phantoms):
    measured = probabilities(small.folder)
    files = images_of(small, phantoms)
    network = keras.saving.load_model(small.folder / "model.keras", compile=False)
    assert network.input_shape == (None, 72, 72, 1)
    pixels = np.stack([read_image(file, WHOLE) for file in files])[..., None]
    np.testing.assert_allclose(network.predict_on_batch(pixels), measured, atol=1e-6)
    rows = predict(small.folder, files)
    predicted = [list(row.probabilities.values()) for row in rows]
    np.testing.assert_allclose(predicted, measured, atol=1e-6)


@pytest.mark.slow
def test_evaluate_takes_its_own_split_and_other_data_at_its_size(
    small, phantoms, many_labels, tmp_path
):
    own = evaluate(small.folder, phantoms, out=tmp_path / "own", resamples=0)
    np.testing.assert_allclose(own.predictions[COLUMNS], probabilities(small.folder), atol=1e-6)
    assert "trained on" in refusal(evaluate, small.folder, split="train", out=tmp_path / "t")
    other = evaluate(small.folder, many_labels, out=tmp_path / "other", resamples=0)
    image = many_labels / "images" / other.predictions["Image Index"][0]
    row = predict(small.folder, image)[0]
    expected = other.predictions[COLUMNS].to_numpy()[0]
    np.testing.assert_allclose(list(row.probabilities.values()), expected, atol=1e-6)


@pytest.mark.slow
def test_calibrate_takes_its_validation_split_at_its_size(many_labels, tiny_model, tmp_path):
    done = train(tiny_model, many_labels, epochs=1, size=64, folder=tmp_path)
    before = probabilities(done.folder)
    calibrate(done.folder, method="temperature", resamples=0)
    after = probabilities(done.folder)
    assert not np.allclose(before, after, atol=1e-4)
    image = images_of(done, many_labels)[0]
    row = predict(done.folder, image)[0]
    np.testing.assert_allclose(list(row.probabilities.values()), after[0], atol=1e-5)


@pytest.mark.slow
def test_heat_maps_are_of_its_images(small, phantoms, tmp_path):
    image = images_of(small, phantoms)[0]
    assert not predict(small.folder, image, heatmaps=tmp_path)[0].error
    assert len(list(tmp_path.iterdir())) >= 1


def test_a_corner_is_seen_by_a_network_of_whole_images_alone(small, run, tmp_path):
    pixels = np.random.default_rng(0).integers(60, 90, (300, 500), dtype="uint8")
    Image.fromarray(pixels).save(tmp_path / "plain.png")
    pixels[:60, :60] = 255
    Image.fromarray(pixels).save(tmp_path / "marked.png")
    moved = {}
    for name, one in (("whole", small), ("crop", run)):
        plain, marked = predict(one.folder, [tmp_path / "plain.png", tmp_path / "marked.png"])
        moved[name] = plain.probabilities != marked.probabilities
    assert moved == {"whole": True, "crop": False}


def test_a_card_that_says_another_size_is_refused(small, tmp_path):
    network, card = load_model(small.folder), model_file.read_card(small.folder)
    file = tmp_path / "x.keras"
    for data, says in (
        ({}, "it takes (None, 72, 72, 1) and gives 15 outputs; expected (N, 256, 256, 1) and 15."),
        ({"size": 72, "fit": "crop"}, "expected (N, 82, 82, 1) and 15."),
        ({"size": "large"}, "card that cannot be read (size must be a whole number."),
        ({"size": 7}, "card that cannot be read (size must be 64 or more."),
    ):
        model_file.save_model(network, card, file)
        replace_card(file, dataclasses.replace(card, data=data))
        assert says in refusal(load_model, file)


def test_a_built_model_decides_its_size(phantoms, tiny_model, tmp_path):
    network = build_model(tiny_model, size=64, fit="whole")
    done = train(network, phantoms, epochs=1, folder=tmp_path)
    assert done.folder.name == f"{tiny_model}-ep1-lr0.0005-size64-whole"
    assert model_file.read_card(done.folder).framing == Framing(64, "whole")
    assert "Received: size=224" in refusal(train, network, phantoms, size=224, folder=tmp_path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"size": 63}, "size must be 64 or more. Received: 63."),
        ({"size": 0}, "size must be 64 or more. Received: 0."),
        ({"size": 2000}, "size must be 1024 or less. Received: 2000."),
        ({"size": 100.5}, "size must be a whole number. Received: 100.5."),
        ({"fit": "stretch"}, "There is no fit 'stretch'. Choose one of: crop, whole."),
    ],
)
def test_wrong_sizes_are_one_sentence(phantoms, tiny_model, options, says, tmp_path):
    assert refusal(train, tiny_model, phantoms, folder=tmp_path, **options) == says
    assert not list(tmp_path.iterdir())


def test_a_run_begun_before_there_was_a_choice_is_not_resumed_at_another_size(
    phantoms, tiny_model, tmp_path
):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"status": "running", "settings": {"epochs": 30}}))
    options = {"folder": tmp_path, "name": "run", "resume": True}
    says = refusal(train, tiny_model, phantoms, size=96, **options)
    assert "begun with other settings (size 224 → 96)" in says


def test_the_command_line_prepares_what_is_asked_for(phantoms, tmp_path):
    asked = ["prepare", str(phantoms), "--size", "64", "--fit", "whole", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0
    store = result.stderr.rpartition("Pixel store: ")[2].strip()
    assert ".whole64-" in store
    listed = CliRunner().invoke(main, ["cache", "list"]).stdout
    assert "pixel store (64 px, whole)" in listed
    for wrong in (["--size", "32"], ["--fit", "zoom"]):
        assert CliRunner().invoke(main, ["prepare", str(phantoms), *wrong]).exit_code == 2
