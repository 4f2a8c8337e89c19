from collections import Counter, defaultdict

import numpy as np
import pytest
from helpers.data_folders import MEANINGS, real_rows, write_film, write_table
from helpers.dicom_files import film, written
from helpers.real_tables import real_table
from helpers.refusals import refusal

from cxr_keras.data.preparation import prepare
from cxr_keras.data.readers.layout import ReadOptions
from cxr_keras.data.readers.registry import reader_of
from cxr_keras.data.readers.vindr import KAGGLE, PHYSIONET, vindr

BOXES = ["image_id", "class_name", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"]
TRAIN, TEST = "annotations/image_labels_train.csv", "annotations/image_labels_test.csv"
READERS = ("R8", "R9", "R10")
MAYBE = MEANINGS["-1.0"]


def there(found, row=0):
    names = found.labels.names
    return {name for name, value in zip(names, found.truth[row], strict=True) if value == 1}


def read(folder, **options):
    reader = reader_of(folder)
    assert reader.name == "vindr"
    return reader.read(folder, ReadOptions(**options))


def votes(image, *said):
    """A row for each radiologist, who said these labels."""
    return [
        {"image_id": image, "rad_id": reader}
        | {name: "1" if name in names else "0" for name in PHYSIONET.names}
        for reader, names in zip(READERS, said, strict=False)
    ]


def physionet(folder, train=(), test=(), header=("image_id", "rad_id", *PHYSIONET.names)):
    if train:
        write_table(folder / TRAIN, train, header)
    if test:
        write_table(folder / TEST, test, [name for name in header if name != "rad_id"])
    return folder


def boxes(folder, *rows, name="train.csv"):
    """Kaggle's table of (image, class, radiologist)."""
    cells = [dict(zip(("image_id", "class_name", "rad_id"), row, strict=True)) for row in rows]
    write_table(folder / name, cells, BOXES)
    return folder


def test_two_of_three_radiologists_decide(tmp_path):
    said = [{"Cardiomegaly", "ILD"}, {"Cardiomegaly", "Edema"}, {"No finding"}]
    found = vindr(physionet(tmp_path, votes("a", *said) + votes("b", *[{"No finding"}] * 3)))
    assert there(found) == {"Cardiomegaly"}
    assert there(found, 1) == {"No finding"}
    assert set(found.truth.ravel().tolist()) == {0, 1}
    assert found.labels is PHYSIONET
    assert len(PHYSIONET) == 28
    assert PHYSIONET.normal == KAGGLE.normal == "No finding"


def test_three_radiologists_who_disagree_leave_nothing_not_even_no_finding(tmp_path):
    found = vindr(physionet(tmp_path, votes("a", {"ILD"}, {"Edema"}, {"No finding"})))
    assert there(found) == set()


def test_the_test_table_has_one_row_an_image(tmp_path):
    found = vindr(physionet(tmp_path, test=votes("t", {"Rib fracture", "COPD"})))
    assert there(found) == {"Rib fracture", "COPD"}


def test_both_lists(tmp_path):
    train, test = votes("a", {"ILD"}, {"ILD"}, set()), votes("t", {"COPD"})
    dataset = read(physionet(tmp_path, train, test), allow_missing=True)
    assert dataset.lists == {"train_val": {"a"}, "test": {"t"}}
    assert dataset.table["Finding Labels"].tolist() == ["ILD", "COPD"]


def test_every_image_is_a_pa_view_and_its_own_patient(tmp_path):
    dataset = read(physionet(tmp_path, votes("a") + votes("b", set())), allow_missing=True)
    assert dataset.table["View Position"].tolist() == ["PA"]
    folder = physionet(tmp_path, votes("a", set()) + votes("b", set()))
    dataset = read(folder, allow_missing=True)
    assert dataset.table["Patient ID"].nunique() == 2
    assert "2 images have no patient: each counts as a patient of its own." in dataset.notices


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg"])
def test_images_lie_in_the_folder_of_their_list(tmp_path, suffix):
    folder = physionet(tmp_path, votes("a", set()), votes("t", set()))
    write_film(folder / f"train/a{suffix}")
    write_film(folder / f"test/t{suffix}")
    paths = read(folder).table["path"].tolist()
    assert paths == [str(folder / f"train/a{suffix}"), str(folder / f"test/t{suffix}")]


def test_images_that_are_not_there_are_left_out(tmp_path):
    folder = physionet(tmp_path, votes("a", set()) + votes("b", set()))
    write_film(folder / "train/b.png")
    (folder / "train/a.txt").write_bytes(b"")
    dataset = read(folder)
    assert dataset.table["Image Index"].tolist() == ["b"]
    assert "1 of 2 images are not on disk: left out." in dataset.notices


def test_the_films_are_dicom_as_physionet_has_them(tmp_path, cache):
    pytest.importorskip("pydicom", reason="the extra dicom is not installed")
    folder = physionet(tmp_path, [row for n in range(6) for row in votes(f"film{n}", {"Edema"})])
    (folder / "train").mkdir()
    for number in range(6):
        pixels = np.full((80, 80), number, "uint16")
        pixels[0, :2] = 0, 100
        written(film(pixels, BitsStored=12), folder / f"train/film{number}.dicom")
    prepared = prepare(folder, per_class="all", test_share=0, val_share=0.5)
    assert len(prepared.manifest) == 6
    row = prepared.manifest.set_index("Image Index").loc["film5", "row"]
    assert prepared.store.pixels[row][128, 128] == round(255 * 5 / 100)


def test_other_disease_is_other_diseases_and_a_case_is_forgiven(tmp_path):
    spelt = {"Other diseases": "Other disease", "Lung Opacity": "Lung opacity"}
    header = ["image_id", *(spelt.get(name, name) for name in PHYSIONET.names)]
    row = {"image_id": "t", **dict.fromkeys(header[1:], "0.0"), "Other disease": "1.0"}
    write_table(tmp_path / TEST, [row], header)
    assert there(vindr(tmp_path)) == {"Other diseases"}


def test_two_radiologists_may_tie(tmp_path):
    found = vindr(physionet(tmp_path, votes("a", {"ILD"}, {"ILD", "Edema"})))
    assert there(found) == {"ILD"}
    assert found.truth[0, PHYSIONET.names.index("Edema")] == MAYBE


def test_kaggles_boxes_count_once_a_radiologist(tmp_path):
    found = vindr(
        boxes(
            tmp_path,
            *[("a", "Calcification", "R8")] * 3,  # three boxes of one radiologist
            ("a", "Cardiomegaly", "R8"),
            ("a", "Cardiomegaly", "R9"),
            ("a", "No finding", "R10"),
            *[("b", "No finding", reader) for reader in READERS],
        )
    )
    assert [there(found, i) for i in range(2)] == [{"Cardiomegaly"}, {"No finding"}]
    assert found.labels is KAGGLE
    assert len(KAGGLE) == 15


def test_kaggles_folder(tmp_path):
    folder = boxes(tmp_path, ("a", "ILD", "R8"), name="train.csv.gz")
    write_film(folder / "train/a.png")
    write_film(folder / "test/z.png")  # has no labels
    dataset = read(folder)
    assert dataset.table["path"].tolist() == [str(folder / "train/a.png")]
    assert dataset.lists == {}


def test_a_class_that_is_none(tmp_path):
    assert refusal(vindr, boxes(tmp_path, ("a", "ILD", "R8"), ("b", "Gout", "R9"))) == (
        f"{tmp_path / 'train.csv'}: a class_name is one of: {', '.join(KAGGLE.names)}. "
        "Received: 'Gout' for b."
    )


def test_a_value_that_means_nothing(tmp_path):
    rows = [*votes("a", set()), {**votes("b", set())[0], "ILD": "3"}]
    said = refusal(vindr, physionet(tmp_path, rows))
    assert said.startswith(f"{tmp_path / TRAIN}: a label is 1 (there), 0 (not there), -1")
    assert said.endswith("Received: '3' for 'ILD' of b.")


def test_a_column_that_is_missing(tmp_path):
    header = ["image_id", "rad_id", *PHYSIONET.names[1:]]
    said = refusal(vindr, physionet(tmp_path, votes("a", set()), header=header))
    assert f"{tmp_path / TRAIN} lacks the column 'Aortic enlargement'. Received the" in said


def test_tables_without_rows_and_none(tmp_path):
    assert "holds no table of VinDr-CXR's. It needs annotations/" in refusal(vindr, tmp_path)
    assert "has no row, so it names no image" in refusal(vindr, boxes(tmp_path))
    write_table(tmp_path / TRAIN, [], ["image_id", *PHYSIONET.names])
    assert "has no row, so it names no image" in refusal(vindr, tmp_path)


@pytest.mark.slow
def test_the_real_table_against_its_rows(tmp_path):
    source = real_table("vinbigdata-train.csv.gz")
    (tmp_path / "train.csv.gz").symlink_to(source)
    found = vindr(tmp_path)
    said = defaultdict(set)
    for cells in real_rows(source):
        said[cells["image_id"]].add((cells["rad_id"], cells["class_name"]))
    assert len(said) == len(found.images) == 15_000
    counts, image = Counter(), dict(zip(found.images["Image Index"], found.truth, strict=True))
    for name, pairs in said.items():
        agreed = Counter(label for _, label in pairs)
        majority = {label for label, readers in agreed.items() if readers >= 2}
        counts.update(majority)
        assert {KAGGLE.names[i] for i in np.flatnonzero(image[name] == 1)} == majority
    assert counts["No finding"] == 10_606
    assert not (found.truth < 0).any()
