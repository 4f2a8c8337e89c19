"""Data sets made in Python: a table, and a folder or a function for the pixels."""

import threading
import time

import numpy as np
import pandas as pd
import pytest
from helpers.refusals import refusal
from PIL import Image

from cxr_keras.data.dataset import Dataset, truth_of
from cxr_keras.data.labels import LabelSet
from cxr_keras.data.preparation import prepare
from cxr_keras.data.reading import Reading
from cxr_keras.runs.card import Card
from cxr_keras.runs.run_folder import own_data

LABELS = ["Edema", "Mass"]
NAN = np.nan


def pixels(name):
    """A film of a seed that its name gives, wider than high."""
    seed = int(name.split(".")[0])
    return np.random.default_rng(seed).integers(0, 255, (70, 90), "uint8")


@pytest.fixture
def table():
    """Twenty images of ten patients, and what is known of two labels."""
    numbers = np.arange(20)
    columns = {
        "image": [f"{n:02d}.png" for n in numbers],
        "patient": numbers // 2,
        "Edema": np.where(numbers % 5 == 0, NAN, numbers % 2),
        "Mass": numbers % 3 - 1,
    }
    return pd.DataFrame(columns)


@pytest.fixture
def folder(tmp_path, table):
    """The same films as files."""
    for name in table["image"]:
        Image.fromarray(pixels(name)).save(tmp_path / name)
    return tmp_path


def test_what_a_table_says_of_images_in_a_folder(table, folder):
    about = {"view": "L", "age": range(20), "sex": ["F", "M"] * 10, "other": 1}
    data = Dataset.from_table(table.assign(**about), folder, labels=LABELS, name="clinic")
    assert (data.name, data.root, data.labels.names) == ("clinic", folder, tuple(LABELS))
    rows = data.table
    assert rows["Image Index"].tolist() == table["image"].tolist()
    assert rows["path"].tolist() == [str(folder / name) for name in table["image"]]
    assert rows["Patient ID"].tolist() == [str(n // 2) for n in range(20)]
    assert set(rows["View Position"]) == {"L"}
    assert rows["Patient Age"].tolist() == list(range(20))
    assert rows["Patient Gender"].tolist() == ["F", "M"] * 10
    expected = table[LABELS].replace(-1, NAN).to_numpy()
    np.testing.assert_array_equal(truth_of(rows, LABELS), expected)
    assert "7 labels are uncertain and count as unknown (most: Mass 7)" in data.notices[0]
    assert data.lists == {}


def test_images_that_are_not_in_the_folder_are_left_out(table, folder):
    (folder / "03.png").unlink()
    data = Dataset.from_table(table, folder, labels=LABELS)
    assert len(data.table) == 19
    assert "1 of 20 images are not on disk: left out." in data.notices
    assert "None of the 20 images that the table of" in refusal(
        Dataset.from_table, table, folder / "elsewhere", labels=LABELS
    )


def test_the_same_pixels_from_a_function_and_from_files(table, folder):
    for framing in ({"size": 64}, {"size": 80, "fit": "whole"}):
        ways = [Dataset.from_table(table, way, labels=LABELS) for way in (folder, pixels)]
        from_files, called = (prepare(way, **framing) for way in ways)
        for column in ("Image Index", "digest", "split"):
            assert called.manifest[column].tolist() == from_files.manifest[column].tolist()
        assert called.fingerprint == from_files.fingerprint
        np.testing.assert_array_equal(
            called.split("val").batch(slice(None)), from_files.split("val").batch(slice(None))
        )


def test_an_image_that_a_function_gives_too_narrow_is_left_out(table, capsys):
    def odd(name):
        return np.zeros((1, 90_000), "uint8") if name == "05.png" else pixels(name)

    done = prepare(Dataset.from_table(table, odd, labels=LABELS), size=64)
    assert len(done.manifest) == 19
    assert "Left out: 05.png: 90000×1 is too narrow" in capsys.readouterr().err
    for _, row in done.manifest.iterrows():
        assert len(np.unique(done.store.pixels[row["row"]])) > 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.zeros((70, 70)), "Received for 00.png: float64 (70, 70)."),
        (np.zeros((70, 70), "uint16"), "Received for 00.png: uint16 (70, 70)."),
        (np.zeros((70, 70, 3), "uint8"), "Received for 00.png: uint8 (70, 70, 3)."),
        (np.zeros((0, 70), "uint8"), "Received for 00.png: uint8 (0, 70)."),
        ([[0, 1]], "Received for 00.png: int64 (1, 2)."),
    ],
)
def test_pixels_that_are_none(table, given, says):
    data = Dataset.from_table(table, lambda name: given, labels=LABELS)
    said = refusal(prepare, data, size=64)
    assert said.startswith("The function for pixels must give a uint8 array (height, width)")
    assert said.endswith(says)


def test_without_patients_each_image_is_of_its_own(table):
    made = Dataset.from_table(table, pixels, labels=LABELS, patient_column=None)
    assert made.table["Patient ID"].nunique() == 20
    assert any("20 images have no patient" in sentence for sentence in made.notices)
    table.loc[3, "patient"] = None
    some = Dataset.from_table(table, pixels, labels=LABELS).table["Patient ID"]
    assert some.nunique() == 11


def test_columns_may_have_other_names(table):
    renamed = table.rename(columns={"image": "film", "patient": "who"})
    names = {"image_column": "film", "patient_column": "who"}
    data = Dataset.from_table(renamed, pixels, labels=LABELS, **names)
    pd.testing.assert_frame_equal(
        data.table, Dataset.from_table(table, pixels, labels=LABELS).table
    )


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (
            {},
            {"labels": ["Edema", "Gout", "Mass", "Pain"]},
            "The table lacks the column 'Gout' and 'Pain'. Received the columns: 'image', "
            "'patient', 'Edema', 'Mass'.",
        ),
        ({}, {"image_column": "path"}, "lacks the column 'path'."),
        ({}, {"patient_column": "who"}, "lacks the column 'who'."),
        ({}, {"labels": []}, "needs one or more names"),
        (
            {"Mass": [2, *[0] * 19]},
            {},
            "The column 'Mass' holds 2. A label is 1 (there), 0 (absent), -1 (uncertain) or "
            "missing (unknown).",
        ),
        ({"Mass": ["yes", *["0"] * 19]}, {}, "The column 'Mass' holds 'yes'."),
        ({"Mass": [0.5, *[0] * 19]}, {}, "The column 'Mass' holds 0.5."),
        ({"image": ["a"] * 20}, {}, "lists 19 images twice, such as a. Keep one row per image."),
        (
            {"split": ["train", "validation", *["test"] * 18]},
            {},
            "The column 'split' holds 'validation'. A split is one of train, val, test, or",
        ),
    ],
)
def test_tables_that_cannot_be_used(table, change, options, says):
    assert says in refusal(
        Dataset.from_table, table.assign(**change), pixels, **({"labels": LABELS} | options)
    )


def test_labels_as_text_and_as_flags(table):
    texts = table.assign(Edema=table["Edema"].map({0: "0", 1: "1"}), Mass=table["Mass"] == 1)
    found = truth_of(Dataset.from_table(texts, pixels, labels=LABELS).table, LABELS)
    np.testing.assert_array_equal(found[:, 0], table["Edema"])
    np.testing.assert_array_equal(found[:, 1], table["Mass"] == 1)


def test_a_column_of_splits_is_the_official_split(table):
    splits = ["train"] * 8 + ["val"] * 4 + ["test"] * 6 + [None] * 2
    data = Dataset.from_table(table.assign(split=splits), pixels, labels=LABELS)
    done = prepare(data, split_method="official", size=64)
    found = done.manifest.set_index("Image Index")["split"].to_dict()
    assert found == dict(zip(table["image"][:18], splits[:18], strict=True))
    other = prepare(data, size=64).manifest
    assert len(other) == 20
    assert other.groupby("Patient ID")["split"].nunique().max() == 1
    without = Dataset.from_table(table, pixels, labels=LABELS)
    assert "has no official split" in refusal(prepare, without, split_method="official")


def test_its_labels_are_chosen_as_of_any_data_set(table):
    data = Dataset.from_table(table, pixels, labels=LABELS)
    done = prepare(data, reading=Reading(labels="mass"), size=64)
    assert done.labels.names == ("Mass",)
    truth = done.split("all").truth[:, 0]
    np.testing.assert_array_equal(truth, table["Mass"].replace(-1, NAN))
    assert "table has no label 'Gout'. It has: Edema, Mass." in refusal(
        prepare, data, reading=Reading(labels="Gout")
    )


def test_which_label_means_normal(table):
    named = table.rename(columns={"Edema": "normal"})
    by_name = Dataset.from_table(named, pixels, labels=["normal", "Mass"])
    assert by_name.labels.normal == "normal"
    told = LabelSet(("Mass", "Edema"), "Edema", {"Tumour": "Mass"})
    assert Dataset.from_table(table, pixels, labels=told).labels is told
    assert Dataset.from_table(table, pixels, labels=LABELS).labels.normal is None


@pytest.mark.slow
def test_a_network_is_measured_on_the_same_data_again(table, tiny_model, tmp_path):
    from cxr_keras import evaluate, train

    data = Dataset.from_table(table, pixels, labels=LABELS)
    run = train(tiny_model, data, epochs=1, size=64, folder=tmp_path)
    again = evaluate(run.folder, data, resamples=0)
    assert again.folder == run.folder
    pd.testing.assert_frame_equal(again.predictions, run.evaluation.predictions)
    other = Dataset.from_table(
        table.assign(image=[f"{n}.png" for n in range(50, 70)]), pixels, labels=["Mass"]
    )
    elsewhere = evaluate(run.folder, other, resamples=0)
    assert len(elsewhere.predictions) == 20
    assert "Measured on the 1 label that both know: Mass." in " ".join(elsewhere.about)


@pytest.mark.parametrize("said", [{"uncertain": "ones"}, {"views": "L"}, {"format": "nih"}])
def test_what_is_read_already_takes_no_option_of_reading(table, folder, said):
    data = Dataset.from_table(table, folder, labels=LABELS)
    text = refusal(prepare, data, reading=Reading(**said))
    assert text.startswith(f"{next(iter(said))} says how a folder is read, and the data was made")


def test_a_run_on_data_made_in_python_asks_for_it(table, tmp_path):
    data = Dataset.from_table(table, pixels, labels=LABELS, name="made")
    prepared = prepare(data, size=64)
    card = Card(data={"root": str(prepared.root), "in_python": prepared.in_python})
    assert "made in Python, made. Give it: evaluate(run, data)" in refusal(
        own_data, tmp_path / "model.keras", card
    )


def test_a_function_is_never_called_twice_at_a_time(table):
    """It may read all images from one open file."""
    busy = threading.Lock()

    def read(name):
        assert busy.acquire(blocking=False), "called while it was at work"
        time.sleep(0.002)
        found = pixels(name)
        busy.release()
        return found

    assert len(prepare(Dataset.from_table(table, read, labels=LABELS), size=64).manifest) == 20


def test_many_images_that_are_none_stop(table):
    def narrow(name):
        return np.zeros((1, 90_000), "uint8") if name > "15.png" else pixels(name)

    said = refusal(prepare, Dataset.from_table(table, narrow, labels=LABELS), size=64)
    assert said.startswith("More than 5% of the 20 images cannot be decoded")
