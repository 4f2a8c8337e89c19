"""Any CSV of images and labels."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from helpers.data_folders import column, said, write_csv, write_films
from helpers.refusals import refusal

from cxr_keras.data.dataset import truth_of
from cxr_keras.data.preparation import prepare
from cxr_keras.data.readers.layout import ReadOptions, assemble
from cxr_keras.data.readers.table import read_table

YES, NO, MAYBE, UNSAID = 1, 0, -1, -2


@pytest.fixture
def table(tmp_path: Path):
    """Writes a table of the lines given."""
    return lambda *lines: write_csv(tmp_path / "labels.csv", *lines)


def test_a_column_of_names_and_one_for_each_thing_known_of_a_patient(table, tmp_path):
    path = table(
        "image,patient_id,view,age,sex,labels",
        "p1/a.png,17,PA,58,F,Mass|edema",
        "p1/b.png,17,lateral,058Y,male,Edema",
        "p2/a.png,18,Frontal,6M,x,",
    )
    images = write_films(tmp_path / "images", ["p1/a.png", "p1/b.png", "p2/a.png"])
    found = read_table(path, images)
    assert found.labels.names == ("edema", "Mass")
    assert found.labels.normal is None
    assert found.truth.tolist() == [[YES, YES], [YES, NO], [NO, NO]]
    assert found.truth.dtype == np.int8
    assert column(found, "Image Index") == ["p1/a.png", "p1/b.png", "p2/a.png"]
    assert column(found, "path") == ["p1/a.png", "p1/b.png", "p2/a.png"]
    assert column(found, "Patient ID") == ["17", "17", "18"]
    assert column(found, "View Position") == ["PA", "L", "FRONTAL"]
    assert column(found, "Patient Age") == pytest.approx([58, 58, 0.5])
    assert column(found, "Patient Gender") == ["F", "M", ""]
    assert found.notices == (
        "labels.csv has 2 labels in 'labels'; taken as image 'image', patient 'patient_id', "
        "view 'view', age 'age', sex 'sex'. --path-column, --patient-column and --label-columns "
        "say otherwise.",
    )
    dataset = assemble(images, found, ReadOptions())
    assert dataset.table["Finding Labels"].tolist() == ["edema|Mass", ""]  # one is lateral
    assert "1 images are not frontal: left out (L 1)" in " ".join(dataset.notices)


def test_a_column_for_each_label(table, tmp_path):
    path = table(
        "path,subject,Note,Cardiomegaly,Edema,Normal,Pleural Effusion",
        "a.png,1,x,1,0,0,",
        "b.png,2,y,-1.0,0.0,1.0,1",
    )
    found = read_table(path)
    assert found.labels.names == ("Cardiomegaly", "Edema", "No Finding", "Pleural Effusion")
    assert found.labels.normal == "No Finding"
    assert found.labels.canonical("normal") == "No Finding"
    assert found.truth.tolist() == [[YES, NO, NO, UNSAID], [MAYBE, NO, YES, YES]]
    assert column(found, "path") == ["", ""]
    assert column(found, "Patient ID") == ["1", "2"]
    assert "View Position" not in found.images.columns
    assert "has 4 labels in 'Cardiomegaly', 'Edema', 'Normal', 'Pleural Effusion'; taken" in said(
        found
    )


def test_columns_may_be_named(table):
    path = table("film,who,id,A,B", "a,x,1,1,0", "b,y,0,0,1")
    found = read_table(path, path_column="Film", patient_column="who", label_columns=["B", "A"])
    assert found.labels.names == ("B", "A")
    assert found.truth.tolist() == [[NO, YES], [YES, NO]]
    assert column(found, "Image Index") == ["a", "b"]
    assert column(found, "Patient ID") == ["x", "y"]


def test_true_and_false_are_one_and_zero(table):
    found = read_table(table("image,A,B", "a,True,False", "b,FALSE,true"))
    assert found.truth.tolist() == [[YES, NO], [NO, YES]]


def test_a_table_that_nowhere_says_0_means_it_by_a_blank(table):
    found = read_table(table("image,A,B", "a,1,", "b,,1", "c,-1,"))
    assert found.truth.tolist() == [[YES, NO], [NO, YES], [MAYBE, NO]]
    assert "labels.csv says nowhere 0, so its 3 blank cells count as 0." in said(found)


@pytest.mark.parametrize("cell", ["Mass|Edema", "Mass;Edema", "Mass, Edema", "['Mass', 'Edema']"])
def test_names_may_be_separated_otherwise(table, cell):
    found = read_table(table("image,findings", f'a,"{cell}"', "b,Edema"))
    assert found.labels.names == ("Edema", "Mass")
    assert found.truth.tolist() == [[YES, YES], [YES, NO]]


@pytest.mark.parametrize("name", ["No Finding", "no_finding", "Normal", "NORMAL", "No findings"])
def test_a_name_for_normal_whose_blank_cells_are_unknown(table, name):
    path = table("image,labels", "a,Mass", f"b,{name}", "c,", f"d,{name}|Mass")
    found = read_table(path)
    assert found.labels.names == ("Mass", "No Finding")
    assert found.labels.normal == "No Finding"
    assert column(found, "Image Index") == ["a", "b", "d"]
    assert found.truth.tolist() == [[YES, NO], [NO, YES], [YES, NO]]
    assert "1 images have an empty label cell: left out." in said(found)
    assert "1 images say No Finding beside a finding: the finding stands." in said(found)


def test_splits_become_lists(table):
    path = table("image,labels,Split", "a,M,train", "b,M,VALID", "c,M,test", "d,M,train", "e,M,")
    found = read_table(path)
    assert found.lists == {
        "train": frozenset("ad"),
        "val": frozenset("b"),
        "test": frozenset("c"),
    }


def test_a_column_that_is_no_split_is_said(table):
    found = read_table(table("image,labels,split", "a,M,train", "b,M,fold 3"))
    assert found.lists == {}
    assert (
        "The column 'split' is not taken for splits: it holds 'fold 3' in row 3, not only train, "
        "val and test." in found.notices
    )


def test_ages_that_are_none_are_said(table):
    found = read_table(table("image,labels,age", "a,M,40", "b,M,old", "c,M,"))
    assert column(found, "Patient Age")[0] == 40
    assert np.isnan(column(found, "Patient Age")[1:]).all()
    assert (
        "1 ages are no number and count as unknown: the column 'age' holds 'old' in row 3."
        in said(found)
    )


def test_our_own_manifest(make_folder, tmp_path):
    cells = ("Mass", "Edema|Mass", "No Finding")
    folder = make_folder([(f"{n}.png", cells[n % 3], n) for n in range(12)])
    done = prepare(folder, out=tmp_path)
    found = read_table(tmp_path / "manifest.csv")
    dataset = assemble(tmp_path, found, ReadOptions())
    rows = done.manifest.set_index("Image Index")
    read = dataset.table.set_index("Image Index")
    assert read.index.tolist() == sorted(rows.index)
    for name in ("Patient ID", "path", "View Position", "Patient Age"):
        assert read[name].tolist() == rows.loc[read.index, name].tolist()
    labels = dataset.labels.names
    assert (truth_of(read, labels) == truth_of(rows.loc[read.index], labels)).all()
    assert {name: len(images) for name, images in dataset.lists.items()} == (
        rows["split"].value_counts().to_dict()
    )


def test_unknown_labels_of_a_manifest(table):
    found = read_table(
        table(
            "Image Index,Patient ID,Finding Labels,Unknown Labels",
            "a,1,Mass,Edema|Hernia",
            "b,2,,Edema",
            "c,3,No Finding,",
        )
    )
    assert found.labels.names == ("Edema", "Hernia", "Mass", "No Finding")
    assert found.truth.tolist() == [
        [UNSAID, UNSAID, YES, NO],
        [UNSAID, NO, NO, NO],
        [NO, NO, NO, YES],
    ]


def test_a_compressed_table_with_blank_rows_at_its_end(tmp_path):
    path = tmp_path / "labels.csv.gz"
    path.write_bytes(gzip.compress(b"image,labels\na,M\n,\n , \n"))
    assert column(read_table(path), "Image Index") == ["a"]


@pytest.mark.parametrize(
    ("lines", "options", "says"),
    [
        (
            ["film,labels", "a,M"],
            {},
            "has no column that says where an image lies. Name it with --path-column; it has the "
            "columns: 'film', 'labels'.",
        ),
        (
            ["image,age", "a,40", "b,50"],
            {},
            "has no column of labels: neither one of names, such as 'labels' with 'Mass|Edema', "
            "nor one of 1 (there), 0 (absent), -1 (uncertain) or nothing (unknown). Name them "
            "with --label-columns; it has the columns: 'image', 'age'.",
        ),
        (
            ["image,labels", "a,M"],
            {"label_columns": ["Mass"]},
            "labels.csv has no column 'Mass'; it has the columns: 'image', 'labels'.",
        ),
        (["image,labels", "a,M"], {"path_column": "file"}, "has no column 'file'; it has"),
        (["image,labels", "a,M"], {"patient_column": "who"}, "has no column 'who'; it has"),
        (
            ["image,A,B", "a,1,0", "b,0,2"],
            {"label_columns": ["A", "B"]},
            "the column 'B' holds '2' in row 3. A label is 1 (there), 0 (absent), -1 (uncertain) "
            "or nothing (unknown); mend the cell, or name the columns of labels with "
            "--label-columns.",
        ),
        (
            ["image,A", *[f"{n},{n % 2}" for n in range(19)], ",", "x,often"],
            {},
            "the column 'A' holds 'often' in row 22.",
        ),
        (
            ["image,labels", "a,M", ",M"],
            {},
            "the column 'image' is empty in row 3. Name the image, or remove the row.",
        ),
        (
            ["image,labels", "a,M", "b,M", "a,E"],
            {},
            "the column 'image' holds 'a' again in row 4. Keep one row for each image, or name "
            "the column that tells images apart with --path-column.",
        ),
        (["image,labels", "a,", "b,"], {"label_columns": ["labels"]}, "'labels' names no label."),
        (["image,labels"], {}, "has a header and no row. Write one row for each image."),
        (["image;labels", "a;M"], {}, "is separated by ;. Save it with commas."),
        (["image,M,m", "a,1,0"], {}, "each once whatever its case"),
    ],
)
def test_what_is_refused(table, lines, options, says):
    path = table(*lines)
    assert says in refusal(read_table, path, **options)
