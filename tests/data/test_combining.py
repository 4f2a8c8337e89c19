"""Which labels of a data set are taken, and several data sets as one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.chestmnist import write_chestmnist
from helpers.chexpert import film, write_chexpert
from helpers.data_folders import write_csv, write_films
from helpers.refusals import refusal

from cxr_keras.data.combining import choose_labels, combine
from cxr_keras.data.dataset import Dataset, truth_of
from cxr_keras.data.labels import NIH, LabelSet
from cxr_keras.data.phantom import MARKER
from cxr_keras.data.preparation import prepare
from cxr_keras.data.reading import Reading
from cxr_keras.data.source import read_data
from cxr_keras.data.splits import shared_patients

NAN = np.nan


def data_of(name, labels, rows, patients=None, **lists):
    """A data set of images a, b, c …, each with what is known of its labels."""
    names = list("abcdefgh"[: len(rows)])
    table = pd.DataFrame({"image": names, "patient": patients or names})
    known = labels if isinstance(labels, LabelSet) else LabelSet(tuple(labels))
    for place, label in enumerate(known.names):
        table[label] = [row[place] for row in rows]
    for split, images in lists.items():
        table.loc[table["image"].isin(list(images)), "split"] = split
    return Dataset.from_table(table, lambda image: None, labels=known, name=name)


def truth(dataset, *labels):
    """Image → what is known of these labels, all of the data set's without any."""
    found = truth_of(dataset.table, labels or dataset.labels.names)
    return dict(zip(dataset.table["Image Index"], found.tolist(), strict=True))


def same(found, expected):
    assert found.keys() == expected.keys()
    for image, row in expected.items():
        np.testing.assert_array_equal(found[image], row, err_msg=image)


NIHS = LabelSet(("Edema", "Effusion", "Infiltration", "No Finding"), "No Finding", NIH.aliases)
OURS = data_of("nih", NIHS, [[1, 0, 0, 0], [0, NAN, 1, 0], [0, 0, 0, 1]])


def test_labels_are_chosen_in_the_order_asked_for():
    chosen = choose_labels(OURS, ("No Finding", "Edema"))
    assert chosen.labels.names == ("No Finding", "Edema")
    assert chosen.labels.normal == "No Finding"
    same(truth(chosen), {"a": [0, 1], "b": [0, 0], "c": [1, 0]})
    assert "Unknown Labels" not in chosen.table.columns


def test_labels_may_be_called_as_other_data_sets_call_them():
    chosen = choose_labels(OURS, ("pleural effusion", "Infiltrate", "EDEMA"))
    assert chosen.labels.names == ("Effusion", "Infiltration", "Edema")
    assert chosen.labels.normal is None
    assert chosen.labels.canonical("infiltrate") == "Infiltration"
    same(truth(chosen), {"a": [0, 0, 1], "b": [NAN, 1, 0], "c": [0, 0, 0]})


@pytest.mark.parametrize("wanted", [None, ("shared",), ("all",)])
def test_one_data_set_is_taken_whole(wanted):
    assert choose_labels(OURS, wanted) is OURS


def test_labels_that_are_not_there():
    assert refusal(choose_labels, OURS, ("Edema", "Gout", "Mass")) == (
        "nih has no label 'Gout', 'Mass'. It has: Edema, Effusion, Infiltration, No Finding."
    )
    assert "each once whatever its case" in refusal(choose_labels, OURS, ("Edema", "edema"))


THEIRS = data_of(
    "other",
    LabelSet(("Pleural Effusion", "Fracture", "Normal", "edema"), "Normal"),
    [[1, 0, 0, NAN], [0, 1, 0, 1]],
)


@pytest.mark.parametrize("wanted", [None, ("shared",)])
def test_shared_labels_have_the_first_ones_names_and_order(wanted):
    whole = combine([OURS, THEIRS], wanted)
    assert whole.labels.names == ("Edema", "Effusion", "No Finding")
    assert whole.labels.normal == "No Finding"
    same(
        truth(whole),
        {
            "nih/a": [1, 0, 0],
            "nih/b": [0, NAN, 0],
            "nih/c": [0, 0, 1],
            "other/a": [NAN, 1, 0],
            "other/b": [1, 0, 0],
        },
    )
    assert whole.name == "nih+other"
    turned = combine([THEIRS, OURS], wanted)
    assert turned.labels.names == ("Pleural Effusion", "Normal", "edema")
    assert turned.labels.normal == "Normal"


def test_all_labels_are_unknown_where_a_data_set_has_them_not():
    whole = combine([OURS, THEIRS], ("all",))
    assert whole.labels.names == ("Edema", "Effusion", "Infiltration", "No Finding", "Fracture")
    same(
        truth(whole),
        {
            "nih/a": [1, 0, 0, 0, NAN],
            "nih/b": [0, NAN, 1, 0, NAN],
            "nih/c": [0, 0, 0, 1, NAN],
            "other/a": [NAN, 1, NAN, 0, 0],
            "other/b": [1, 0, NAN, 0, 1],
        },
    )


def test_named_labels_may_be_anybodys():
    whole = combine([OURS, THEIRS], ("fracture", "Pleural Effusion"))
    assert whole.labels.names == ("Fracture", "Effusion")
    assert whole.labels.normal is None
    assert truth(whole)["other/b"] == [1, 0]
    assert np.isnan(truth(whole)["nih/a"][0])
    assert refusal(combine, [OURS, THEIRS], ("Fracture", "Gout")) == (
        "None of the data sets has the label 'Gout'. They have: Edema, Effusion, Infiltration, "
        "No Finding, Fracture."
    )


def test_a_label_of_three_data_sets_is_one_that_all_know():
    third = data_of("third", ["Effusion", "Edema", "Fracture"], [[1, 1, 1]])
    assert combine([OURS, THEIRS, third], None).labels.names == ("Edema", "Effusion")
    assert combine([THEIRS, third], None).labels.names == ("Pleural Effusion", "Fracture", "edema")


def test_no_shared_label():
    gout = data_of("hands", ["Gout"], [[1]])
    assert refusal(combine, [OURS, gout], None) == (
        "The data sets share no label (nih: Edema, Effusion, Infiltration, No Finding; "
        "hands: Gout). Give --labels all."
    )
    assert len(combine([OURS, gout], ("all",)).labels) == 5


def test_lists_are_joined_only_where_every_data_set_has_them():
    one = data_of("one", ["Mass"], [[1]] * 4, train="ab", val="c", test="d")
    two = data_of("two", ["Mass"], [[1]] * 3, train="a", val="b", test="c")
    joined = combine([one, two], None).lists
    assert joined == {
        "train": {"one/a", "one/b", "two/a"},
        "val": {"one/c", "two/b"},
        "test": {"one/d", "two/c"},
    }
    for other in ({"train": "ab", "test": "c"}, {}):
        assert combine([one, data_of("two", ["Mass"], [[1]] * 3, **other)], None).lists == {}


def test_patients_of_two_data_sets_are_never_one():
    one = data_of("one", ["Mass"], [[1]] * 2, patients=["7", "8"])
    two = data_of("two", ["Mass"], [[1]] * 2, patients=["7", "7"])
    table = combine([one, two], None).table.set_index("Image Index")["Patient ID"]
    assert table.nunique() == 3
    assert table["two/a"] == table["two/b"] != table["one/a"]


def test_pixels_from_functions_are_each_data_sets_own(tmp_path):
    def shade(number):
        return lambda name: np.full((80, 80), number + ord(name), "uint8")

    table = pd.DataFrame({"image": list("abcdefghij"), "patient": range(10), "Mass": [1, 0] * 5})
    made = [Dataset.from_table(table, shade(n), labels=["Mass"]) for n in (0, 100)]
    done = prepare(made, size=64)
    assert len(done.manifest) == 20
    for _, row in done.manifest.iterrows():
        folder, name = row["Image Index"].split("/")
        expected = ord(name) + {"table1": 0, "table2": 100}[folder]
        assert (done.store.pixels[row["row"]] == expected).all()
    filed = Dataset.from_table(
        table.assign(image=table["image"] + ".png"),
        write_films(tmp_path / "films", [f"{name}.png" for name in "abcdefghij"]),
        labels=["Mass"],
    )
    for pair in ([made[0], filed], [filed, made[0]]):
        assert f"The images of {tmp_path / 'films'} are files and those of another data set" in (
            refusal(combine, pair, None)
        )


@pytest.fixture
def nih_folder(make_folder, tmp_path):
    """Writes a folder in NIH's layout of that name."""
    return lambda name, rows: make_folder(rows).rename(tmp_path / name)


def test_a_patient_of_two_folders_of_one_format_is_in_one_split(nih_folder):
    cells = ("Mass", "Edema", "Mass|Edema")
    rows = [(f"{n:02d}.png", cells[n % 3], n % 12) for n in range(24)]
    first = nih_folder("first", rows)
    second = nih_folder("second", [(f"x{name}", *rest) for name, *rest in rows[:18]])
    done = prepare([first, second], reading=Reading(labels=["Edema", "Mass"]), size=64)
    assert len(done.manifest) == 42
    assert set(done.manifest["Image Index"].str.split("/").str[0]) == {"nih1", "nih2"}
    assert done.manifest["Patient ID"].nunique() == 12
    assert not any(shared_patients(done.manifest).values())
    paths = done.manifest["path"].str.startswith(str(second))
    assert paths.equals(done.manifest["Image Index"].str.startswith("nih2/"))


def test_folders_of_two_formats_are_read_as_one(nih_folder, tmp_path):
    nih = nih_folder("nih-like", [(f"{n}.png", "Effusion|Mass", n) for n in range(1, 7)])
    there = [{"Pleural Effusion": "1.0"}, {"Pleural Effusion": "0.0"}, {"Edema": "1.0"}]
    chexpert = write_chexpert(tmp_path / "chexpert", there)
    whole = read_data([nih, chexpert], Reading(labels="Effusion,Mass,Fracture"))
    assert whole.labels.names == ("Effusion", "Mass", "Fracture")
    found = truth(whole)
    assert len(found) == 9
    same(
        {name: row for name, row in found.items() if name.startswith("chexpert")},
        {
            f"chexpert/{film(1)}": [1, NAN, NAN],
            f"chexpert/{film(2)}": [0, NAN, NAN],
            f"chexpert/{film(3)}": [NAN, NAN, NAN],
        },
    )
    np.testing.assert_array_equal(found["nih/1.png"], [1, 1, NAN])
    assert whole.roots == (nih, chexpert)


def test_drawings_among_films_make_the_whole_drawings(nih_folder):
    rows = [(f"{n:02d}.png", "Mass", n) for n in range(12)]
    films, drawn = nih_folder("films", rows), nih_folder("drawn", rows)
    (drawn / MARKER).touch()
    for pair in ([films, drawn], [drawn, films]):
        assert prepare(pair, allow_missing=True).phantoms
    assert not prepare(films, allow_missing=True).phantoms


@pytest.fixture
def nihs_films(tmp_path: Path) -> dict[str, Path]:
    """Two data sets that are made of NIH's films."""
    write_csv(
        tmp_path / "rsna" / "stage_2_train_labels.csv",
        "patientId,x,y,width,height,Target",
        "a,1,1,5,5,1",
        "b,,,,,0",
    )
    write_films(tmp_path / "rsna" / "stage_2_train_images", ["a.png", "b.png"])
    write_chestmnist(tmp_path / "mnist" / "chestmnist.npz")
    return {"rsna": tmp_path / "rsna", "chestmnist": tmp_path / "mnist"}


@pytest.mark.parametrize("name", ["rsna", "chestmnist"])
def test_data_sets_of_the_same_films_are_not_joined(name, nihs_films, make_folder):
    nih = make_folder([("1.png", "Pneumonia", 1)])
    for pair in ([nih, nihs_films[name]], [nihs_films[name], nih]):
        assert refusal(read_data, pair) == (
            f"The patients of {nihs_films[name]} ({name}) are patients of {nih} (nih) under other "
            "names, so they cannot be kept apart. Train on one of the two."
        )
    assert "cannot be kept apart" in refusal(read_data, list(nihs_films.values()))
