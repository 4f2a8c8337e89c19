"""`tune`: what is searched, what a search leaves, and that it goes on after a kill."""

import json
import shlex
import sys

import pandas as pd
import pytest
from helpers.processes import in_process, wait_until
from helpers.refusals import refusal

from cxr_keras import tune
from cxr_keras.errors import CxrError
from cxr_keras.training.config import configured
from cxr_keras.training.search_space import searched
from cxr_keras.training.tuning import train_command

SMALL = {"size": 64, "epochs": 2, "per_class": 20}


def test_only_what_was_not_said_and_can_matter_is_searched():
    modern = configured("efficientnet_lite0", "modern", {})
    everything = searched(modern, (), pretrained=True)
    assert {"lr", "weight_decay", "layer_decay", "augment", "mixup", "ema"} <= set(everything)
    assert "lr" not in searched(modern, ("lr",), pretrained=True)
    assert "layer_decay" not in searched(modern, (), pretrained=False)
    no_blocks = configured("kerascv_resnet18", "modern", {})
    assert "layer_decay" not in searched(no_blocks, (), pretrained=True)
    frozen = searched(configured("resnet18", "report", {}), (), pretrained=True)
    assert set(frozen) == {"lr", "label_smoothing", "ema"}  # the feature cache serves them all


def test_the_command_says_what_is_not_the_recipes():
    settings = {"recipe": "report", "lr": 0.0123, "flip": True, "augment": "none", "ema": 0.99}
    words = shlex.split(train_command("resnet_custom", "my data", settings))
    assert words[:5] == ["cxr-keras", "train", "resnet_custom", "--data", "my data"]
    assert words[5:] == ["--lr", "0.0123", "--flip", "--ema", "0.99"]
    modern = {"recipe": "modern", "flip": False}
    assert "--recipe modern --no-flip" in train_command("resnet_custom", None, modern)


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert 'pip install "cxr-keras[tune]"' in refusal(tune, "resnet_custom")


@pytest.mark.slow
def test_a_search_leaves_its_trials_its_best_settings_and_a_figure(phantoms, tmp_path):
    pytest.importorskip("optuna", reason="needs the extra tune")
    found = tune("resnet_custom", phantoms, trials=6, folder=tmp_path, weight_decay=0.0, **SMALL)
    assert found.folder == tmp_path / "resnet_custom-tune"
    table = pd.read_csv(found.folder / "trials.csv")
    assert len(table) == 6
    assert set(table["outcome"]) <= {"done", "given up", "diverged"}
    done = table[table["outcome"] == "done"]
    assert done["val_auroc"].is_monotonic_decreasing
    assert (done["epochs"] == 2).all()
    best = json.loads((found.folder / "best.json").read_text())
    assert best["settings"]["lr"] == pytest.approx(done["lr"].iloc[0])
    assert best["settings"] == found.settings
    assert found.settings["monitor"] == "val_auroc"  # of the report's recipe it is val_loss
    assert (found.folder / "tuning.png").stat().st_size > 10_000
    history = pd.read_csv(found.folder / "trials" / f"{done['trial'].iloc[0]:03}.csv")
    assert history["val_auroc"].max() == pytest.approx(done["val_auroc"].iloc[0])
    assert sum(found.importance.values()) == pytest.approx(1)


@pytest.mark.slow
def test_overwrite_begins_again(phantoms, tmp_path):
    pytest.importorskip("optuna", reason="needs the extra tune")
    for _ in range(2):
        options = {"trials": 1, "folder": tmp_path, "overwrite": True, **SMALL}
        found = tune("resnet_custom", phantoms, **options)
    assert len(found.trials) == 1
    assert found.importance == {}


@pytest.mark.slow
def test_no_network_sees_the_test_split(phantoms, tmp_path, monkeypatch):
    pytest.importorskip("optuna", reason="needs the extra tune")
    from cxr_keras.data.preparation import PreparedSplit

    read = set()
    batch = PreparedSplit.batch

    def watched(self, places):
        read.update(self.rows["split"].iloc[places])
        return batch(self, places)

    monkeypatch.setattr(PreparedSplit, "batch", watched)
    tune("resnet_custom", phantoms, trials=1, folder=tmp_path, **SMALL)
    assert read == {"train", "val"}


@pytest.mark.slow
def test_a_killed_search_goes_on_with_the_trial_that_was_cut(phantoms, tmp_path):
    pytest.importorskip("optuna", reason="needs the extra tune")
    folder = tmp_path / "resnet_custom-tune"
    code = f"""
from cxr_keras import tune
tune("resnet_custom", {str(phantoms)!r}, trials=3, folder={str(tmp_path)!r}, **{SMALL!r})
"""
    with in_process(code) as process:
        wait_until(lambda: (folder / "trials" / "002.csv").exists(), process)
        process.kill()
    assert "Give --resume" in refusal(tune, "resnet_custom", phantoms, folder=tmp_path, **SMALL)
    other = {**SMALL, "epochs": 3}
    assert "epochs 2 → 3" in refusal(
        tune, "resnet_custom", phantoms, folder=tmp_path, resume=True, **other
    )
    found = tune("resnet_custom", phantoms, trials=3, folder=tmp_path, resume=True, **SMALL)
    assert len(found.trials) == 3
    assert 2 not in set(found.trials["trial"])
    assert 3 in set(found.trials["trial"])


@pytest.mark.slow
def test_minutes_end_a_search_and_a_later_one_goes_on(phantoms, tmp_path):
    pytest.importorskip("optuna", reason="needs the extra tune")
    short = {"trials": 2, "folder": tmp_path, **SMALL, "epochs": 30}
    found = tune("resnet_custom", phantoms, minutes=0.03, **short)
    assert found.trials.empty
    assert found.settings == {}
    assert not (found.folder / "best.json").exists()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"trials": 0}, "trials must be"),
        ({"minutes": 0}, "minutes must be above 0"),
        ({"overwrite": True, "resume": True}, "exclude each other"),
        ({"lr": 0.1, "label_smoothing": 0.0, "ema": 0.0}, "Leave one of them out"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(tmp_path, settings, sentence):
    pytest.importorskip("optuna", reason="needs the extra tune")
    assert sentence in refusal(tune, "resnet18", folder=tmp_path, **settings)


def test_a_folder_that_is_no_search_is_left_alone(tmp_path):
    pytest.importorskip("optuna", reason="needs the extra tune")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(CxrError, match="holds no search"):
        tune("resnet_custom", folder=tmp_path, name="mine", overwrite=True)
