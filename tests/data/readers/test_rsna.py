"""RSNA's pneumonia challenge as a data set."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from pathlib import Path

import pytest
from helpers.data_folders import write_csv, write_films
from helpers.real_tables import real_table
from helpers.refusals import refusal

from cxr_keras.data.readers.layout import ReadOptions, assemble
from cxr_keras.data.readers.registry import reader_of
from cxr_keras.data.readers.rsna import CLASSES_NAME, LABELS_NAME, MAPPINGS_NAME, rsna

YES, NO, UNSAID = 1, 0, -2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three films: pneumonia with two boxes, normal, and something else."""
    write_csv(
        tmp_path / LABELS_NAME,
        "patientId,x,y,width,height,Target",
        "aa-1,264.0,152.0,213.0,379.0,1",
        "aa-1,562.0,152.0,256.0,453.0,1",
        "bb-2,,,,,0",
        "cc-3,,,,,0",
    )
    write_csv(
        tmp_path / CLASSES_NAME,
        "patientId,class",
        "aa-1,Lung Opacity",
        "aa-1,Lung Opacity",
        "bb-2,Normal",
        "cc-3,No Lung Opacity / Not Normal",
    )
    films = ["aa-1.png", "bb-2.jpg", "cc-3.png"]
    write_films(tmp_path / "stage_2_train_images", films)
    return tmp_path


def said(found):
    return " ".join(found.notices)


def test_a_film_has_one_row_and_two_labels(folder):
    found = rsna(folder)
    assert found.labels.names == ("No Finding", "Pneumonia")
    assert found.labels.normal == "No Finding"
    assert found.truth.tolist() == [[NO, YES], [YES, NO], [NO, NO]]
    assert found.images["Image Index"].tolist() == ["aa-1", "bb-2", "cc-3"]
    assert found.images["path"].tolist() == [
        "stage_2_train_images/aa-1.png",
        "stage_2_train_images/bb-2.jpg",
        "stage_2_train_images/cc-3.png",
    ]
    assert found.shares_patients_with == ("nih", "chestmnist")
    assert found.notices[0] == (
        "RSNA's films are NIH's, so do not test on one what was trained on the other."
    )


def test_it_is_recognised_and_read_whole(folder):
    reader = reader_of(folder)
    assert reader.name == "rsna"
    dataset = reader.read(folder, ReadOptions())
    assert dataset.table["Finding Labels"].tolist() == ["Pneumonia", "No Finding", ""]
    assert "Unknown Labels" not in dataset.table.columns
    assert dataset.shares_patients_with == ("nih", "chestmnist")


def test_without_classes_there_is_no_normal(folder):
    (folder / CLASSES_NAME).unlink()
    found = rsna(folder)
    assert found.labels.names == ("Pneumonia",)
    assert found.labels.normal is None
    assert found.truth.tolist() == [[YES], [NO], [NO]]
    assert f"There is no {CLASSES_NAME}, so no label says that a film is normal." in said(found)


def test_films_without_a_class_and_with_another_one(folder):
    write_csv(folder / CLASSES_NAME, "patientId,class", "aa-1,Normal")
    found = rsna(folder)
    assert found.truth.tolist() == [[NO, YES], [UNSAID, NO], [UNSAID, NO]]
    assert "2 films have no class: unknown whether they are normal." in said(found)
    assert "1 films have a Target that is not their class: Target counts." in said(found)


def test_patients_are_nihs_where_the_mappings_say_it(folder):
    assert rsna(folder).images["Patient ID"].tolist() == ["", "", ""]
    assert f"so a patient may be in two splits; {MAPPINGS_NAME} from the" in said(rsna(folder))
    rows = [
        {"subset_img_id": "aa-1", "img_id": "00000165_001.png"},
        {"subset_img_id": "bb-2", "img_id": "00000165_007.png"},
        {"subset_img_id": "zz-9", "img_id": "00000002_000.png"},
    ]
    (folder / MAPPINGS_NAME).write_text(json.dumps(rows))
    found = rsna(folder)
    assert found.images["Patient ID"].tolist() == ["165", "165", ""]
    assert "may be in two splits" not in said(found)
    dataset = assemble(folder, found, ReadOptions())
    assert dataset.table["Patient ID"].nunique() == 2


def test_films_in_folders_named_after_their_kind_and_tables_packed(folder):
    (folder / "stage_2_train_images").rename(folder / "stage_2_train_images_jpg")
    for name in (LABELS_NAME, CLASSES_NAME):
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    found = rsna(folder)
    assert found.truth.tolist() == [[NO, YES], [YES, NO], [NO, NO]]
    assert found.images["path"][1] == "stage_2_train_images_jpg/bb-2.jpg"


def test_a_film_that_is_not_there_has_no_path(folder):
    (folder / "stage_2_train_images" / "aa-1.png").unlink()
    (folder / "stage_2_train_images" / "aa-1.txt").touch()
    assert rsna(folder).images["path"][0] == ""


@pytest.mark.parametrize(
    ("name", "lines", "says"),
    [
        (LABELS_NAME, ["patientId,x", "a,1"], "lacks the column 'Target'. Received the columns"),
        (
            LABELS_NAME,
            ["patientId,Target", "a,1", "b,2"],
            "the column 'Target' holds '2' in row 3. It should be one of: '0', '1'. Fetch the",
        ),
        (
            LABELS_NAME,
            ["patientId,Target", "a,1", "b,0", "a,0"],
            "the column 'Target' holds '1' and '0' for a. Fetch the table again.",
        ),
        (
            CLASSES_NAME,
            ["patientId,class", "aa-1,Opacity"],
            "the column 'class' holds 'Opacity' in row 2. It should be one of: 'Normal', 'No Lung "
            "Opacity / Not Normal', 'Lung Opacity'.",
        ),
        (
            CLASSES_NAME,
            ["patientId,class", "aa-1,Normal", "aa-1,Lung Opacity"],
            "the column 'class' holds 'Normal' and 'Lung Opacity' for aa-1.",
        ),
        (LABELS_NAME, [], "is empty"),
    ],
)
def test_tables_that_are_not_the_challenges(folder, name, lines, says):
    write_csv(folder / name, *lines)
    assert says in refusal(rsna, folder)


@pytest.mark.parametrize(
    "text", ["{", "{}x", '[{"a": 1}]', '["a"]', '[{"subset_img_id": "a", "img_id": 1}]']
)
def test_mappings_that_are_not_rsnas(folder, text):
    (folder / MAPPINGS_NAME).write_text(text)
    found = refusal(rsna, folder)
    assert found.startswith(f"{folder / MAPPINGS_NAME} is not RSNA's (")
    assert "): it should be a list of objects with 'subset_img_id' and 'img_id'" in found
    assert found.endswith("Fetch it again, or remove it.")


def test_a_folder_without_the_table(tmp_path):
    assert refusal(rsna, tmp_path).startswith(f"{tmp_path} holds no {LABELS_NAME}. Put the")


@pytest.mark.slow
def test_the_challenges_own_table_against_reading_it_row_by_row(tmp_path):
    with zipfile.ZipFile(real_table("kaggle_stage_2_train_labels.csv.zip")) as file:
        content = file.read(LABELS_NAME)
    (tmp_path / LABELS_NAME).write_bytes(content)
    found = rsna(tmp_path)
    targets: dict[str, int] = {}
    for row in csv.DictReader(io.StringIO(content.decode())):
        targets.setdefault(row["patientId"], int(row["Target"]))
    assert found.images["Image Index"].tolist() == list(targets)
    assert found.truth[:, 0].tolist() == list(targets.values())
    assert (len(targets), sum(targets.values())) == (26_684, 6_012)
