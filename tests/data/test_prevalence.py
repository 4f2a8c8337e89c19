"""How often labels occur, from a label table or a small CSV."""

import gzip

import pytest

from cxr_keras.data.readers.prevalence import read_prevalence
from cxr_keras.errors import DataError


def written(tmp_path, text, name="p.csv"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


@pytest.mark.parametrize(
    "text",
    [
        "label,prevalence\nMass,0.02\nNo Finding,0.5\n",
        "Prevalence , LABEL,note\n0.02, mass ,x\n5e-1,no_finding,\n",
        "\ufefflabel,prevalence\r\nMass,.02\r\nNo Finding,0.50\r\n",
    ],
)
def test_a_small_csv(tmp_path, text):
    assert read_prevalence(written(tmp_path, text)) == ({"Mass": 0.02, "No Finding": 0.5}, [])


@pytest.mark.parametrize("name", ["Data_Entry_2017.csv", "t.csv.gz"])
def test_a_label_table_gives_its_shares(tmp_path, name):
    rows = ["Mass|Edema", "Mass", "No Finding", "No Finding|Mass", "Nodule", "nonsense"]
    lines = ["Image Index,Finding Labels,Follow-up #,Patient ID"]
    text = "\n".join(lines + [f"{i}.png,{cell},0,{i}" for i, cell in enumerate(rows)])
    if name.endswith(".gz"):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
    else:
        written(tmp_path, text, name)
    found, notices = read_prevalence(tmp_path / name)
    assert found == pytest.approx({"Mass": 0.6, "Edema": 0.2, "Nodule": 0.2, "No Finding": 0.2})
    assert any("No Finding beside a finding" in sentence for sentence in notices)


def test_labels_of_no_or_every_image_have_no_prevalence(tmp_path):
    lines = ["Image Index,Finding Labels,Patient ID", "1.png,Mass|Edema,1", "2.png,Mass,2"]
    assert read_prevalence(written(tmp_path, "\n".join(lines)))[0] == {"Edema": 0.5}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("label,prevalence\n", r"has no row\. Give one per label: Pneumonia,0.012"),
        (
            "name,share\nMass,0.1\n",
            r"needs the columns label and prevalence.* Received the columns: 'name'",
        ),
        ("label,prevalence\nMess,0.1\n", "has a row for 'Mess', which is none of the labels"),
        ("label,prevalence\nMass,0.1\nmass,0.2\n", "has two rows for Mass"),
        ("label,prevalence\nMass,2%\n", "above 0 and below 1 .* Received: '2%' for Mass"),
        ("label,prevalence\nMass,0\n", "Received: '0' for Mass"),
        ("label,prevalence\nMass,1.0\n", "Received: '1.0' for Mass"),
        ("label,prevalence\nMass,-0.1\n", "Received: '-0.1' for Mass"),
        ("label,prevalence\nMass,nan\n", "Received: 'nan' for Mass"),
        ("label,prevalence\nMass,\n", "Received: '' for Mass"),
        ("Image Index,Finding Labels\n1.png,Mass\n", "lacks the column 'Patient ID'"),
        ("Image Index,Finding Labels,Patient ID\n1.png,,1\n", "no image with a label"),
    ],
)
def test_bad_tables_are_one_sentence(tmp_path, text, says):
    file = written(tmp_path, text)
    with pytest.raises(DataError, match=says) as caught:
        read_prevalence(file)
    assert str(file) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_no_file_is_one_sentence(tmp_path):
    for path in (tmp_path, tmp_path / "nothing.csv"):
        with pytest.raises(DataError, match="cannot be read as a table"):
            read_prevalence(path)
