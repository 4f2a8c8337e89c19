import numpy as np
import pytest
from helpers.data_folders import CHEXPERT_NAMES, MEANINGS, write_film, write_table
from helpers.refusals import refusal

from cxr_keras.data.readers.layout import ReadOptions
from cxr_keras.data.readers.mimic_cxr import mimic_cxr
from cxr_keras.data.readers.registry import reader_of

LABEL_HEADER = ["subject_id", "study_id", *sorted(CHEXPERT_NAMES)]  # MIMIC's are in this order
META_HEADER = ["dicom_id", "subject_id", "study_id", "PerformedProcedure", "ViewPosition", "Rows"]
SPLIT_HEADER = ["dicom_id", "study_id", "subject_id", "split"]
LABELS, META, SPLIT = (f"mimic-cxr-2.0.0-{name}.csv" for name in ("chexpert", "metadata", "split"))
STUDIES = [
    {"subject_id": "10000032", "study_id": "50414267", "Edema": "1.0", "Pneumonia": "-1.0"},
    {"subject_id": "11000001", "study_id": "50000002", "No Finding": "1.0"},
]
IMAGES = [  # dicom_id, subject_id, study_id, ViewPosition, split
    ("02aa804e", "10000032", "50414267", "PA", "train"),
    ("174413ec", "10000032", "50414267", "LATERAL", "train"),
    ("2a2277a9", "11000001", "50000002", "AP", "validate"),
    ("e084de3b", "11000001", "50000002", "LL", "test"),
    ("68b5c4b1", "11000001", "50000002", "AP AXIAL", "test"),
    ("f1111111", "11000001", "50000002", "", "test"),
]


def write(folder, studies=STUDIES, images=IMAGES, labels=LABELS, packed=""):
    meta = [
        dict(zip(("dicom_id", "subject_id", "study_id", "ViewPosition"), image[:4], strict=True))
        for image in images
    ]
    splits = [{"dicom_id": image[0], "split": image[4]} for image in images]
    write_table(folder / (labels + packed), studies, LABEL_HEADER)
    write_table(folder / (META + packed), meta, META_HEADER)
    write_table(folder / (SPLIT + packed), splits, SPLIT_HEADER)
    return folder


def read(folder, **options):
    reader = reader_of(folder)
    assert reader.name == "mimic-cxr"
    return reader.read(folder, ReadOptions(**options))


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path)


def test_images_get_the_labels_of_their_study(folder):
    found = mimic_cxr(folder)
    expected = {
        "50414267": {"Edema": 1, "Pneumonia": MEANINGS["-1.0"], "No Finding": 0},
        "50000002": {"No Finding": 1},
    }
    for (_, _, study, _, _), values in zip(IMAGES, found.truth, strict=True):
        said = [expected[study].get(name, MEANINGS[""]) for name in found.labels.names]
        assert values.tolist() == said
    assert found.images["Patient ID"].tolist() == [image[1] for image in IMAGES]


def test_views(folder):
    assert mimic_cxr(folder).images["View Position"].tolist() == [
        "PA", "L", "AP", "L", "AP AXIAL", "",
    ]  # fmt: skip


def test_the_data_sets_own_lists(folder):
    assert read(folder, allow_missing=True).lists == {
        "train": {"02aa804e", "174413ec"},
        "val": {"2a2277a9"},
        "test": {"e084de3b", "68b5c4b1", "f1111111"},
    }


def test_files_lie_under_patient_and_study(folder):
    film = folder / "files/p10/p10000032/s50414267/02aa804e.jpg"
    write_film(film)
    dataset = read(folder)
    assert dataset.table["path"].tolist() == [str(film)]
    assert mimic_cxr(folder).images["path"].iloc[2] == "files/p11/p11000001/s50000002/2a2277a9.jpg"


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("program", ["chexpert", "negbio"])
def test_tables_plain_or_packed_of_either_program(tmp_path, program, packed):
    write(tmp_path, labels=f"mimic-cxr-2.0.0-{program}.csv", packed=packed)
    assert len(read(tmp_path, allow_missing=True, views=("all",)).table) == len(IMAGES)


def test_chexperts_labels_before_negbios(folder):
    negbio = [{**study, "Edema": "0.0"} for study in STUDIES]
    write_table(folder / "mimic-cxr-2.0.0-negbio.csv", negbio, LABEL_HEADER)
    found = mimic_cxr(folder)
    assert found.truth[0, found.labels.names.index("Edema")] == 1


def test_images_of_studies_without_labels_are_left_out(tmp_path):
    found = mimic_cxr(write(tmp_path, studies=STUDIES[1:]))
    assert found.images["Image Index"].tolist() == [image[0] for image in IMAGES[2:]]
    assert np.all(found.truth[:, found.labels.names.index("No Finding")] == 1)
    assert found.notices == ("2 images are of studies without labels: left out.",)


def test_without_a_split_there_are_no_lists(folder):
    (folder / SPLIT).unlink()
    found = mimic_cxr(folder)
    assert found.lists == {}
    assert found.notices == (f"{folder} has no {SPLIT}, so no official split.",)


def test_images_in_no_list_are_counted(folder):
    write_table(folder / SPLIT, [{"dicom_id": "02aa804e", "split": "train"}], SPLIT_HEADER)
    assert mimic_cxr(folder).notices == (f"5 images are in no list of {SPLIT}.",)


@pytest.mark.parametrize("absent", [LABELS, META])
def test_a_table_that_is_missing(folder, absent):
    (folder / absent).unlink()
    said = refusal(mimic_cxr, folder)
    assert said.startswith(f"{folder} lacks {absent}")
    assert said.endswith("needs its labels and its metadata in one folder.")
    assert reader_of(folder).name == "mimic-cxr"  # so that a person is told what is missing


def test_tables_that_do_not_belong_together(tmp_path):
    other = [{"subject_id": "1", "study_id": "2"}]
    said = refusal(mimic_cxr, write(tmp_path, studies=other))
    assert said == (
        f"No study of {tmp_path / META} is in {tmp_path / LABELS}. "
        "Put tables of one version together."
    )


def test_a_study_listed_twice(tmp_path):
    said = refusal(mimic_cxr, write(tmp_path, studies=[STUDIES[0], *STUDIES]))
    assert said == f"{tmp_path / LABELS} lists study 50414267 twice. Keep one row per study."


def test_an_image_listed_twice(tmp_path):
    folder = write(tmp_path, images=[IMAGES[0], *IMAGES])
    assert "lists 1 images twice, such as 02aa804e" in refusal(read, folder, allow_missing=True)


def test_a_value_that_means_nothing(tmp_path):
    said = refusal(mimic_cxr, write(tmp_path, studies=[{**STUDIES[0], "Fracture": "yes"}]))
    assert said.startswith(f"{tmp_path / LABELS}: a label is 1 (there), 0 (not there), -1")
    assert said.endswith("Received: 'yes' for 'Fracture' of 50414267.")


def test_a_split_that_is_none(folder):
    write_table(folder / SPLIT, [{"dicom_id": "02aa804e", "split": "dev"}], SPLIT_HEADER)
    assert refusal(mimic_cxr, folder) == (
        f"{folder / SPLIT}: a split is one of: train, validate, test. Received: 'dev' for 02aa804e."
    )


def test_a_column_that_is_missing(folder):
    write_table(folder / META, [{"dicom_id": "1"}], ["dicom_id", "study_id"])
    assert refusal(mimic_cxr, folder) == (
        f"{folder / META} lacks the column 'subject_id' and 'ViewPosition'. "
        "Received the columns: 'dicom_id', 'study_id'."
    )
