"""`train --weights` with an own model file: what is copied, what is said, and what is refused."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
from helpers.model_files import read_member, replace_card
from helpers.processes import TINY_NETWORK
from helpers.refusals import refusal

from cxr_keras import build_model, calibrate, ensemble, evaluate, load_model, train
from cxr_keras.data.labels import LABELS
from cxr_keras.data.preparation import prepare
from cxr_keras.errors import DataError, ModelError
from cxr_keras.models.own_weights import copy_body, copy_head
from cxr_keras.runs import model_file
from cxr_keras.training.config import TrainConfig
from cxr_keras.training.own_start import own_start

OTHER_SPLIT = 6  # a data seed


def started(model, weights):
    """The network called `model`, with the weights that a training would begin with."""
    network = build_model(model)
    own_start(TrainConfig(model=model, weights=weights), resume=False).put_into(network, LABELS)
    return network


def same(a, b, *layers):
    """Whether these layers of two networks have the same weights."""
    pairs = [(a.get_layer(name).get_weights(), b.get_layer(name).get_weights()) for name in layers]
    return all(
        np.array_equal(ours, theirs)
        for one, other in pairs
        for ours, theirs in zip(one, other, strict=True)
    )


def test_body_and_head_are_copied_and_the_body_is_frozen(
    run, phantoms, tiny_model, tmp_path, capsys
):
    start = os.path.relpath(run.folder)
    assert same(started(tiny_model, start), load_model(run.folder), "conv1", "conv1_bn", "logits")
    options = {"weights": start, "epochs": 1, "lr": 0.01, "folder": tmp_path}
    new = train(tiny_model, phantoms, **options)
    said = capsys.readouterr().err
    assert f"The head is that of {start}, too: it predicts the same labels." in said
    assert f"{tiny_model}: weights from {start}, 105 of 1,005 parameters train." in said
    assert "was trained on" not in said  # the split is the same
    network = load_model(new.folder)
    assert same(network, load_model(run.folder), "conv1", "conv1_bn")
    assert not same(network, load_model(run.folder), "logits")
    assert new.info["settings"]["weights"] == start
    assert model_file.read_card(new.folder).settings["weights"] == run.folder.name
    assert not list(new.folder.glob("started_from*"))


@pytest.mark.parametrize(
    ("weights", "word"),
    [
        ("runs/resnet18-ep3-lr0.002/model.keras", "resnet18-ep3-lr0.002"),
        ("runs/resnet18-ep3-lr0.002", "resnet18-ep3-lr0.002"),
        ("model.keras", "model"),
        ("there/mine.keras", "mine"),
    ],
)
def test_the_default_name_says_what_it_starts_from(weights, word):
    name = TrainConfig(model="resnet18", weights=weights).run_folder.name
    assert name == f"resnet18-ep30-lr0.0005-{word}"


@pytest.mark.slow
def test_a_calibrated_file_gives_its_outputs_as_they_were_trained(many_copy, tiny_model):
    before = load_model(many_copy)
    calibrate(many_copy, method="platt", resamples=0)
    network = started(tiny_model, many_copy)
    assert same(network, before, "conv1", "logits")
    assert [layer.name for layer in network.layers][-2:] == ["logits", "probabilities"]


def test_other_labels_get_a_new_head(copy, tiny_model, capsys):
    card = model_file.read_card(copy)
    replace_card(copy, dataclasses.replace(card, labels=card.labels[::-1]))
    network = started(tiny_model, copy)
    assert f"The head is new: that of {copy} does not predict these" in capsys.readouterr().err
    assert same(network, load_model(copy), "conv1")
    assert not same(network, load_model(copy), "logits")


def test_a_file_with_any_other_head_and_no_card_works(tiny_model, phantoms, tmp_path, capsys):
    """As one that was trained without labels writes it: the body, then layers of its own."""
    built = build_model(tiny_model)
    x = keras.layers.Dense(5, activation="relu", name="projection1")(built.get_layer("pool").output)
    other = keras.Model(built.input, keras.layers.Dense(3, name="projection2")(x), name="without")
    other.save(tmp_path / "body.keras")
    network = started(tiny_model, tmp_path / "body.keras")
    assert same(network, other, "conv1", "conv1_bn")
    assert "The head is new" in capsys.readouterr().err
    options = {"epochs": 1, "folder": tmp_path / "runs", "weights": tmp_path / "body.keras"}
    new = train(tiny_model, phantoms, **options)
    assert "body.keras does not say which images it was trained on" in capsys.readouterr().err
    assert same(load_model(new.folder), other, "conv1", "conv1_bn")


def test_the_new_file_lists_what_the_old_one_was_trained_on(
    run, many_labels, phantoms, tiny_model, tmp_path
):
    new = train(tiny_model, many_labels, weights=run.folder, epochs=1, folder=tmp_path)
    manifest = prepare(phantoms).manifest
    for member, split in (("trained_on.txt", "train"), ("tuned_on.txt", "val")):
        old = manifest.loc[manifest["split"] == split, "digest"]
        assert model_file.count_listed(new.folder, member, old) == len(old) > 0
    assert refusal(evaluate, new.folder, phantoms, out=tmp_path / "out").startswith(
        f"The network was trained on {run.info['data']['sizes']['train']} of these 40 images"
    )
    sizes = new.info["data"]["sizes"]
    own = prepare(many_labels).manifest["digest"]
    assert model_file.count_listed(new.folder, "trained_on.txt", own) == sizes["train"]


@pytest.mark.slow
def test_without_provenance_there_is_no_list_at_all(run, many_labels, tiny_model, tmp_path):
    options = {"epochs": 1, "folder": tmp_path, "provenance": False}
    new = train(tiny_model, many_labels, weights=run.folder, **options)
    with zipfile.ZipFile(new.folder / "model.keras") as archive:
        assert not {"trained_on.txt", "tuned_on.txt"} & set(archive.namelist())


@pytest.mark.slow
def test_images_of_validation_and_test_that_the_weights_know_are_counted(
    run, phantoms, tiny_model, tmp_path, capsys
):
    options = {"data_seed": OTHER_SPLIT, "epochs": 1, "folder": tmp_path}
    new = train(tiny_model, phantoms, weights=run.folder, **options)
    said = capsys.readouterr().err
    manifest = prepare(phantoms, seed=OTHER_SPLIT).manifest
    for split, name in (("val", "validation"), ("test", "test")):
        digests = manifest.loc[manifest["split"] == split, "digest"]
        known = model_file.count_listed(run.folder, "trained_on.txt", digests)
        assert known > 0
        assert (
            f"{run.folder} was trained on {known} of the {len(digests)} images of the {name} "
            "split: they flatter the numbers." in said
        )
    with pytest.raises(DataError, match="The network was trained on"):
        evaluate(new.folder, resamples=0)


@pytest.mark.slow
def test_an_ensemble_and_another_architecture_are_refused(run, phantoms, tmp_path, tiny_model):
    other = shutil.copytree(run.folder, tmp_path / "b")
    both = ensemble([run.folder, other], name="both", folder=tmp_path, resamples=0).folder
    folder = tmp_path / "runs"
    assert refusal(train, tiny_model, phantoms, weights=both, folder=folder) == (
        f"{both} is an ensemble of 2 networks, and one network cannot start from several. Name "
        "one of its members."
    )
    assert refusal(train, "resnet_custom", phantoms, weights=run.folder, folder=folder) == (
        f"{run.folder} holds the network {tiny_model}, whose weights do not fit "
        f"resnet_custom. Train {tiny_model}, or start from a file of resnet_custom."
    )
    assert not folder.exists()


@pytest.mark.slow
def test_a_network_that_begins_like_another_is_still_another():
    """AlexNet with batch normalisation has every layer that AlexNet has, and is none."""
    source, target = build_model("alexnet_custom"), build_model("alexnet")
    with pytest.raises(ModelError, match=r"network alexnet_custom, .* do not fit alexnet\."):
        copy_body(source, target, origin="x")
    renamed = keras.Model(source.input, source.output, name="mine")
    with pytest.raises(ModelError, match=r"network mine, .* do not fit alexnet\."):
        copy_body(renamed, target, origin="x")


def sized(side, *, flatten):
    pixels = keras.Input((side, side, 1))
    x = keras.layers.Conv2D(2, 3, strides=4, name="conv1")(pixels)
    pool = keras.layers.Flatten() if flatten else keras.layers.GlobalAveragePooling2D()
    x = keras.layers.Dense(4, name="dense1")(pool(x))
    x = keras.layers.Dense(3, name="logits")(x)
    return keras.Model(
        pixels, keras.layers.Activation("sigmoid", name="probabilities")(x), name="n"
    )


def test_another_size_matters_behind_a_flatten_alone():
    source, target = sized(64, flatten=False), sized(96, flatten=False)
    copy_body(source, target, origin="x")
    assert copy_head(source, target)
    assert same(source, target, "conv1", "dense1", "logits")
    target = sized(96, flatten=True)
    before = target.get_layer("conv1").get_weights()
    with pytest.raises(ModelError) as caught:
        copy_body(sized(64, flatten=True), target, origin="runs/x")
    assert str(caught.value) == (
        "runs/x was trained on images of 64 pixels, now they have 96, and n reads a flattened map: "
        "the weights of its layer dense1 are (512, 4), those of n (1152, 4). Train at 64 pixels, "
        "or start from other weights."
    )
    np.testing.assert_array_equal(target.get_layer("conv1").get_weights()[0], before[0])


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ("saved_models/nothing-ep3-lr0.1", "There is no model file saved_models/nothing-ep3-lr0.1"),
        ("nothing.keras", "There is no model file nothing.keras. Name a run folder or"),
        ("junk.keras", "junk.keras cannot be loaded as a Keras model"),
    ],
)
def test_a_file_that_cannot_be_read(phantoms, tiny_model, tmp_path, monkeypatch, weights, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "junk.keras").write_bytes(b"junk")
    assert says in refusal(train, tiny_model, phantoms, weights=weights, folder="runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_file_of_the_run_that_is_replaced(copy, phantoms, tiny_model, tmp_path):
    options = {"epochs": 1, "folder": tmp_path, "name": copy.name, "overwrite": True}
    size = model_file.read_card(copy).data["sizes"]["train"]
    train(tiny_model, phantoms, weights=copy, **options)
    digests = prepare(phantoms).manifest["digest"]
    assert model_file.count_listed(copy, "trained_on.txt", digests) == size
    assert len(read_member(copy, "trained_on.txt").split("salt ")) == 3  # its own and the old one's


SCRIPT = (
    TINY_NETWORK
    + """
import os, signal, sys

class Die(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        if "die" in sys.argv and epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)

train("tiny_test_net", {data!r}, weights={weights!r}, epochs=4, lr=0.01, folder={folder!r},
      name="r", checkpoint_every=1, resume="resume" in sys.argv, callbacks=[Die()])
"""
)


@pytest.mark.slow
def test_a_killed_run_goes_on_when_the_file_is_gone(run, phantoms, tmp_path):
    """The frozen body and the list of images are in no checkpoint: the run kept a copy."""
    old = shutil.copytree(run.folder, tmp_path / "old")
    folders = {name: str(tmp_path / name) for name in ("whole", "killed")}
    codes = {
        name: SCRIPT.format(data=str(phantoms), weights=str(old), folder=folder)
        for name, folder in folders.items()
    }
    subprocess.run([sys.executable, "-c", codes["whole"]], check=True, capture_output=True)
    died = subprocess.run([sys.executable, "-c", codes["killed"], "die"], capture_output=True)
    assert died.returncode == -signal.SIGKILL
    shutil.rmtree(old)
    command = [sys.executable, "-c", codes["killed"], "resume"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    whole, resumed = (load_model(tmp_path / name / "r") for name in ("whole", "killed"))
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(read_member(tmp_path / "killed" / "r", "trained_on.txt").split("salt ")) == 3
    assert not list((tmp_path / "killed" / "r").glob("started_from*"))
