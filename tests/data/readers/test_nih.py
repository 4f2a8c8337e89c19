import gzip
import json

import pytest

from cxr_keras.data.boxes import read_boxes
from cxr_keras.data.readers.nih import read_dataset, read_label_table
from cxr_keras.errors import DataError

HEADER_2017 = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)


def test_nihs_own_table_has_nihs_own_counts(sample):
    facts = json.loads((sample.parent / "facts" / "nih_archives.json").read_text())["counts"]
    dataset = read_dataset(sample, allow_missing=True)
    assert len(dataset.table) == facts["images"]
    assert dataset.table["Patient ID"].nunique() == facts["patients"]
    assert len(dataset.lists["test"]) == facts["official_test_images"]
    counts = dataset.table["Finding Labels"].str.get_dummies("|").sum().to_dict()
    assert counts == facts["labels"]
    assert len(read_boxes(sample)) == 984
    assert not read_boxes(sample)["label"].isna().any()


def test_images_not_on_disk_are_counted_and_said(sample):
    dataset = read_dataset(sample)
    assert len(dataset.table) == 240
    assert "111,880 of 112,120 images in Data_Entry_2017_v2020.csv are not on disk" in " ".join(
        dataset.notices
    )


def test_the_2017_file_with_its_trailing_column_and_ages(tmp_path):
    path = tmp_path / "Data_Entry_2017.csv"
    row = "00000001_000.png,Cardiomegaly|Mass,0,1,058Y,M,PA,2682,2749,0.143,0.143,"
    infants = [row.replace("058Y", age).replace("001_0", f"{age}_0") for age in ("006M", "073D")]
    path.write_text("\n".join([HEADER_2017, row, *infants, ""]))
    table, notices = read_label_table(path)
    assert table.iloc[0][["Image Index", "Finding Labels"]].tolist() == [
        "00000001_000.png",
        "Cardiomegaly|Mass",
    ]
    assert table["Patient Age"].tolist() == pytest.approx([58, 0.5, 0.2])
    assert len(notices) == 1  # 12 findings that no image has


def test_the_table_on_nihs_page_says_sex_where_others_say_gender(make_folder):
    folder = make_folder([("1_0.png", "Mass", 1), ("2_0.png", "No Finding", 2)])
    path = folder / "Data_Entry_2017_v2020.csv"
    before, _ = read_label_table(path)
    path.write_text(path.read_text().replace("Patient Gender", "Patient Sex"))
    after, _ = read_label_table(path)
    assert after["Patient Gender"].tolist() == ["M", "M"]
    assert after.equals(before)


@pytest.mark.parametrize("how", ["gz", "bom", "crlf", "utf-16", "latin-1", "spaces"])
def test_encodings_and_line_ends(make_folder, how):
    folder = make_folder([("1_0.png", "Mass|Edema", 1), ("2_0.png", "No Finding", 2)])
    path = folder / "Data_Entry_2017_v2020.csv"
    text = path.read_text()
    if how == "gz":
        path.unlink()
        (folder / "Data_Entry_2017_v2020.csv.gz").write_bytes(gzip.compress(text.encode()))
    elif how == "bom":
        path.write_text(text, encoding="utf-8-sig")
    elif how == "crlf":
        path.write_bytes(text.replace("\n", "\r\n").encode())
    elif how == "latin-1":
        path.write_bytes(text.replace(",M,", ",Münnlich,").encode("latin-1"))
    elif how == "spaces":
        path.write_text(text.replace("Mass|Edema", " Mass | edema "))
    else:
        path.write_text(text, encoding="utf-16")
    table = read_dataset(folder).table
    assert table["Finding Labels"].tolist() == ["Edema|Mass", "No Finding"]


def test_images_in_numbered_folders(make_folder):
    folder = make_folder([("1_0.png", "Mass", 1), ("2_0.png", "Edema", 2)])
    (folder / "images_001").mkdir()
    (folder / "images").rename(folder / "images_001" / "images")
    assert len(read_dataset(folder).table) == 2


def said(folder, **options):
    dataset = read_dataset(folder, **options)
    return dataset.table["Image Index"].tolist(), " ".join(dataset.notices)


def test_an_unknown_label_is_ignored_and_an_image_of_nothing_else_left_out(make_folder):
    rows = [("1.png", "Mass|Fracture", 1), ("2.png", "Fracture", 2), ("3.png", "Edema", 3)]
    kept, text = said(make_folder(rows))
    assert kept == ["1.png", "3.png"]
    assert "Unknown labels are ignored: 'Fracture' (2)." in text
    assert "1 images have only unknown labels: left out." in text


def test_an_empty_cell_is_unknown_not_no_finding(make_folder):
    kept, text = said(make_folder([("1.png", "", 1), ("2.png", "Mass", 2)]))
    assert kept == ["2.png"]
    assert "1 images have an empty label cell: left out." in text


def test_no_finding_beside_a_finding_is_dropped(make_folder):
    folder = make_folder([("1.png", "No Finding|Mass", 1)])
    dataset = read_dataset(folder)
    assert dataset.table["Finding Labels"].tolist() == ["Mass"]
    assert "the finding stands" in " ".join(dataset.notices)


def test_duplicate_rows(make_folder):
    rows = [("1.png", "Mass", 1), ("1.png", "Mass", 1), ("2.png", "Mass", 2), ("2.png", "Edema", 2)]
    folder = make_folder([*rows, ("3.png", "Hernia", 3)])
    kept, text = said(folder)
    assert kept == ["1.png", "3.png"]
    assert "1 images are listed more than once: counted once." in text
    assert "1 images are listed with different labels: left out (2.png)." in text


def test_images_on_disk_but_not_in_the_table_are_counted(make_folder):
    kept, text = said(make_folder([("1.png", "Mass", 1)], images=["1.png", "x.png", "y.png"]))
    assert kept == ["1.png"]
    assert "2 images on disk have no usable row" in text


def test_a_label_that_no_image_has_is_said(make_folder):
    _, text = said(make_folder([("1.png", "Mass", 1)]))
    assert "No image in the table has the label Atelectasis" in text
    assert "Mass" not in text


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "Data_Entry_2017_v2020.csv").unlink(), "holds no label table"),
        (lambda folder: (folder / "Data_Entry_2017_v2020.csv").write_text(""), "is empty"),
        (
            lambda folder: (folder / "Data_Entry_2017_v2020.csv").write_text("a,b\n1,2\n"),
            "lacks the column 'Image Index' and 'Finding Labels' and 'Patient ID'",
        ),
        (lambda folder: (folder / "images" / "1.png").unlink(), "--allow-missing"),
    ],
)
def test_an_unusable_folder_is_one_sentence(make_folder, spoil, says):
    folder = make_folder([("1.png", "Mass", 1)])
    spoil(folder)
    with pytest.raises(DataError, match=says):
        read_dataset(folder)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="There is no data folder"):
        read_dataset(tmp_path / "none")


def test_an_image_without_a_patient_is_a_patient_of_its_own(tmp_path):
    path = tmp_path / "Data_Entry_2017.csv"
    rows = ["a.png,Mass, ", "b.png,Mass,", "c.png,Mass,7"]
    path.write_text("\n".join(["Image Index,Finding Labels,Patient ID", *rows, ""]))
    table, notices = read_label_table(path)
    assert table["Patient ID"].nunique() == 3
    assert any("2 images have no Patient ID" in sentence for sentence in notices)
