from collections import Counter

import numpy as np
import pytest
from helpers.data_folders import (
    CHEXPERT_HEADER,
    CHEXPERT_NAMES,
    MEANINGS,
    real_rows,
    write_film,
    write_table,
)
from helpers.real_tables import real_table
from helpers.refusals import refusal

from cxr_keras.data.dataset import truth_of
from cxr_keras.data.readers.chexpert import CHEXPERT, chexpert
from cxr_keras.data.readers.layout import ReadOptions
from cxr_keras.data.readers.registry import reader_of

TRAIN_FILM = "train/patient00001/study1/view1_frontal.jpg"
LATERAL = "train/patient00001/study1/view2_lateral.jpg"
VALID_FILM = "valid/patient64541/study1/view1_frontal.jpg"


def row(path, top="CheXpert-v1.0-small", **cells):
    known = {"Sex": "Female", "Age": "68", "Frontal/Lateral": "Frontal", "AP/PA": "AP"}
    return {"Path": f"{top}/{path}", **known, **cells}


def lateral(path, **cells):
    return row(path, **{"Frontal/Lateral": "Lateral", "AP/PA": ""}, **cells)


def write(home, train=(), valid=(), films=True):
    for name, rows in {"train.csv": train, "valid.csv": valid}.items():
        if rows:
            write_table(home / name, rows, CHEXPERT_HEADER)
        for cells in rows if films else ():
            write_film(home / cells["Path"].partition("/")[2])
    return home


@pytest.fixture
def folder(tmp_path):
    train = [
        row(TRAIN_FILM, **{"Edema": "1.0", "Pneumonia": "-1.0", "Fracture": "0.0"}),
        lateral(LATERAL, Edema="1.0"),
    ]
    valid = [row(VALID_FILM, Sex="Male", Age="7", **dict.fromkeys(CHEXPERT_NAMES, "0.0"))]
    return write(tmp_path / "CheXpert-v1.0-small", train, valid)


def read(folder, **options):
    reader = reader_of(folder)
    assert reader.name == "chexpert"
    return reader.read(folder, ReadOptions(**options))


def test_images_are_named_by_their_path_and_found_beside_the_tables(folder):
    dataset = read(folder, views=("all",))
    assert dataset.table["Image Index"].tolist() == [TRAIN_FILM, LATERAL, VALID_FILM]
    assert dataset.table["path"].tolist() == [
        str(folder / name) for name in (TRAIN_FILM, LATERAL, VALID_FILM)
    ]


def test_patients_views_ages_and_sexes(folder):
    table = read(folder, views=("all",)).table
    assert table["Patient ID"].tolist() == ["patient00001", "patient00001", "patient64541"]
    assert table["View Position"].tolist() == ["AP", "L", "AP"]
    assert table["Patient Age"].tolist() == [68, 68, 7]
    assert table["Patient Gender"].tolist() == ["F", "F", "M"]


def test_a_label_is_there_absent_uncertain_or_unsaid(folder):
    truth = chexpert(folder).truth[0]
    said = dict.fromkeys(CHEXPERT_NAMES, MEANINGS[""]) | {
        "No Finding": MEANINGS["0.0"],  # blank beside a finding
        "Edema": MEANINGS["1.0"],
        "Pneumonia": MEANINGS["-1.0"],
        "Fracture": MEANINGS["0.0"],
    }
    assert truth.tolist() == [said[name] for name in CHEXPERT.names]
    assert truth.dtype == np.int8


@pytest.mark.parametrize(("uncertain", "value"), [("ignore", None), ("ones", 1), ("zeros", 0)])
def test_a_person_decides_what_uncertain_means_and_blank_stays_unknown(folder, uncertain, value):
    dataset = read(folder, uncertain=uncertain)
    truth = dict(zip(CHEXPERT.names, truth_of(dataset.table, CHEXPERT.names)[0], strict=True))
    assert np.isnan(truth["Pneumonia"]) if value is None else truth["Pneumonia"] == value
    assert np.isnan(truth["Lung Lesion"])


def test_beside_no_finding_what_is_not_mentioned_stays_unknown(tmp_path):
    cells = {"No Finding": "1.0", "Pneumothorax": "0.0"}
    truth = chexpert(write(tmp_path, [row(TRAIN_FILM, **cells)])).truth[0].tolist()
    expected = {"No Finding": 1, "Pneumothorax": 0}
    assert truth == [expected.get(name, MEANINGS[""]) for name in CHEXPERT.names]
    assert CHEXPERT.normal == "No Finding"


def test_a_blank_no_finding_stays_unknown_beside_devices_and_doubts(tmp_path):
    for cells in ({"Support Devices": "1.0"}, {"Edema": "-1.0"}, {"Edema": "0.0"}):
        truth = chexpert(write(tmp_path, [row(TRAIN_FILM, **cells)])).truth[0]
        assert truth[CHEXPERT.names.index("No Finding")] == MEANINGS[""]


def test_valid_csv_is_the_test_list(folder):
    lists = read(folder).lists
    assert lists == {"train_val": {TRAIN_FILM, LATERAL}, "test": {VALID_FILM}}


@pytest.mark.parametrize("name", ["CheXpert-v1.0", "CheXpert-v1.0-small"])
@pytest.mark.parametrize("where", ["itself", "above", "renamed"])
def test_the_folder_may_be_the_data_sets_own_the_one_above_or_renamed(tmp_path, name, where):
    home = tmp_path / ("stanford" if where == "renamed" else name)
    write(home, [row(TRAIN_FILM, top=name)], [row(VALID_FILM, top=name)])
    table = read(tmp_path if where == "above" else home).table
    assert table["Image Index"].tolist() == [TRAIN_FILM, VALID_FILM]
    assert table["path"].tolist() == [str(home / TRAIN_FILM), str(home / VALID_FILM)]


@pytest.mark.parametrize("only", ["train", "valid"])
def test_one_table_is_enough(tmp_path, only):
    film = TRAIN_FILM if only == "train" else VALID_FILM
    dataset = read(write(tmp_path, **{only: [row(film)]}))
    assert dataset.lists == {"train_val" if only == "train" else "test": {film}}


def test_a_packed_table(tmp_path):
    write_table(tmp_path / "train.csv.gz", [row(TRAIN_FILM)], CHEXPERT_HEADER)
    assert len(read(tmp_path, allow_missing=True).table) == 1


def test_views_that_contradict_each_other_are_unknown_and_said(tmp_path):
    rows = [row(TRAIN_FILM), row(LATERAL, **{"AP/PA": "LL"})]
    dataset = read(write(tmp_path, rows))
    assert dataset.table["View Position"].tolist() == ["AP", ""]
    assert "1 images are Frontal but 'LL' in AP/PA: kept, their view unknown." in dataset.notices


def test_a_sex_that_is_not_known_and_blanks_around_cells(tmp_path):
    cells = {"Sex": "Unknown", "Age": "", "Edema": " 1 ", "AP/PA": " PA"}
    found = chexpert(write(tmp_path, [row(TRAIN_FILM, **cells)], films=False))
    assert found.images["Patient Gender"].tolist() == [""]
    assert found.images["Patient Age"].isna().all()
    assert found.images["View Position"].tolist() == ["PA"]
    assert found.truth[0, CHEXPERT.names.index("Edema")] == 1


def test_another_train_csv_is_not_chexperts(tmp_path):
    write_table(tmp_path / "train.csv", [{"Path": "a.png"}], ["Path", "label"])
    assert "laid out like none" in refusal(reader_of, tmp_path)
    assert "holds no table of CheXpert's" in refusal(chexpert, tmp_path)


def test_a_value_that_means_nothing(tmp_path):
    folder = write(tmp_path, [row(TRAIN_FILM), row(LATERAL, Edema="2.0")], films=False)
    assert refusal(chexpert, folder) == (
        f"{folder / 'train.csv'}: a label is 1 (there), 0 (not there), -1 (uncertain) or blank "
        f"(nobody said). Received: '2.0' for 'Edema' of CheXpert-v1.0-small/{LATERAL}."
    )


def test_a_column_that_is_missing(tmp_path):
    write_table(tmp_path / "train.csv", [{"Path": "a"}], ["Path", "Sex", "Frontal/Lateral"])
    said = refusal(chexpert, tmp_path)
    assert f"{tmp_path / 'train.csv'} lacks the column 'Age' and 'AP/PA' and 'No Finding'" in said
    assert said.endswith("Received the columns: 'Path', 'Sex', 'Frontal/Lateral'.")


def test_a_table_without_rows(tmp_path):
    write_table(tmp_path / "train.csv", [], CHEXPERT_HEADER)
    assert refusal(chexpert, tmp_path) == (
        f"{tmp_path / 'train.csv'} has no row, so it names no image. Fetch it again."
    )


def test_a_path_without_a_patient(tmp_path):
    write_table(tmp_path / "valid.csv", [row("somewhere/1.jpg")], CHEXPERT_HEADER)
    said = refusal(chexpert, tmp_path)
    assert said.startswith(f"{tmp_path / 'valid.csv'}: a path names the list, the patient and")
    assert said.endswith("Received: 'CheXpert-v1.0-small/somewhere/1.jpg'.")


def test_two_copies_in_one_folder(tmp_path):
    for name in ("CheXpert-v1.0", "CheXpert-v1.0-small"):
        write(tmp_path / name, [row(TRAIN_FILM, top=name)], films=False)
    said = refusal(chexpert, tmp_path)
    assert f"{tmp_path} holds CheXpert 2 times: {tmp_path / 'CheXpert-v1.0'}, " in said
    assert said.endswith("Name one of them.")


@pytest.mark.slow
def test_the_real_table_against_its_rows(tmp_path):
    source = real_table("chexpert_train.csv.gz")
    (tmp_path / "train.csv.gz").symlink_to(source)
    found = chexpert(tmp_path)
    counts = {name: Counter() for name in CHEXPERT_NAMES}
    rows, frontal, patients = 0, 0, set()
    for cells in real_rows(source):
        rows += 1
        frontal += cells["Frontal/Lateral"] == "Frontal"
        patients.add(cells["Path"].split("/")[2])
        findings = [name for name in CHEXPERT_NAMES[1:] if name != "Support Devices"]
        for name in CHEXPERT_NAMES:
            value = MEANINGS[cells[name]]
            if name == "No Finding" and any(cells[one] == "1.0" for one in findings):
                value = value if cells[name] else 0
            counts[name][value] += 1
    assert (rows, frontal, len(patients)) == (223_414, 191_027, 64_540)
    assert len(found.images) == len(found.truth) == rows
    assert found.images["Patient ID"].nunique() == len(patients)
    for place, name in enumerate(found.labels.names):
        values, numbers = np.unique(found.truth[:, place], return_counts=True)
        assert dict(zip(values.tolist(), numbers.tolist(), strict=True)) == counts[name], name
    assert len(read(tmp_path, allow_missing=True).table) == frontal
