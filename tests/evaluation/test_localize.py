"""`localize`: heat maps of a run against the boxes of its phantoms."""

import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from helpers.refusals import refusal

from cxr_keras import train
from cxr_keras.cli import main
from cxr_keras.data.boxes import read_boxes
from cxr_keras.data.phantom import write_phantoms
from cxr_keras.evaluation.localization import CENTRE, RANDOM, UNTRAINED, localize
from cxr_keras.metrics.localization import AVERAGE, MEASURES, RULE


@pytest.fixture(scope="module")
def found(run, tmp_path_factory):
    return localize(run.folder, resamples=20, out=tmp_path_factory.mktemp("localize"))


def test_every_finding_with_a_box_in_the_test_split_has_its_maps(found, run, phantoms):
    boxes = read_boxes(phantoms)
    test = set(run.evaluation.predictions["Image Index"])
    wanted = boxes[boxes["Image Index"].isin(test)][["Image Index", "label"]].drop_duplicates()
    for kind in ("gradcam", UNTRAINED, RANDOM, CENTRE):
        maps = found.maps[found.maps["map"] == kind]
        assert sorted(zip(maps["image"], maps["label"], strict=True)) == sorted(
            wanted.itertuples(index=False, name=None)
        )
    assert found.maps[list(MEASURES)].to_numpy().min() >= 0
    assert found.maps[list(MEASURES)].to_numpy().max() <= 1 + 1e-6


def test_the_tables_and_the_figure_are_written(found):
    written = pd.read_csv(found.folder / "localize.csv")
    assert set(written["map"]) == {"gradcam", UNTRAINED, RANDOM, CENTRE}
    average = written[written["label"] == AVERAGE].set_index("map")
    assert average.loc["gradcam", "maps"] == len(found.maps) / 4
    assert (found.folder / "maps.csv").is_file()
    assert (found.folder / "localize.png").read_bytes().startswith(b"\x89PNG")
    assert RULE in found.about[0]
    np.testing.assert_allclose(found.cell, 224 / 28, atol=1)


def test_the_command_prints_the_baselines_and_the_published_values(run, tmp_path):
    arguments = ["localize", str(run.folder), "--method", "hirescam", "--resamples", "10"]
    result = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    for text in ("(random map)", "(centre prior)", "(random weights)", "hirescam, pointing game"):
        assert text in result.output
    cardiomegaly = [line for line in result.output.splitlines() if "Cardiomegaly" in line]
    assert all(line.split()[-2:] == ["0.938", "0.979"] for line in cardiomegaly)


@pytest.mark.slow
def test_another_split_and_other_data_have_folders_of_their_own(copy, phantoms, tmp_path):
    own = localize(copy, resamples=0).folder
    other = localize(copy, split="val", resamples=0).folder
    moved = shutil.copytree(phantoms, tmp_path / "elsewhere")
    assert (own.name, other.name) == ("localize-gradcam", "localize-val-gradcam")
    assert localize(copy, moved, resamples=0).folder == own  # the same data, wherever it lies


def test_images_of_the_training_are_refused(run, phantoms):
    assert "trained on" in refusal(localize, run.folder, split="train", resamples=0)


def test_data_without_boxes(run, make_folder):
    rows = [(f"{n:08d}_000.png", "Nodule" if n % 2 else "No Finding", n) for n in range(20)]
    assert "has no boxes" in refusal(localize, run.folder, make_folder(rows))


@pytest.mark.slow
def test_a_network_that_has_learnt_points_better_than_chance(tmp_path):
    """The aim: at least twice the pointing game of a random map at an AUROC above 0.8."""
    phantoms = write_phantoms(tmp_path / "phantoms", count=320, seed=2)
    options = {"epochs": 4, "size": 96, "per_class": "all", "lr": 1e-3, "fit": "whole"}
    learnt = train("resnet_custom", phantoms, folder=str(tmp_path), **options)
    table = localize(learnt.folder, resamples=0, method="hirescam").table
    average = table[table["label"] == AVERAGE].set_index("map")["pointing"]
    assert average["hirescam"] > average[RANDOM]
