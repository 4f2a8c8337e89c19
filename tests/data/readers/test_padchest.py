import ast
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from helpers.data_folders import MEANINGS, PADCHEST_TABLE, real_rows, write_film, write_table
from helpers.real_tables import real_table
from helpers.refusals import refusal

from cxr_keras.data.readers.layout import ReadOptions
from cxr_keras.data.readers.padchest import PADCHEST, padchest
from cxr_keras.data.readers.registry import reader_of

HEADER = [
    "", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth",
    "PatientSex_DICOM", "ViewPosition_DICOM", "Projection", "MethodLabel", "Report", "Labels",
]  # fmt: skip
UNSAID = MEANINGS[""]
PACKED = PADCHEST_TABLE + ".gz"


def row(name, labels, **cells):
    known = {
        "ImageDir": "7",
        "StudyDate_DICOM": "20140915",
        "PatientID": "839",
        "PatientBirth": "1930.0",
        "PatientSex_DICOM": "F",
        "Projection": "PA",
    }
    return {"ImageID": name, "Labels": str(labels), **known, **cells}


def write(folder, *rows):
    write_table(folder / PADCHEST_TABLE, rows, HEADER)
    return folder


def labelled(tmp_path, *cells):
    """Images named 0.png, 1.png … with these cells."""
    return padchest(write(tmp_path, *(row(f"{i}.png", cell) for i, cell in enumerate(cells))))


def there(found, row=0):
    return {
        name for name, value in zip(PADCHEST.names, found.truth[row], strict=True) if value == 1
    }


def read(folder, **options):
    reader = reader_of(folder)
    assert reader.name == "padchest"
    return reader.read(folder, ReadOptions(**options))


def test_what_is_listed_is_there_and_all_else_absent(tmp_path):
    found = labelled(tmp_path, ["pleural effusion", " cardiomegaly", ""], ["normal"])
    assert there(found) == {"pleural effusion", "cardiomegaly"}
    assert there(found, 1) == {"normal"}
    assert set(found.truth.ravel().tolist()) == {0, 1}
    assert found.notices == ()


def test_normal_is_the_normal_label_and_words_that_are_no_findings_are_no_labels():
    assert PADCHEST.normal == "normal"
    assert not {"", "exclude", "unchanged", "suboptimal study", "mass"} & set(PADCHEST.names)
    assert len(PADCHEST) == 152


def test_normal_beside_a_finding_is_dropped(tmp_path):
    found = labelled(tmp_path, ["nodule", " normal"], ["suboptimal study", "normal"])
    assert there(found) == {"nodule"}
    assert there(found, 1) == {"normal"}
    assert found.notices == ("1 images say 'normal' beside a finding: the finding stands.",)


def test_a_rare_finding_is_no_label_but_not_normal_either(tmp_path):
    found = labelled(tmp_path, ["dextrocardia"], ["mass", "normal"], ["mass", "scoliosis"])
    assert [there(found, i) for i in range(3)] == [set(), set(), {"scoliosis"}]
    assert found.notices[-1] == (
        "2 findings are none of the labels: ignored (most: 'mass' (2), 'dextrocardia' (1))."
    )


def test_what_an_unchanged_image_does_not_list_is_unknown(tmp_path):
    found = labelled(tmp_path, ["cardiomegaly", "unchanged"], ["unchanged", "normal"])
    expected = {"cardiomegaly": 1, "normal": 0}
    assert found.truth[0].tolist() == [expected.get(name, UNSAID) for name in PADCHEST.names]
    assert there(found, 1) == {"normal"}
    assert not (found.truth[1] == UNSAID).any()
    assert found.notices == ("1 images are 'unchanged': what they do not list is unknown.",)


def test_images_of_which_nothing_is_said_are_left_out(tmp_path):
    cells = ["nan", "", "[]", [""], ["unchanged"], [" suboptimal study", "unchanged"], ["nodule"]]
    found = labelled(tmp_path, *cells)
    assert found.images["Image Index"].tolist() == ["6.png"]
    assert found.notices == ("6 images have no label that says something of them: left out.",)


def test_excluded_images_are_left_out_whatever_else_they_list(tmp_path):
    found = labelled(tmp_path, ["exclude"], ["cardiomegaly", " exclude"], ["nodule"])
    assert found.images["Image Index"].tolist() == ["2.png"]
    assert found.notices == ("2 images are marked 'exclude': left out.",)


def test_views(tmp_path):
    views = ["PA", "L", "AP", "AP_horizontal", "COSTAL", "UNK", "EXCLUDE"]
    rows = [row(f"{view}.png", ["nodule"], Projection=view) for view in views]
    found = padchest(write(tmp_path, *rows))
    assert found.images["View Position"].tolist() == ["PA", "L", "AP", "AP", "COSTAL", ""]
    assert found.notices == ("1 images show no chest (EXCLUDE): left out.",)
    kept = read(tmp_path, allow_missing=True).table["Image Index"].tolist()
    assert kept == ["AP.png", "AP_horizontal.png", "PA.png", "UNK.png"]


def test_patients_ages_and_sexes(tmp_path):
    images = padchest(
        write(
            tmp_path,
            row("a.png", ["nodule"]),
            row("b.png", ["nodule"], PatientBirth="", PatientSex_DICOM="nan", PatientID="12"),
            row("c.png", ["nodule"], PatientBirth="2014", PatientSex_DICOM="O"),
        )
    ).images
    assert images["Patient ID"].tolist() == ["839", "12", "839"]
    np.testing.assert_array_equal(images["Patient Age"], [84, np.nan, 0])
    assert images["Patient Gender"].tolist() == ["F", "", ""]


@pytest.mark.parametrize(
    ("lies", "where"), [("a.png", ""), ("7/a.png", "7/"), ("images-224/a.png", "images-224/")]
)
def test_images_lie_beside_the_table_in_numbered_folders_or_made_small(tmp_path, lies, where):
    write(tmp_path, row("a.png", ["nodule"]), row("b.png", ["nodule"], ImageDir="8"))
    for name in ("a.png", "b.png"):
        write_film(tmp_path / ("8/" if where == "7/" and name == "b.png" else where) / name)
    dataset = read(tmp_path)
    assert dataset.table["path"].tolist()[0] == str(tmp_path / lies)
    assert len(dataset.table) == 2


def test_a_packed_table(tmp_path):
    write_table(tmp_path / PACKED, [row("a.png", ["nodule"])], HEADER)
    assert len(read(tmp_path, allow_missing=True).table) == 1


@pytest.mark.parametrize("cell", ["nodule", "['nodule'", "{'nodule': 1}", "[1, 2]", "__import__"])
def test_labels_that_are_no_list(tmp_path, cell):
    folder = write(tmp_path, row("a.png", ["nodule"]), row("b.png", cell))
    assert refusal(padchest, folder) == (
        f"{folder / PADCHEST_TABLE}: labels are a list such as ['pleural effusion', "
        f"'cardiomegaly']. Received: {cell!r} for b.png."
    )


def test_a_column_that_is_missing(tmp_path):
    write_table(tmp_path / PADCHEST_TABLE, [row("a.png", [])], [n for n in HEADER if n != "Labels"])
    assert "lacks the column 'Labels'. Received the columns: " in refusal(padchest, tmp_path)


def test_a_table_without_rows_and_none(tmp_path):
    assert "It needs PADCHEST_chest_x_ray_images_labels_160K" in refusal(padchest, tmp_path)
    assert "has no row, so it names no image" in refusal(padchest, write(tmp_path))


def test_a_table_of_nothing_usable(tmp_path):
    said = refusal(padchest, write(tmp_path, row("a.png", ["exclude"])))
    assert said == (
        f"{tmp_path / PADCHEST_TABLE} says nothing of any image of a chest. Fetch it again."
    )


@pytest.mark.slow
def test_the_real_table_against_its_rows(tmp_path):
    source = real_table(PACKED)
    (tmp_path / PACKED).symlink_to(source)
    found = padchest(tmp_path)
    everywhere, kept, counts, frontal = Counter(), [], Counter(), 0
    total = 0
    for cells in real_rows(source):
        total += 1
        names = [] if cells["Labels"] == "nan" else ast.literal_eval(cells["Labels"])
        names = {name.strip() for name in names}
        everywhere.update(names)
        findings = names - {"", "normal", "exclude", "unchanged", "suboptimal study"}
        if "exclude" in names or cells["Projection"] == "EXCLUDE":
            continue
        if findings or "normal" in names:
            kept.append(cells["ImageID"])
            counts.update(findings or {"normal"})
            frontal += cells["Projection"] in ("PA", "AP", "AP_horizontal", "UNK")
    assert total == 160_861
    often = {name for name, images in everywhere.items() if images >= 50}
    assert often - {"", "exclude", "unchanged", "suboptimal study", "mass"} == set(PADCHEST.names)
    assert len(everywhere) - 5 == 189  # findings, as the module says
    assert found.images["Image Index"].tolist() == kept
    assert {name: int((found.truth[:, i] == 1).sum()) for i, name in enumerate(PADCHEST.names)} == {
        name: counts[name] for name in PADCHEST.names
    }
    assert len(read(tmp_path, allow_missing=True).table) == frontal


@pytest.mark.slow
def test_the_real_table_takes_little_memory(tmp_path):
    (tmp_path / PACKED).symlink_to(real_table(PACKED))
    script = (
        "import sys, resource; from pathlib import Path\n"
        "from cxr_keras.data.readers.layout import ReadOptions\n"
        "from cxr_keras.data.readers.registry import reader_of\n"
        "folder = Path(sys.argv[1]); reader = reader_of(folder)\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); reader.read(folder, ReadOptions(allow_missing=True))\n"
        "print(peak() - before)\n"
    )
    run = [sys.executable, "-c", script, str(tmp_path)]
    grown = int(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    kilobyte = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    assert grown * kilobyte < 500e6  # measured: 250 MB
