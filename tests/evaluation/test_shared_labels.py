"""`evaluate` on data with other labels: those that both know are measured, by their own names."""

import re

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from helpers.chexpert import film, write_chexpert
from helpers.refusals import refusal
from helpers.shared import shared

from cxr_keras import evaluate
from cxr_keras.cli import main
from cxr_keras.data.dataset import Dataset

# NIH's name → CheXpert's
SHARED = {
    "Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Consolidation": "Consolidation",
    "Edema": "Edema",
    "Effusion": "Pleural Effusion",
    "No Finding": "No Finding",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
}
VALUES = {"1.0": 1, "0.0": 0, "-1.0": np.nan, "": np.nan}


@pytest.fixture(scope="module")
def cells(run):
    """What CheXpert says of the films; of the last three the first label is uncertain."""
    rng = np.random.default_rng(4)
    names = [*(theirs for theirs in SHARED.values() if theirs != "No Finding"), "Lung Lesion"]
    count = len(run.evaluation.predictions)
    rows = [{name: str(rng.choice(["1.0", "0.0", ""])) for name in names} for _ in range(count)]
    for row in rows[-3:]:
        row["Atelectasis"] = "-1.0"
    return rows


@pytest.fixture(scope="module")
def chexpert(run, phantoms, cells, tmp_path_factory):
    """The run's test images in CheXpert's layout, so that its answers are known."""
    folder = tmp_path_factory.mktemp("other") / "chexpert"
    images = [phantoms / "images" / name for name in run.evaluation.predictions["Image Index"]]
    lateral = {"Edema": "1.0", "view": "lateral"}
    write_chexpert(folder, [*cells, lateral], images)
    with shared(folder):
        yield folder


@pytest.fixture(scope="module")
def measured(run, chexpert, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    return evaluate(run.folder, chexpert, resamples=0, out=folder)


def expected_truth(cells, name, uncertain=np.nan):
    return [(VALUES | {"-1.0": uncertain})[row[name]] for row in cells]


def test_every_frontal_image_is_measured_on_the_labels_that_both_know(measured, cells, run):
    table = measured.predictions
    assert list(table["Image Index"]) == [film(n) for n in range(1, len(cells) + 1)]
    assert [n for n in table.columns if n.startswith("prob_")] == [f"prob_{n}" for n in SHARED]
    for ours, theirs in SHARED.items():
        own = run.evaluation.predictions[f"prob_{ours}"]
        np.testing.assert_allclose(table[f"prob_{ours}"], own, atol=1e-5)
        if ours != "No Finding":
            truth = table[f"true_{ours}"].to_numpy(float, na_value=np.nan)
            np.testing.assert_array_equal(truth, expected_truth(cells, theirs))
    known = measured.metrics.set_index("label")["known"]
    for ours in SHARED:
        assert known[ours] == table[f"true_{ours}"].notna().sum()
    assert "average of 7 findings" in known


def test_what_is_left_out_is_said(measured, chexpert, cells):
    said = " ".join(measured.about)
    count = len(cells)
    assert f"trained on, {chexpert}: all {count} images of {count} patients." in said
    assert (
        f"Measured on the 8 labels that both know: {', '.join(SHARED)}. The data does not" in said
    )
    assert (
        "does not know Emphysema, Fibrosis, Hernia, Infiltration, Mass, Nodule, Pleural_Th" in said
    )
    assert (
        "Labels of the data that the network does not predict: Enlarged Cardiomediastinum, Lung "
        "Opacity, Lung Lesion, Pleural Other, Fracture, Support Devices."
    ) in said
    assert "1 images are not frontal: left out (L 1)" in said
    assert "3 labels are uncertain and count as unknown (most: Atelectasis 3)" in said


def test_prevalence_is_of_the_images_of_which_a_label_is_known(measured, cells, run):
    table = pd.read_csv(measured.folder / "prevalence.csv").set_index("label")
    assert list(table.index) == list(SHARED)
    for ours, theirs in SHARED.items():
        if ours == "No Finding":
            continue
        values = [value for value in expected_truth(cells, theirs) if not np.isnan(value)]
        assert table.loc[ours, "support"] == sum(values)
        assert table.loc[ours, "known"] == len(values)
        assert table.loc[ours, "prevalence"] == pytest.approx(sum(values) / len(values), abs=1e-6)
        rate = run.info["data"]["base_rates"][ours]
        assert table.loc[ours, "training_prevalence"] == pytest.approx(rate, abs=1e-6)


def test_no_label_in_common(run, tmp_path):
    table = pd.DataFrame({"image": ["a"], "patient": [1], "Gout": [1], "Lung Lesion": [0]})
    hands = Dataset.from_table(
        table, lambda name: np.zeros((300, 300), "uint8"), labels=["Gout", "Lung Lesion"]
    )
    said = refusal(evaluate, run.folder, hands, out=tmp_path)
    assert re.fullmatch(
        r"The network and table know no label in common\. The network's: Atelectasis, .*, "
        r"Pneumothorax; the data's: Gout, Lung Lesion\.",
        said,
    )
    assert not list(tmp_path.iterdir())


def command(*words):
    done = CliRunner().invoke(main, [str(word) for word in words])
    return done.exit_code, done.stdout, done.stderr


def test_the_command_takes_what_is_uncertain_as_told(run, chexpert, cells, tmp_path):
    code, printed, said = command(
        *("evaluate", run.folder, "--data", chexpert, "--uncertain", "ones"),
        *("--labels", "Pleural Effusion,Atelectasis", "--resamples", 0, "--out", tmp_path),
    )
    assert code == 0, said
    table = pd.read_csv(tmp_path / "predictions.csv")
    assert [n for n in table if n.startswith("true_")] == ["true_Atelectasis", "true_Effusion"]
    expected = expected_truth(cells, "Atelectasis", 1)
    np.testing.assert_array_equal(table["true_Atelectasis"], expected)
    assert "Measured on the 2 labels that both know: Atelectasis, Effusion." in printed
    assert re.search(r"^label +support +known +prevalence +in training$", printed, re.MULTILINE)


@pytest.mark.slow
def test_the_command_measures_a_list_of_other_data(run, chexpert, cells, tmp_path):
    words = ("evaluate", run.folder, "--data", chexpert, "--resamples", 0, "--out", tmp_path)
    code, printed, said = command(*words, "--split", "train_val", "--views", "all")
    assert code == 0, said
    assert f"the official train_val list: {len(cells) + 1} images" in printed
    code, _, said = command(*words, "--split", "test")
    assert code == 1
    assert "no list of a split 'test': it names train_val (official lists)" in said


def test_a_training_on_data_sets_without_a_label_in_common_is_refused(
    make_folder, tiny_model, tmp_path
):
    nih = make_folder([(f"{n}.png", "Hernia", n) for n in range(9)])
    other = write_chexpert(tmp_path / "chexpert", [{"Edema": "1.0"}] * 3)
    words = ("train", tiny_model, "--data", nih, "--data", other, "--output-dir", tmp_path / "runs")
    code, _, said = command(*words, "--labels", "Gout")
    assert code == 1
    assert "Error: None of the data sets has the label 'Gout'. They have: Atelectasis, " in said
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_network_of_two_data_sets_finds_its_test_split_again(make_folder, tiny_model, tmp_path):
    cells = ("Mass", "Effusion", "Effusion|Edema")
    nih = make_folder([(f"{n:02d}.png", cells[n % 3], n) for n in range(30)])
    rows = [{"Pleural Effusion": ("1.0", "0.0", "")[n % 3], "Edema": "1.0"} for n in range(30)]
    other = write_chexpert(tmp_path / "chexpert", rows)
    code, _, said = command(
        *("train", tiny_model, "--data", nih, "--data", other, "--labels", "Effusion,Mass"),
        *("--epochs", 1, "--size", 64, "--name", "both", "--output-dir", tmp_path),
    )
    assert code == 0, said
    run = tmp_path / "both"
    first = pd.read_csv(run / "predictions.csv")
    assert [n for n in first if n.startswith("prob_")] == ["prob_Effusion", "prob_Mass"]
    assert first.loc[first["Image Index"].str.startswith("chexpert"), "true_Mass"].isna().all()
    again = evaluate(run, resamples=0)
    assert again.folder == run
    assert list(again.predictions["Image Index"]) == list(first["Image Index"])
    named = evaluate(run, [nih, other], resamples=0)
    assert named.folder == run
    one = evaluate(run, other, resamples=0, force=True, out=tmp_path / "one")
    assert len(one.predictions) == 30
    assert "Measured on the 1 label that both know: Effusion." in " ".join(one.about)
