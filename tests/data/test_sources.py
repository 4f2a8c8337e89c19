"""What a person names as data: which reader reads it, which views, labels and images it gives."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.chexpert import film, write_chexpert
from helpers.data_folders import write_csv, write_films
from helpers.refusals import refusal

from cxr_keras import register_dataset
from cxr_keras.data.dataset import Dataset
from cxr_keras.data.labels import LabelSet
from cxr_keras.data.options import FORMATS
from cxr_keras.data.preparation import prepare
from cxr_keras.data.readers import registry
from cxr_keras.data.readers.layout import LabelTable
from cxr_keras.data.reading import Reading
from cxr_keras.data.selection import choose_images
from cxr_keras.data.source import read_data

NAN = np.nan


@pytest.fixture
def nih(make_folder):
    return make_folder([(f"{n:02d}.png", "Mass" if n % 2 else "Edema", n) for n in range(12)])


def both_layouts(folder):
    """What makes a folder in NIH's layout one in CheXpert's, too."""
    return write_chexpert(folder, [{"Edema": "1.0"}])


def test_the_reader_is_the_one_that_recognises_the_folder(nih, tmp_path):
    assert registry.reader_of(nih).name == "nih"
    chexpert = write_chexpert(tmp_path / "chexpert", [{"Edema": "1.0"}])
    assert registry.reader_of(chexpert).name == "chexpert"
    assert read_data(chexpert).name == "chexpert"


def test_folders_that_no_reader_or_two_readers_know(nih, tmp_path):
    (tmp_path / "empty").mkdir()
    said = refusal(registry.reader_of, tmp_path / "empty")
    assert f"{tmp_path / 'empty'} is laid out like none of the known data sets (nih, che" in said
    assert "--table" in said
    both_layouts(nih)
    assert refusal(read_data, nih) == (
        f"{nih} is laid out like nih and chexpert. Say which with --format."
    )
    assert len(read_data(nih, Reading(format="chexpert")).table) == 1
    assert len(read_data(nih, Reading(format="nih")).table) == 12


def test_formats_and_folders_that_are_not_there(nih, tmp_path):
    assert refusal(read_data, nih, Reading(format="dicom")) == (
        f"There is no format 'dicom'. Choose one of: {', '.join(FORMATS)}."
    )
    assert refusal(read_data, tmp_path / "x") == (
        f"There is no data folder {tmp_path / 'x'}. Name one that exists."
    )


@pytest.fixture
def our_clinic(monkeypatch):
    """A reader that is registered for the duration of a test."""
    monkeypatch.setattr(registry, "REGISTERED", dict(registry.readers()))

    @register_dataset(lambda folder: (folder / "clinic.csv").is_file())
    def our_clinic(folder):
        """Our clinic's export: clinic.csv, films beside it."""
        rows = pd.read_csv(folder / "clinic.csv", dtype=str)
        images = pd.DataFrame(
            {"Image Index": rows["film"], "path": rows["film"] + ".png", "Patient ID": rows["who"]}
        )
        truth = rows[["Gout", "Mass"]].to_numpy("int8")
        return LabelTable(images, truth, LabelSet(("Gout", "Mass")))

    return our_clinic


def test_a_reader_from_outside(our_clinic, tmp_path):
    lines = [f"f{n},{n // 2},{n % 2},{-(n % 3 == 0)}" for n in range(20)]
    write_csv(tmp_path / "clinic.csv", "film,who,Gout,Mass", *lines)
    write_films(tmp_path, [f"f{n}.png" for n in range(19)], side=64)
    assert list(registry.readers()) == [*FORMATS, "our-clinic"]
    reader = registry.readers()["our-clinic"]
    assert reader.title == "Our clinic's export: clinic.csv, films beside it."
    done = prepare(tmp_path, reading=Reading(uncertain="ones"), size=64)
    assert (done.name, done.labels.names) == ("our-clinic", ("Gout", "Mass"))
    assert len(done.manifest) == 19
    numbers = done.manifest["Image Index"].str[1:].astype(int)
    expected = np.stack([numbers % 2, numbers % 3 == 0], axis=1)
    np.testing.assert_array_equal(done.split("all").truth, expected)
    assert len(read_data(tmp_path, Reading(format="our-clinic")).table) == 19
    assert callable(our_clinic)  # the decorator gives the function back


@pytest.fixture
def sides(tmp_path):
    """Nine films, every third of them lateral; of Edema the first is uncertain, and so on."""
    cells = ("-1.0", "1.0", "0.0")
    rows = [
        {"Edema": cells[n % 3], "view": "lateral" if n // 3 == 1 else "frontal"} for n in range(9)
    ]
    return write_chexpert(tmp_path / "chexpert", rows)


@pytest.mark.parametrize(
    ("views", "kept", "said"),
    [
        (None, [1, 2, 3, 7, 8, 9], "3 images are not frontal: left out (L 3); --views keeps."),
        ("all", range(1, 10), None),
        ("ALL", range(1, 10), None),
        (["AP", "l"], range(1, 10), None),
        ("L", [4, 5, 6], "6 images are of other views: left out (AP 6); --views keeps."),
    ],
)
def test_views(sides, views, kept, said):
    data = read_data(sides, Reading(views=views))
    lateral = {n: "lateral" if n in (4, 5, 6) else "frontal" for n in kept}
    assert data.table["Image Index"].tolist() == [film(n, lateral[n]) for n in kept]
    if said:
        assert said in data.notices
    else:
        assert "left out" not in " ".join(data.notices)


def test_views_that_leave_no_image(sides, tmp_path):
    assert refusal(read_data, sides, Reading(views="PA,LL")) == (
        "No image has one of the views LL, PA; there are AP (6), L (3). Give --views with some of "
        "them, or --views all."
    )
    path = write_csv(tmp_path / "plain.csv", "image,labels", "a,Mass", "b,Edema")
    assert "The data says no view of its images, so --views PA chooses none." in (
        refusal(read_data, None, Reading(table=path, views="PA"), allow_missing=True)
    )


@pytest.mark.parametrize(
    ("uncertain", "value", "meaning"),
    [("ignore", NAN, "unknown"), ("ones", 1, "present"), ("zeros", 0, "absent")],
)
def test_what_is_uncertain_counts_as_asked(sides, uncertain, value, meaning, capsys):
    reading = Reading(uncertain=uncertain, views="all", labels="Edema")
    done = prepare(sides, reading=reading, size=64)
    np.testing.assert_array_equal(done.split("all").truth[:, 0], [value, 1, 0] * 3)
    said = f"3 labels are uncertain and count as {meaning} (most: Edema 3); --uncertain decides."
    assert said in capsys.readouterr().err
    assert ("Unknown Labels" in done.manifest.columns) == (uncertain == "ignore")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"table": "a", "manifest": "b"}, "A manifest is a table of its own: give --manifest or"),
        ({"format": "nih", "table": "a"}, "--format nih names a known layout"),
        ({"format": "nih", "manifest": "a"}, "--format nih names a known layout"),
        ({"images": "a"}, "--images holds the images of a CSV. Give it with --table."),
        ({"images": "a", "manifest": "b"}, "--images holds the images of a CSV."),
        ({"path_column": "a"}, "--path-column says how a CSV is read. Give it with --table."),
        ({"patient_column": "a"}, "--patient-column says how a CSV is read."),
        ({"label_columns": "a,b"}, "--label-columns says how a CSV is read."),
        (
            {"uncertain": "maybe"},
            "What is uncertain counts as one of: ignore, ones, zeros. Received: 'maybe'.",
        ),
        ({"labels": " , "}, "labels needs names, with commas between. Received: ' , '."),
        ({"views": []}, "views needs names, with commas between. Received: []."),
    ],
)
def test_settings_that_exclude_each_other(settings, says):
    assert says in refusal(Reading, **settings)


def test_a_table_is_one_data_set(nih, tmp_path):
    path = write_csv(tmp_path / "t.csv", "image,labels", *(f"{n:02d},Mass" for n in range(12)))
    found = read_data(nih, Reading(table=path))  # the folder of its images
    assert (found.name, len(found.table)) == ("t", 12)
    assert found.table["path"].str.startswith(str(nih)).all()
    assert refusal(read_data, [nih, nih], Reading(table=path)) == (
        f"{path} is one data set. Leave out the other ones, or join the CSVs."
    )
    made = Dataset.from_table(
        pd.DataFrame({"image": ["a"], "patient": [1], "Mass": [1]}), str, labels=["Mass"]
    )
    assert f"{path} is one data set." in refusal(read_data, made, Reading(table=path))


def known_of(*cells):
    """Images with what is said of two labels: 1, 0 or None."""
    table = pd.DataFrame(cells, columns=["A", "B"], dtype=object)
    table = table.assign(image=[f"{n:02d}" for n in range(len(cells))])
    return Dataset.from_table(table, str, labels=["A", "B"], patient_column=None).table


def test_images_without_a_label_are_chosen_as_if_none_were_one():
    table = known_of(*[(1, 0)] * 5, *[(0, 1)] * 3, *[(0, 0)] * 9)
    chosen = choose_images(table, per_class=4, seed=1, labels=("A", "B"))
    counts = chosen["chosen_for"].value_counts().to_dict()
    assert counts == {"A": 4, "B": 3, "none": 4}
    assert (chosen.loc[chosen["chosen_for"] == "none", "Finding Labels"] == "").all()
    every = choose_images(table, per_class=None, seed=1, labels=("A", "B"))
    assert every["chosen_for"].value_counts().to_dict() == {"A": 5, "B": 3, "none": 9}


def test_images_of_which_nothing_is_known_are_chosen_last_of_all():
    table = known_of(*[(None, None)] * 30, *[(0, None)] * 3, (0, 0), (1, None))
    for seed in range(5):
        chosen = choose_images(table, per_class=4, seed=seed, labels=("A", "B"))
        assert chosen["Image Index"].tolist() == ["30", "31", "32", "33", "34"]
        six = choose_images(table, per_class=6, seed=seed, labels=("A", "B"))
        assert set(chosen["Image Index"]) < set(six["Image Index"])
        assert len(six) == 7
    assert len(choose_images(table, per_class=None, seed=1, labels=("A", "B"))) == 35


def test_all_labels_of_one_data_set_by_either_word(nih):
    whole = read_data(nih)
    for word in ("all", "shared"):
        again = read_data(nih, Reading(labels=word))
        pd.testing.assert_frame_equal(again.table, whole.table)
        assert replace(again, table=None) == replace(whole, table=None)
