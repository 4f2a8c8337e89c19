"""Recipes and their settings, from what is said to what is trained."""

import dataclasses
import json

import keras
import numpy as np
import pandas as pd
import pytest
from helpers.processes import in_process, wait_until

from cxr_keras import load_model, train
from cxr_keras.data.loader import RadiographLoader
from cxr_keras.data.options import AUGMENTATIONS, SAMPLERS
from cxr_keras.data.preparation import PreparedSplit
from cxr_keras.data.reading import Reading, ReadSettings
from cxr_keras.errors import CxrError
from cxr_keras.evaluation.evaluation import evaluate
from cxr_keras.metrics.per_label import average
from cxr_keras.models.registry import list_models
from cxr_keras.training.building import complete_config
from cxr_keras.training.config import TrainConfig, configured
from cxr_keras.training.options import Settings
from cxr_keras.training.recipes import MODERN, RECIPES, REPORT
from cxr_keras.training.validation import averaged, check_monitor

ALL_PIECES = {
    "recipe": "modern",
    "size": 64,
    "epochs": 4,
    "batch_size": 32,
    "lr": 0.01,
    "per_class": 300,
    "precision": "float32",
    "augment": "strong",
    "mixup": 0.2,
    "label_smoothing": 0.05,
    "sampler": "balanced",
    "clip_norm": 1.0,
    "accumulate": 2,
    "head_epochs": 1,
    "body_lr": 0.005,
    "dropout": 0.1,
    "ema": 0.9,
}


def test_every_setting_is_a_field_and_the_other_way_round():
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    fields -= {"model", "data", "reading"}
    read = {field.name for field in dataclasses.fields(Reading)}
    assert set(ReadSettings.__annotations__) == read
    assert set(Settings.__annotations__) == fields | read
    assert set(RECIPES[MODERN]) <= fields


def test_the_reports_recipe_is_the_default_and_what_is_said_stands_before_it():
    assert configured("net", REPORT, {}) == TrainConfig("net")
    config = configured("net", MODERN, {"lr": 0.5, "epochs": None})
    assert (config.lr, config.epochs) == (0.5, RECIPES[MODERN]["epochs"])
    assert configured("net", MODERN, {"recipe": "report"}) == TrainConfig("net")


def test_every_network_names_a_recipe_that_there_is():
    assert {spec.recipe for spec in list_models()} <= set(RECIPES)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"recipe": "best"}, "There is no recipe 'best'. Choose one of: report, modern."),
        ({"optimiser": "sgd"}, "A training has no setting 'optimiser'"),
        ({"schedule": "cyclic"}, "There is no schedule 'cyclic'"),
        ({"ema": 1.0}, "ema must be a number from 0 to below 1. Received: 1."),
        ({"mixup": float("nan")}, "mixup must be a number from 0 on. Received: nan."),
        ({"head_epochs": 3, "epochs": 3}, "leaves none of the 3 epochs"),
        ({"weight_decay": 0.1}, "Give --optimizer adamw or sgd"),
        ({"schedule": "one-cycle", "warmup": 0.3}, "--warmup 0.3 is of --schedule cosine"),
        ({"mixup": 0.2, "batch_size": 1}, "--batch-size 1 has only one"),
        ({"layer_decay": 1.5}, "layer_decay must be 1 or less"),
        ({"accumulate": 0}, "accumulate must be 1 or more"),
        ({"per_class": "many"}, "Images per label are a number or 'all'"),
    ],
)
def test_what_does_not_fit_is_a_sentence(settings, sentence):
    with pytest.raises(CxrError) as error:
        configured("net", REPORT, settings)
    assert sentence in str(error.value)


def test_a_monitor_without_positives_is_refused():
    truth = np.zeros((5, 15), "float32")
    findings = np.arange(15) > 0
    check_monitor("val_loss", truth, findings)
    with pytest.raises(CxrError, match="val_ap needs a finding that some of the 5 validation"):
        check_monitor("val_ap", truth, findings)


def test_layer_decay_and_dropout_need_something_to_work_on(phantoms, tmp_path):
    pixels = keras.Input((64, 64, 1))
    outputs = keras.layers.Dense(15, activation="sigmoid")(keras.layers.Flatten()(pixels))
    built = keras.Model(pixels, outputs, name="built")
    with pytest.raises(CxrError, match="built names no blocks"):
        train(built, phantoms, epochs=1, layer_decay=0.5, folder=tmp_path)
    with pytest.raises(CxrError, match="has no dropout layer"):
        train(built, phantoms, epochs=1, dropout=0.5, folder=tmp_path)
    still = keras.layers.Dropout(0.0)(keras.layers.Flatten()(pixels))
    outputs = keras.layers.Dense(15, activation="sigmoid")(still)
    quiet = keras.Model(pixels, outputs, name="quiet")
    with pytest.raises(CxrError, match="built with a dropout of 0, and Keras cannot switch it on"):
        train(quiet, phantoms, epochs=1, dropout=0.5, folder=tmp_path)
    built.trainable = False
    with pytest.raises(CxrError, match="Nothing of built trains"):
        train(built, phantoms, epochs=1, folder=tmp_path)
    with pytest.raises(CxrError, match="has no dropout layer"):
        train("resnet_custom", phantoms, epochs=1, dropout=0.5, folder=tmp_path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"body_lr": 1e-4}, "--body-lr is for the layers before the head"),
        ({"layer_decay": 0.5}, "--layer-decay is for the layers before the head"),
        ({"head_epochs": 1, "epochs": 2}, "--head-epochs is for the layers before the head"),
        ({"accumulate": 1000}, "so nothing would be learnt"),
    ],
)
def test_settings_that_could_do_nothing_are_refused(
    frozen_start, phantoms, tmp_path, settings, sentence
):
    usual = {"epochs": 1, "weights": frozen_start, "fine_tune": "head", "folder": tmp_path}
    with pytest.raises(CxrError, match=sentence):
        train("resnet_custom", phantoms, size=64, **usual | settings)


@pytest.fixture(scope="module")
def frozen_start(phantoms, tmp_path_factory):
    """A network of which the head is to train again."""
    folder = tmp_path_factory.mktemp("start")
    return train("resnet_custom", phantoms, epochs=1, size=64, folder=folder).folder


def test_a_folder_s_name_tells_what_trains_only_where_that_was_a_choice():
    random = complete_config("resnet_custom", {"recipe": "modern"})
    assert random.run_folder.name == "resnet_custom-ep16-lr0.001-modern"
    head = complete_config("resnet18", {"recipe": "modern", "fine_tune": "head"})
    assert head.run_folder.name.endswith("-modern-fthead")


@pytest.fixture(scope="module")
def modern(tiny_model, phantoms, tmp_path_factory):
    """A run with every piece on."""
    folder = tmp_path_factory.mktemp("modern")
    return train(tiny_model, phantoms, folder=folder, **_pieces(tiny_model))


def _pieces(model):
    return {name: value for name, value in ALL_PIECES.items() if name != "dropout"}


def test_the_kept_epoch_is_the_best_in_what_is_monitored_and_the_file_is_it(modern, tmp_path):
    history = pd.read_csv(modern.folder / "history.csv")
    assert modern.info["best_epoch"] == history["val_auroc"].idxmax() + 1
    found = evaluate(modern.folder, split="val", out=tmp_path, resamples=0)
    assert average(found.metrics, "auroc") == pytest.approx(history["val_auroc"].max(), abs=1e-4)
    assert average(found.metrics, "ap") == pytest.approx(
        history.loc[history["val_auroc"].idxmax(), "val_ap"], abs=1e-4
    )


def test_run_json_holds_every_setting(modern):
    settings = json.loads((modern.folder / "run.json").read_text())["settings"]
    assert settings["recipe"] == "modern"
    for name, value in _pieces(None).items():
        assert settings[name] == value


def test_early_stopping_ends_the_training(tiny_model, phantoms, tmp_path, capsys):
    run = train(
        tiny_model, phantoms, epochs=30, lr=0.5, early_stop=1, size=64, folder=tmp_path, name="s"
    )
    assert len(run.history) < 30
    assert len(run.history) - run.info["best_epoch"] == 1
    assert (
        f"No better val_loss since epoch {run.info['best_epoch']}: training ends"
        in capsys.readouterr().err
    )


def test_the_balanced_sampler_draws_every_label_alike():
    label = np.random.default_rng(0).choice([0, 1, 2], 600, p=[0.9, 0.08, 0.02])
    truth = np.eye(15, dtype="float32")[label]
    split = PreparedSplit(pd.DataFrame(), np.zeros((600, 4, 4), "uint8"), np.arange(600), truth)
    loader = RadiographLoader(split, 16, seed=1, sampler="balanced")
    loader.start_epoch(0)
    drawn = np.concatenate([loader[i][1] for i in range(len(loader))])
    assert len(drawn) == 600
    np.testing.assert_allclose(drawn.mean(axis=0)[:3], 1 / 3, atol=0.07)


def test_smoothing_is_of_labels_and_not_of_what_is_counted(phantoms):
    from cxr_keras.data.preparation import prepare

    split = prepare(phantoms).split("train")
    truth = RadiographLoader(split, 16, smoothing=0.1)[0][1]
    assert set(np.unique(truth)) == {np.float32(0.05), np.float32(0.95)}
    assert SAMPLERS == ("uniform", "balanced")
    assert AUGMENTATIONS[0] == "none"


def test_the_average_is_measured_with_statistics_of_its_own():
    """Batch normalisation of averaged weights gets the mean statistics of the batches it sees."""
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(3, 1, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    optimizer = keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.5)
    model.compile(optimizer=optimizer, loss="mse")
    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(8, 4, 4, 1)).astype("float32"), np.ones((8, 3))) for _ in "abcd"]
    for pixels, target in batches:
        model.train_on_batch(pixels, target)
    before = [np.array(weight) for weight in model.get_weights()]
    with averaged(model, batches):
        kernel, bias = model.get_layer("conv").get_weights()
        norm = model.get_layer("norm")
        maps = [pixels * kernel.reshape(-1) + bias for pixels, _ in batches]
        mean = np.mean([one.mean(axis=(0, 1, 2)) for one in maps], axis=0)
        variance = np.mean([one.var(axis=(0, 1, 2)) for one in maps], axis=0)
        np.testing.assert_allclose(np.asarray(norm.moving_mean), mean, atol=1e-5)
        np.testing.assert_allclose(np.asarray(norm.moving_variance), variance, rtol=1e-4)
        assert not np.allclose(kernel, before[0])
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["one-cycle", "plateau"])
def test_a_killed_run_goes_on_as_if_never_stopped_with_every_piece_on(schedule, phantoms, tmp_path):
    pieces = ALL_PIECES | {"schedule": schedule, "weights": "none", "checkpoint_every": 1}
    options = {name: value for name, value in pieces.items() if name != "fine_tune"}
    whole = train("efficientnet_lite0", phantoms, folder=tmp_path / "whole", name="r", **options)
    code = (
        "import json, sys; from cxr_keras import train\n"
        "train('efficientnet_lite0', sys.argv[1], folder=sys.argv[2], name='r', "
        "**json.loads(sys.argv[3]))"
    )
    folder = tmp_path / "killed"
    process = in_process(code, phantoms, folder, json.dumps(options))
    try:
        wait_until((folder / "r" / "checkpoint.npz").exists, process)
    finally:
        process.kill()
        process.communicate()
    assert len(pd.read_csv(folder / "r" / "history.csv")) < options["epochs"]
    again = train("efficientnet_lite0", phantoms, folder=folder, name="r", resume=True, **options)
    columns = [name for name in whole.history if name != "seconds"]
    pd.testing.assert_frame_equal(whole.history[columns], again.history[columns])
    pairs = zip(
        load_model(whole.folder).get_weights(), load_model(again.folder).get_weights(), strict=True
    )
    for one, other in pairs:
        np.testing.assert_array_equal(one, other)
