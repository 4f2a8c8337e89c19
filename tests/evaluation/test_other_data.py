"""`evaluate` on other data than the network was trained on, and what it says of prevalence."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from helpers.model_files import replace_card

from cxr_keras import evaluate
from cxr_keras.cli import main
from cxr_keras.data.labels import LABELS
from cxr_keras.data.multi_hot import encode_cells
from cxr_keras.data.phantom import write_phantoms
from cxr_keras.errors import CxrError
from cxr_keras.runs import model_file

TABLE = "Data_Entry_2017_v2020.csv"


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Twelve phantoms that the network never saw, in a folder with NIH's lists."""
    return write_phantoms(tmp_path_factory.mktemp("other") / "hospital", count=12, seed=99)


@pytest.fixture
def copy(run, tmp_path):
    """The run in a folder that a test may write into."""
    return shutil.copytree(run.folder, tmp_path / "run")


def without_lists(folder, target):
    shutil.copytree(folder, target)
    for name in ("train_val_list.txt", "test_list.txt"):
        (target / name).unlink()
    return target


def names_in(folder, file):
    return set((folder / file).read_text().split())


def test_every_image_of_other_data_is_measured(copy, other, capsys):
    result = evaluate(copy, other, resamples=10)
    table = pd.read_csv(other / TABLE, dtype=str, index_col=False)
    assert set(result.predictions["Image Index"]) == set(table["Image Index"])
    assert result.folder == copy / "evaluation-hospital-all"
    patients = table["Patient ID"].nunique()
    said = f"{other}: all 12 images of {patients} patients."
    assert said in result.about[0]
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_a_split_of_other_data_is_one_that_its_folder_names(copy, other, tmp_path):
    for split in ("test", "train_val"):
        result = evaluate(copy, other, split=split, resamples=0)
        listed = names_in(other, f"{split}_list.txt")
        assert set(result.predictions["Image Index"]) == listed
        assert result.folder.name == f"evaluation-hospital-{split}"
    with pytest.raises(CxrError, match="no list of a split 'val': it names test, train_val"):
        evaluate(copy, other, split="val")
    bare = without_lists(other, tmp_path / "bare")
    with pytest.raises(CxrError, match=r"no list of a split 'test': it names none.*Leave --split"):
        evaluate(copy, bare, split="test")
    assert len(evaluate(copy, bare, split="all", resamples=0).predictions) == 12
    (bare / "test_list.txt").write_text("elsewhere.png")
    with pytest.raises(CxrError, match=r"No image of .* is in its official test list"):
        evaluate(copy, bare, split="test")


def test_training_data_that_moved_are_still_the_networks_own(copy, run, phantoms, tmp_path):
    moved = shutil.copytree(phantoms, tmp_path / "elsewhere")
    result = evaluate(copy, moved, resamples=0)
    assert result.folder == copy
    assert result.about == ()
    assert list(result.predictions["Image Index"]) == list(
        run.evaluation.predictions["Image Index"]
    )
    with pytest.raises(CxrError, match="whose splits are train, val, test, all"):
        evaluate(copy, moved, split="train_val")


@pytest.mark.slow
def test_other_data_without_lists_measure_a_network_of_the_official_split(
    tiny_model, phantoms, other, tmp_path
):
    from cxr_keras import train

    done = train(
        tiny_model, phantoms, epochs=1, split_method="official", folder=str(tmp_path / "runs")
    )
    assert done.info["settings"]["per_class"] is None
    tests = names_in(phantoms, "test_list.txt")
    assert set(done.evaluation.predictions["Image Index"]) == tests
    bare = without_lists(other, tmp_path / "bare")
    assert len(evaluate(done.folder, bare, resamples=0).predictions) == 12
    again = evaluate(done.folder, phantoms, resamples=0)
    assert set(again.predictions["Image Index"]) == tests


@pytest.mark.slow
def test_a_folder_that_holds_training_images_beside_others_is_refused(copy, phantoms, tmp_path):
    mixed = shutil.copytree(phantoms, tmp_path / "mixed")
    next(iter(sorted((mixed / "images").iterdir()))).unlink()
    with pytest.raises(CxrError, match=r"trained on \d+ of these 39 images.*--force"):
        evaluate(copy, mixed)
    assert len(evaluate(copy, mixed, force=True, resamples=0).predictions) == 39


def test_what_is_left_out_of_other_data_is_said(copy, other, tmp_path, capsys):
    folder = shutil.copytree(other, tmp_path / "partly")
    table = pd.read_csv(folder / TABLE, dtype=str, index_col=False)
    first, second = sorted(table["Image Index"])[:2]
    (folder / "images" / first).unlink()
    table.loc[table["Image Index"] == second, "Finding Labels"] = "Scoliosis"
    table.to_csv(folder / TABLE, index=False)
    result = evaluate(copy, folder, resamples=0)
    said = " ".join(result.about)
    assert "all 10 images" in said
    assert f"1 of 11 images in {TABLE} are not on disk: left out." in said
    assert "1 images have only unknown labels: left out." in said
    assert capsys.readouterr().err.count("are not on disk: left out.") == 1


def test_images_that_are_no_phantoms_are_not_called_so(copy, run, make_folder):
    assert "These are phantoms" in run.evaluation.notice
    result = evaluate(copy, make_folder([("1.png", "Mass", 1)]), resamples=0)
    assert "These are phantoms" not in result.notice
    assert "was trained on phantoms" in result.notice


@pytest.mark.slow
def test_unreadable_images_of_other_data_are_counted_once(copy, make_folder, capsys):
    folder = make_folder([(f"{i:02d}.png", "Mass|Edema", i) for i in range(30)])
    (folder / "images" / "07.png").write_bytes(b"junk")
    result = evaluate(copy, folder, resamples=0)
    assert "all 29 images of 29 patients" in result.about[0]
    counted = "1 of 30 images cannot be decoded and are left out."
    assert counted in result.about
    assert capsys.readouterr().err.count(counted) == 1


@pytest.mark.slow
def test_prevalence_stands_beside_that_of_training(copy, run, other):
    result = evaluate(copy, other, resamples=0)
    table = pd.read_csv(result.folder / "prevalence.csv").set_index("label")
    cells = pd.read_csv(other / TABLE, dtype=str, index_col=False)["Finding Labels"]
    truth = encode_cells(cells.str.replace("Infiltrate", "Infiltration"))
    assert list(table.index) == list(LABELS)
    np.testing.assert_allclose(table["support"], truth.sum(axis=0))
    np.testing.assert_allclose(table["prevalence"], truth.mean(axis=0), atol=1e-6)
    rates = run.info["data"]["base_rates"]
    np.testing.assert_allclose(table["training_prevalence"], [rates[n] for n in LABELS], atol=1e-6)
    # the network's own data have no other prevalence
    evaluate(copy, resamples=0, out=result.folder)
    assert not (result.folder / "prevalence.csv").exists()


def balanced(copy, **data):
    card = model_file.read_card(copy)
    replace_card(copy / "model.keras", dataclasses.replace(card, data=card.data | data))


@pytest.mark.slow
def test_artificial_prevalence_is_said_where_the_choice_was_balanced(copy, run, other):
    sentence = "at most 7 for each label, and then split, so their prevalence is artificial"
    assert "artificial" not in run.evaluation.notice
    balanced(copy, per_class=7, not_chosen=5)
    assert evaluate(copy, other, resamples=0).notice.count(sentence) == 1
    balanced(copy, per_class=7, not_chosen=0)
    assert "artificial" not in evaluate(copy, other, resamples=0).notice


def test_cards_from_before_the_count_of_what_was_not_chosen():
    from cxr_keras.data.selection import artificial_prevalence

    sizes = {"train": 2832, "val": 709, "test": 886}
    assert "at most 300 for each label" in artificial_prevalence({"per_class": 300, "sizes": sizes})
    few = {"train": 150, "val": 50, "test": 56}
    assert artificial_prevalence({"per_class": 300, "sizes": few}) == ""
    assert artificial_prevalence({}) == ""
    assert artificial_prevalence({"per_class": None, "sizes": sizes, "not_chosen": 0}) == ""


@pytest.mark.slow
def test_a_balanced_choice_is_said_by_every_command_that_prints_such_numbers(
    phantoms, other, tmp_path
):
    def said(*words):
        done = CliRunner().invoke(main, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done

    sentence, run = "at most 2 for each label", tmp_path / "r"
    settings = ("--epochs", 1, "--size", 64, "--per-class", 2, "--output-dir", tmp_path)
    trained = said("train", "resnet_custom", "--data", phantoms, *settings, "--name", "r")
    assert trained.stdout.count(sentence) == 1
    for command in (["evaluate", run], ["calibrate", run], ["evaluate", run, "--data", other]):
        done = said(*command)
        assert done.stdout.count(sentence) == 1, command
    assert "in training" in done.stdout
    assert "all 12 images" in done.stdout
    assert said("compare", run, run, "--resamples", 5).stderr.count(sentence) == 1
    assert said("predict", run, other / "images").stderr.count(sentence) == 1
