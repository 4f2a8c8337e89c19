"""Run folders that 0.1.0 wrote: `fixtures/v0_1_0/README.md` says how they were made.

Probabilities are held to 1e-5. Tables have seven digits, and what another torch or processor adds
up in another order moves a probability by about 1e-6. No two of a label's probabilities, and none
and its threshold, are within 1e-5 of each other, so ranks and counts stay what they were.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from helpers.places import ROOT
from helpers.run_folders import COLUMNS, probabilities
from packaging.version import Version
from PIL import Image

from cxr_keras.cli import main
from cxr_keras.data.labels import LABELS, NO_FINDING
from cxr_keras.framing import Framing
from cxr_keras.runs import model_file, run_folder

FIXTURES = ROOT / "tests" / "fixtures" / "v0_1_0"
WITHIN = 1e-5
FEWEST = 5  # patients with a label, or without it, below which there is no interval today


@dataclass(frozen=True)
class OldRun:
    """A run folder as it was, a copy for today's program, and the data that it was trained on."""

    name: str
    before: Path
    folder: Path
    data: Path

    @property
    def predicted(self) -> pd.DataFrame:
        """What the old `predict` said of some images."""
        return pd.read_csv(FIXTURES / f"{self.name}.csv", keep_default_na=False)

    @property
    def images(self) -> list[Path]:
        return [self.data / "images" / Path(path).name for path in self.predicted["path"]]


@pytest.fixture(params=["card_1", "card_2"])
def old(request: pytest.FixtureRequest, many_labels: Path, tmp_path: Path) -> OldRun:
    before = FIXTURES / request.param
    written_by = run_folder.read_run(before)["versions"]["keras"]
    if Version(keras.__version__) < Version(written_by):
        pytest.skip(f"Keras {written_by} wrote it, which Keras {keras.__version__} may not read")
    folder = shutil.copytree(before, tmp_path / request.param)
    return OldRun(request.param, before, folder, many_labels)


def cli(*words: object) -> str:
    """What a command says; it must succeed."""
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


def assert_same_table(before: Path, now: Path, *keys: str, without: str | None = None) -> None:
    """Every row and number of the old table; today's may have more columns.

    `without` names a label that has no interval any more.
    """
    was, new = (pd.read_csv(file).set_index(list(keys)) for file in (before, now))
    assert list(new.index) == list(was.index)
    for column in was.select_dtypes("number"):
        expected, found = was[column], new[column]
        if without is not None and column.endswith(("_low", "_high")):
            assert np.isnan(found[without]), column
            expected, found = expected.drop(without), found.drop(without)
        np.testing.assert_allclose(found, expected, atol=WITHIN, rtol=0, err_msg=column)


def test_the_card_and_the_run_are_read(old):
    card, info = model_file.read_card(old.folder), run_folder.read_run(old.folder)
    assert info["versions"]["cxr-keras"] == "0.1.0"
    assert (card.labels, card.normal) == (LABELS, NO_FINDING)
    assert card.thresholds == tuple(info["thresholds"].values())
    assert card.framing == (Framing() if old.name == "card_1" else Framing(64, "whole"))
    model = model_file.load_model(old.folder)
    assert model.count_params() < 10_000
    assert model.get_layer("calibrated_logits").scale[0] != 1  # wherever the file has its scaling


def test_evaluate_gives_the_same_probabilities_and_numbers(old):
    said = cli("evaluate", old.folder, "--data", old.data)
    # an old file without a list of its images says so; a later one is asked
    assert ("does not say which images it was trained on" in said) == (old.name == "card_1")
    was, now = (pd.read_csv(folder / "predictions.csv") for folder in (old.before, old.folder))
    assert now["Image Index"].tolist() == was["Image Index"].tolist(), "the data is another one"
    np.testing.assert_allclose(now[COLUMNS], was[COLUMNS], atol=WITHIN, rtol=0)
    pd.testing.assert_frame_equal(now.drop(columns=COLUMNS), was.drop(columns=COLUMNS))

    for name, *keys in (
        ("samplewise.csv", "measure"),
        ("cooccurrence.csv", "truth"),
        ("reliability.csv", "label", "bin_low"),
        ("subgroups.csv", "group", "value", "label"),
    ):
        assert_same_table(old.before / name, old.folder / name, *keys)
    # changed on purpose: an interval takes five patients with the label and five without it
    few = {"card_1": NO_FINDING, "card_2": None}[old.name]
    supports = pd.read_csv(old.before / "metrics.csv").set_index("label")["support"]
    assert few is None or supports[few] < FEWEST
    assert_same_table(old.before / "metrics.csv", old.folder / "metrics.csv", "label", without=few)


def test_predict_says_the_same_and_draws_heat_maps(old, tmp_path):
    maps = tmp_path / "maps"
    cli("predict", old.folder, *old.images, "--csv", tmp_path / "now.csv")
    now = pd.read_csv(tmp_path / "now.csv", keep_default_na=False)
    np.testing.assert_allclose(now[COLUMNS], old.predicted[COLUMNS], atol=WITHIN, rtol=0)
    assert now["findings"].tolist() == old.predicted["findings"].tolist()
    assert not any(now["error"])

    cli("predict", old.folder, old.images[-1], "--heatmaps", maps)
    drawn = sorted(maps.iterdir())
    assert drawn
    findings = old.predicted["findings"].iloc[-1].split("|")
    assert {path.stem.split(".")[-1] for path in drawn} <= set(findings)
    with Image.open(drawn[0]) as picture:
        assert np.asarray(picture.convert("RGB")).std() > 0


def test_calibrate_comes_to_the_same_scaling_and_thresholds(old, tmp_path):
    """From the outputs as they were trained, not from those that are calibrated already."""
    before = model_file.read_card(old.folder)
    options = []
    if old.name == "card_2":
        prevalence = tmp_path / "prevalence.csv"
        prevalence.write_text("label,prevalence\nEffusion,0.12\nMass,0.05\nNo Finding,0.54\n")
        options = ["--prevalence", prevalence]
    options += ["--method", "temperature", "--resamples", 0]
    cli("calibrate", old.folder, "--data", old.data, *options)
    card = model_file.read_card(old.folder)
    scaling = before.scaling or before.calibration  # in the card alone, or in the graph, too
    for name in ("slope", "shift"):
        np.testing.assert_allclose(card.calibration[name], scaling[name], atol=1e-3)
    np.testing.assert_allclose(card.thresholds, before.thresholds, atol=1e-3)
    assert not card.scaling  # the file is now as today's are
    for name in ("predictions.csv", "predictions_val.csv"):
        was, now = probabilities(old.before, name), probabilities(old.folder, name)
        np.testing.assert_allclose(now, was, atol=1e-3)


def test_a_card_to_hand_on(old):
    cli("card", old.folder)
    text = (old.folder / "card.md").read_text(encoding="utf-8")
    metrics = pd.read_csv(old.before / "metrics.csv").set_index("label")
    card = model_file.read_card(old.folder)
    assert card.data["fingerprint"] in text
    for label, threshold in zip(card.labels, card.thresholds, strict=True):
        assert f"| {label} | {threshold:.4f} |" in text
        support, auroc = metrics.loc[label, ["support", "auroc"]]
        if not np.isnan(auroc):
            assert f"| {label} | {support:.0f} | {auroc:.3f}" in text
    assert "/tmp/cxr" not in text  # card_1 names its data by its path
    subgroups = pd.read_csv(old.before / "subgroups.csv").drop_duplicates(["group", "value"])
    for group, value, images in subgroups[["group", "value", "images"]].itertuples(index=False):
        assert f"| {group}: {value} | {images} | {images} |" in text  # an image a patient
