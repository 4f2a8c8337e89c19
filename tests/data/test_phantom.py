import numpy as np
import pandas as pd
import pytest
from PIL import Image

from cxr_keras.data.boxes import read_boxes
from cxr_keras.data.labels import FINDINGS
from cxr_keras.data.multi_hot import encode_cells
from cxr_keras.data.phantom import (
    Phantom,
    draw_phantom,
    is_phantom_folder,
    plan_phantoms,
    write_phantoms,
)
from cxr_keras.data.phantom.findings import SIGNS
from cxr_keras.data.readers.nih import read_dataset
from cxr_keras.errors import DataError


def phantom_with(findings, patient=5):
    return Phantom(patient, 0, 50, "F", "PA", False, tuple(findings))


def test_one_sign_for_each_of_the_14_findings():
    assert sorted(SIGNS) == sorted(FINDINGS)


def test_phantoms_read_as_an_nih_folder(phantoms):
    dataset = read_dataset(phantoms)
    assert len(dataset.table) == 40
    assert set(dataset.lists) == {"train_val", "test"}
    assert not [n for n in dataset.notices if "left out" in n or "ignored" in n]
    with Image.open(dataset.table["path"][0]) as image:
        assert (image.size, image.mode, image.format) == ((1024, 1024), "L", "PNG")
    truth = encode_cells(dataset.table["Finding Labels"])
    assert (truth.sum(axis=1) > 1).any()  # several findings on some images
    assert dataset.table["Patient ID"].duplicated().any()  # several images of some patients
    patients = {key: {n.split("_")[0] for n in names} for key, names in dataset.lists.items()}
    assert not patients["train_val"] & patients["test"]
    assert is_phantom_folder(phantoms)


def test_the_seed_decides_every_byte_and_the_count_only_how_many(tmp_path):
    a = write_phantoms(tmp_path / "a", count=3, seed=9)
    b = write_phantoms(tmp_path / "b", count=5, seed=9)
    other = write_phantoms(tmp_path / "c", count=3, seed=10)
    names = sorted(path.name for path in (a / "images").iterdir())
    for name in names:
        assert (a / "images" / name).read_bytes() == (b / "images" / name).read_bytes()
    first = sorted((other / "images").iterdir())[0]
    assert first.read_bytes() != (a / "images" / first.name).read_bytes()
    rows = (a / "Data_Entry_2017_v2020.csv").read_text().splitlines()
    assert rows == (b / "Data_Entry_2017_v2020.csv").read_text().splitlines()[: len(rows)]


def test_every_finding_has_its_boxes_and_no_finding_none(phantoms):
    boxes = read_boxes(phantoms)
    table = read_dataset(phantoms).table
    boxed = set(zip(boxes["Image Index"], boxes["label"], strict=True))
    named = {
        (row["Image Index"], label)
        for _, row in table.iterrows()
        for label in row["Finding Labels"].split("|")
        if label != "No Finding"
    }
    assert boxed == named
    assert (boxes[["x", "y"]] >= 0).all().all()
    assert (boxes["x"] + boxes["w"] <= 1024).all()
    assert (boxes["y"] + boxes["h"] <= 1024).all()


@pytest.mark.parametrize("finding", FINDINGS)
def test_a_sign_shows_inside_its_boxes_more_than_outside(finding):
    healthy, none = draw_phantom(phantom_with([]), seed=1)
    sick, boxes = draw_phantom(phantom_with([finding]), seed=1)
    assert none == []
    assert {name for name, _ in boxes} == {finding}
    # exposure and grain are drawn after the sign, so compare smooth phantoms
    smooth = [
        np.asarray(Image.fromarray(f).resize((64, 64), Image.Resampling.BOX), dtype=float)
        for f in (healthy, sick)
    ]
    difference = np.abs(smooth[1] - np.median(smooth[1] - smooth[0]) - smooth[0])
    inside = np.zeros((64, 64), bool)
    for _, (x, y, w, h) in boxes:
        inside[int(y / 16) : int((y + h) / 16) + 1, int(x / 16) : int((x + w) / 16) + 1] = True
    assert difference[inside].mean() > 1.5 * difference[~inside].mean()


def test_cardiomegaly_widens_and_emphysema_narrows_the_heart():
    widths = {}
    for name in ("Cardiomegaly", "Hernia", "Emphysema"):
        from cxr_keras.data.phantom.anatomy import patient_chest
        from cxr_keras.data.phantom.findings import add_findings

        chest = patient_chest(np.random.default_rng(1), np.random.default_rng(2))
        add_findings(chest, [name])
        widths[name] = (chest.heart_mask() > 0.5).any(axis=0).sum()
    assert widths["Emphysema"] < widths["Hernia"] < widths["Cardiomegaly"]


def test_a_plan_deals_findings_evenly():
    cells = [planned.labels for planned in plan_phantoms(300, seed=2)]
    counts = pd.Series(encode_cells(cells).sum(axis=0))
    assert counts.max() < 2 * counts.min()


def test_a_folder_with_content_and_a_count_of_zero_are_refused(tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(DataError, match="new or empty folder"):
        write_phantoms(tmp_path, count=1)
    with pytest.raises(DataError, match="1 or more"):
        write_phantoms(tmp_path / "new", count=0)
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]
