"""`predict` on images of every kind and name."""

import dataclasses
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers.model_files import replace_card
from PIL import Image

from cxr_keras import load_model, predict, train
from cxr_keras.data.images import read_image
from cxr_keras.data.labels import LABELS
from cxr_keras.errors import CxrError, ModelError
from cxr_keras.runs import model_file


def test_a_file_name_that_is_no_text_is_a_row(run, phantoms, tmp_path):
    image = os.fsencode(tmp_path) + b"/f\xff.png"
    shutil.copy(next((phantoms / "images").iterdir()), os.fsdecode(image))
    rows = predict(run.folder, [tmp_path], csv_file=tmp_path / "f.csv")
    assert not rows[0].error
    assert pd.read_csv(tmp_path / "f.csv")["path"][0].endswith("f\\udcff.png")


def test_heat_maps_of_two_images_of_one_name_are_two_files(run, phantoms, tmp_path):
    file = shutil.copy(run.folder / "model.keras", tmp_path)
    card = dataclasses.replace(model_file.read_card(file), thresholds=(1.0,) * 15)
    replace_card(tmp_path / "model.keras", card)  # none is predicted: one map each
    first, second = sorted((phantoms / "images").iterdir())[:2]
    for folder, image in (("a", first), ("b", second)):
        (tmp_path / folder).mkdir()
        shutil.copy(image, tmp_path / folder / "1.png")
    shutil.copy(first, tmp_path / "b" / "2.png")
    predict(file, [tmp_path], heatmaps=tmp_path / "maps")
    images = {path.name.rsplit(".", 2)[0] for path in (tmp_path / "maps").iterdir()}
    assert images == {"a__1.png", "b__1.png", "2"}


def test_predict_keeps_the_order_and_agrees_with_the_network(run, phantoms, tmp_path):
    images = sorted((phantoms / "images").iterdir())
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"junk")
    rows = predict(run.folder, [images[5], bad, phantoms / "images"])
    assert [row.path for row in rows] == [images[5], bad, *images]
    assert rows[1].error.startswith(f"{bad}: not a PNG, JPEG or DICOM")
    assert rows[1].probabilities == {}
    model = load_model(run.folder)
    for row, image in ((rows[0], images[5]), (rows[2], images[0]), (rows[-1], images[-1])):
        expected = model.predict_on_batch(read_image(image)[None, ..., None])[0]
        np.testing.assert_allclose(list(row.probabilities.values()), expected, atol=1e-6)
        limits = run.info["thresholds"]
        predicted = {label for label, p in row.probabilities.items() if p >= limits[label]}
        assert set(row.findings) == predicted
    from_file = predict(run.folder / "model.keras", [images[5]])
    assert from_file[0].probabilities == pytest.approx(rows[0].probabilities, abs=1e-6)


def test_heatmaps_are_written_for_what_is_predicted(run, phantoms, tmp_path):
    image = sorted((phantoms / "images").iterdir())[0]
    row = predict(run.folder, [image], heatmaps=tmp_path)[0]
    labels = row.findings or (max(row.probabilities, key=row.probabilities.get),)
    expected = {f"{image.stem}.{label.replace(' ', '_')}.png" for label in labels}
    assert {path.name for path in tmp_path.iterdir()} == expected


def test_paths_that_hold_nothing_are_refused(run, tmp_path):
    with pytest.raises(CxrError, match="There is no file or folder"):
        predict(run.folder, [tmp_path / "none"])
    with pytest.raises(CxrError, match="No PNG, JPEG or DICOM image in"):
        predict(run.folder, [tmp_path])
    with pytest.raises(ModelError, match="There is no model file"):
        predict(tmp_path, [tmp_path])


def test_no_finding_is_resolved_when_asked(copy, phantoms):
    file = copy / "model.keras"
    card = model_file.read_card(file)
    replace_card(file, dataclasses.replace(card, thresholds=(0.0,) * 15))
    image = next((phantoms / "images").iterdir())
    assert len(predict(copy, [image])[0].findings) == 15
    resolved = predict(copy, [image], resolve_no_finding=True)[0].findings
    assert set(resolved) == set(LABELS) - {"No Finding"}


def test_a_label_cannot_lead_out_of_the_folder_of_maps(copy, phantoms, tmp_path):
    card = model_file.read_card(copy / "model.keras")
    labels = tuple(f"/../../out {n}/mass" for n in range(15))
    replace_card(copy / "model.keras", dataclasses.replace(card, labels=labels, normal=None))
    image = sorted((phantoms / "images").iterdir())[0]
    predict(copy, [image], heatmaps=tmp_path / "in" / "maps")
    files = [path for path in (tmp_path / "in").rglob("*") if path.is_file()]
    assert files
    assert all(path.parent == tmp_path / "in" / "maps" for path in files)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("side", [66, 72, 73])
def test_heat_maps_of_images_hardly_larger_than_a_small_network(whole_run, tmp_path, side):
    Image.fromarray(np.arange(side * side, dtype="uint8").reshape(side, side)).save(
        tmp_path / "$x$_$.png"
    )
    predict(whole_run, [tmp_path], heatmaps=tmp_path / "maps", sheet=tmp_path / "sheet.png")
    assert len(list((tmp_path / "maps").iterdir())) >= 1


@pytest.fixture(scope="module")
def whole_run(phantoms, tmp_path_factory):
    """A network of 64 px that sees the whole image."""
    folder = tmp_path_factory.mktemp("whole")
    return train("resnet_custom", phantoms, epochs=1, size=64, fit="whole", folder=folder).folder
