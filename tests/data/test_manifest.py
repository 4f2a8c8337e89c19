"""A split of one's own: the manifest.csv that `prepare` writes, taken back, as it is or changed."""

import shutil

import numpy as np
import pandas as pd
import pytest
from helpers.chexpert import write_chexpert
from helpers.data_folders import write_csv, write_films
from helpers.refusals import refusal

from cxr_keras.data.preparation import prepare
from cxr_keras.data.reading import Reading

CELLS = ("Mass", "Edema", "Mass|Hernia", "No Finding", "Edema|Mass")


@pytest.fixture
def nih(make_folder):
    """Thirty images of fifteen patients."""
    return make_folder([(f"{n:02d}.png", CELLS[n % 5], n // 2) for n in range(30)])


@pytest.fixture
def first(nih, tmp_path):
    """Them, prepared, with the manifest in a folder of its own."""
    return prepare(nih, size=64, out=tmp_path / "first")


@pytest.fixture
def edited(first, tmp_path):
    """Writes the manifest after a change, and prepares by it."""

    def edit(change, data=None):
        table = pd.read_csv(first.folder / "manifest.csv", dtype=str, keep_default_na=False)
        file = tmp_path / "plan" / "mine.csv"
        file.parent.mkdir(exist_ok=True)
        change(table).to_csv(file, index=False)
        return prepare(data, reading=Reading(manifest=file), size=64, out=tmp_path / "second")

    return edit


def splits_of(prepared):
    return prepared.manifest.set_index("Image Index")["split"].to_dict()


def test_a_manifest_taken_back_is_the_same_split(first):
    again = prepare(reading=Reading(manifest=first.folder / "manifest.csv"), size=64)
    assert again.split_method == "manifest"
    assert again.fingerprint == first.fingerprint
    for column in ("Image Index", "Patient ID", "Finding Labels", "split", "digest", "path"):
        assert again.manifest[column].tolist() == first.manifest[column].tolist(), column
    for split in ("train", "val", "test"):
        old, new = first.split(split), again.split(split)
        places = [old.labels.index(name) for name in new.labels]
        np.testing.assert_array_equal(new.truth, old.truth[:, places])
        np.testing.assert_array_equal(new.batch(slice(None)), old.batch(slice(None)))


def test_unknown_labels_come_back_as_unknown(tmp_path):
    cells = [{"Edema": "1.0"}, {"Edema": "0.0", "Pneumonia": "1.0"}, {"Pneumonia": "-1.0"}]
    folder = write_chexpert(tmp_path / "chexpert", cells * 5)
    reading = Reading(labels="Edema,Pneumonia")
    first = prepare(folder, reading=reading, size=64, out=tmp_path / "first")
    again = prepare(reading=Reading(manifest=first.folder / "manifest.csv"), size=64)
    assert again.labels.names == ("Edema", "Pneumonia")
    assert np.isnan(first.split("all").truth).any(axis=0).all()
    np.testing.assert_array_equal(again.split("all").truth, first.split("all").truth)
    assert splits_of(again) == splits_of(first)


def test_a_manifest_takes_every_image_whatever_the_limit(first):
    reading = Reading(manifest=first.folder / "manifest.csv")
    assert len(prepare(reading=reading, per_class=1, size=64).manifest) == 30


def test_a_patient_moved_by_hand_is_moved(first, edited):
    patient = first.split("train").rows["Patient ID"].iloc[0]
    moved = edited(
        lambda table: table.assign(
            split=table["split"].mask(table["Patient ID"] == patient, "test")
        )
    )
    before, after = splits_of(first), splits_of(moved)
    changed = {name for name in before if before[name] != after[name]}
    rows = first.manifest
    assert changed == set(rows.loc[rows["Patient ID"] == patient, "Image Index"])
    assert {after[name] for name in changed} == {"test"}


def test_a_manifest_may_do_without_a_test_split(edited):
    done = edited(lambda table: table[table["split"] != "test"])
    assert set(done.manifest["split"]) == {"train", "val"}


def test_images_in_no_split_are_left_out(first, edited, capsys):
    gone = set(first.split("test").rows["Image Index"])
    done = edited(lambda table: table.assign(split=table["split"].replace("test", "")))
    assert set(done.manifest["Image Index"]) == set(first.manifest["Image Index"]) - gone
    said = f"{len(gone)} images of the manifest are in no split: left out."
    assert said in capsys.readouterr().err


def test_labels_and_patients_of_a_manifest_are_those_written_there(edited):
    done = edited(lambda table: table.assign(**{"Finding Labels": "Mass|Scoliosis"}))
    assert done.labels.names == ("Mass", "Scoliosis")
    assert set(done.manifest["Finding Labels"]) == {"Mass|Scoliosis"}


def test_images_that_moved_are_found_below_the_folder_named(nih, first, edited, tmp_path):
    moved = tmp_path / "moved"
    shutil.move(nih, moved)
    done = edited(lambda table: table, moved)
    assert done.fingerprint == first.fingerprint
    assert done.manifest["path"].str.startswith(str(moved)).all()


def test_images_that_are_gone(nih, edited, capsys):
    (nih / "images" / "07.png").unlink()
    assert len(edited(lambda table: table).manifest) == 29
    assert "1 of 30 images are not on disk: left out." in capsys.readouterr().err
    shutil.rmtree(nih / "images")
    assert refusal(edited, lambda table: table).startswith("None of the 30 images that the table")


def with_split(where, split):
    return lambda table: table.assign(split=table["split"].mask(where(table), split))


def first_train_image(table):
    return table["Image Index"] == table.loc[table["split"] == "train", "Image Index"].iloc[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            with_split(first_train_image, "val"),
            r"The manifest has patients in two splits (1 in train/val), such as ",
        ),
        (
            with_split(lambda table: table["split"] == "val", "train"),
            "The manifest puts no image into val. Its column split says one of train, val, test",
        ),
        (
            with_split(lambda table: table["split"] == "val", "fold 2"),
            "The manifest puts no image into train and val. Its column split says one of train,",
        ),
        (lambda table: table.drop(columns="split"), "puts no image into train and val."),
    ],
)
def test_manifests_that_are_refused(edited, change, says):
    said = refusal(edited, change)
    assert says in said
    assert "\n" not in said


def test_the_patient_in_two_splits_is_named(first, edited):
    image = first.split("train").rows["Image Index"].iloc[0]
    patient = first.split("train").rows["Patient ID"].iloc[0]
    said = refusal(edited, with_split(lambda table: table["Image Index"] == image, "val"))
    assert f"such as {patient}, so the result would flatter." in said


def test_a_word_that_is_no_split_is_said(edited, capsys):
    refusal(edited, with_split(lambda table: table["split"] == "val", "fold 2"))
    assert "it holds 'fold 2' in row" in capsys.readouterr().err


def test_copies_of_an_image_are_in_one_split(nih, first, edited):
    images = nih / "images"
    ours, theirs = (first.split(split).rows["Image Index"].iloc[0] for split in ("train", "test"))
    shutil.copy(images / ours, images / theirs)
    assert refusal(edited, lambda table: table) == (
        "The manifest has 1 images in two splits under different names. Put copies of an image "
        "into one split."
    )


@pytest.mark.slow
def test_a_network_finds_its_own_test_split_by_its_manifest_again(
    phantoms, tiny_model, tmp_path, capsys
):
    from cxr_keras import evaluate, train

    table = prepare(phantoms, out=tmp_path / "plan", allow_missing=True).manifest
    turned = {"train": "train", "val": "test", "test": "val"}
    file = tmp_path / "mine.csv"
    table.assign(split=table["split"].map(turned)).to_csv(file, index=False)
    run = train(tiny_model, manifest=file, epochs=1, folder=tmp_path / "runs")
    tested = set(table.loc[table["split"] == "val", "Image Index"])
    assert set(run.evaluation.predictions["Image Index"]) == tested
    assert run.info["data"]["split"] == "manifest"
    capsys.readouterr()
    for again in (evaluate(run.folder, resamples=0), evaluate(run.folder, manifest=file)):
        assert again.folder == run.folder
        pd.testing.assert_frame_equal(again.predictions, run.evaluation.predictions)
    assert "changed since" not in capsys.readouterr().err


def test_a_manifest_of_a_folder_named_from_here_is_read_from_anywhere(nih, tmp_path, monkeypatch):
    monkeypatch.chdir(nih.parent)
    first = prepare(nih.name, size=64, out=tmp_path / "first")
    monkeypatch.chdir(tmp_path)
    again = prepare(reading=Reading(manifest="first/manifest.csv"), size=64)
    assert splits_of(again) == splits_of(first)


def test_images_without_any_label_and_of_every_view_come_back(tmp_path):
    """They are known to have none, as many of RSNA's and VinDr's are."""
    rows = [
        f"{n:02d}.png,{n},{'PA' if n % 2 else 'L'},{n % 3 % 2},0,{n % 6 // 5}" for n in range(30)
    ]
    write_csv(tmp_path / "t.csv", 'image,patient,view,"Fracture, rib",Normal,Mass', *rows)
    write_films(tmp_path, [f"{n:02d}.png" for n in range(30)])
    first = prepare(
        reading=Reading(table=tmp_path / "t.csv", views=["all"]), size=64, out=tmp_path / "first"
    )
    again = prepare(reading=Reading(manifest=first.folder / "manifest.csv"), size=64)
    assert len(first.manifest) == 30
    assert splits_of(again) == splits_of(first)
    for name in ("Finding Labels", "View Position", "digest"):
        assert again.manifest[name].tolist() == first.manifest[name].tolist(), name
    assert again.labels.names == ("Fracture, rib", "Mass")  # nobody is Normal


def test_phantoms_are_phantoms_by_their_manifest_too(phantoms, tmp_path):
    prepare(phantoms, size=64, out=tmp_path / "plan")
    manifest = tmp_path / "plan" / "manifest.csv"
    assert prepare(reading=Reading(manifest=manifest), size=64).phantoms
