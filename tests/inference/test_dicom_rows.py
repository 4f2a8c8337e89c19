"""DICOM films predicted: their rows, and what of the patient is in them."""

import csv
import json
import sys

import numpy as np
import pytest
from helpers.dicom_files import SECRET_ID, SECRET_NAME, film, written
from helpers.processes import cxr
from PIL import Image

from cxr_keras import predict
from cxr_keras.data.images import find_image_files, read_image


@pytest.fixture
def films(tmp_path):
    """Four films on a disc: good, with a warning, a CT, and the first one as a PNG."""
    pytest.importorskip("pydicom", reason="the extra dicom is not installed")
    folder = tmp_path / "disc"
    (folder / "study").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 280)).astype("uint8")
    pixels[0, :2] = 0, 255  # so that the lowest and the highest value are black and white
    written(film(pixels), folder / "study" / "IM1")
    written(film(pixels, BurnedInAnnotation="YES"), folder / "study" / "IM2")
    written(film(pixels, Modality="CT"), folder / "study" / "IM3")
    Image.fromarray(pixels).save(folder / "study" / "plain.png")
    return folder


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_of_films(run, films, tmp_path):
    rows = predict(run.folder, films, csv_file=tmp_path / "f.csv")
    assert [row.path.name for row in rows] == ["IM1", "IM2", "IM3", "plain.png"]
    assert rows[0].probabilities == pytest.approx(rows[3].probabilities, abs=1e-6)
    assert "its modality is CT" in rows[2].error
    cells = rows_of(tmp_path / "f.csv")
    about = ["patient_id", "sex", "age", "view", "pixel_spacing_mm"]
    assert list(cells[0])[-7:] == [*about, "warnings", "error"]
    assert [cells[0][name] for name in about] == [SECRET_ID, "F", "61", "PA", "0.143"]
    assert "burned-in" in cells[1]["warnings"]
    assert not any(cells[3][name] for name in about)


def test_the_identifiers_are_left_out(run, films, tmp_path):
    rows = predict(run.folder, films, csv_file=tmp_path / "f.csv", identifiers=False)
    assert not any(row.header for row in rows)
    text = (tmp_path / "f.csv").read_text()
    assert "patient_id" not in text
    assert SECRET_ID not in text


def test_without_the_extra_each_film_says_what_to_install(films, run, monkeypatch):
    from cxr_keras.data import dicom

    monkeypatch.setattr(dicom, "pydicom", dicom.pydicom.__wrapped__)  # not the one it remembers
    monkeypatch.setitem(sys.modules, "pydicom", None)
    rows = predict(run.folder, films)
    assert 'the extra dicom: pip install "cxr-keras[dicom]"' in rows[0].error
    assert not rows[3].error
    assert len(find_image_files(films)) == 4


@pytest.mark.slow
def test_the_command_names_no_patient_but_in_its_rows(run, films, tmp_path):
    (films / "study" / "IM4").write_bytes((films / "study" / "IM1").read_bytes()[:-70_000])
    result = cxr(
        "predict", run.folder, films, "--csv", tmp_path / "f.csv", "--heatmaps", tmp_path / "maps"
    )
    assert result.returncode == 1
    assert "2 of 5 files could not be read." in result.stderr
    assert "1 of 5 images: burned-in annotations" in result.stderr
    names = [path.name for path in (tmp_path / "maps").iterdir()]
    for part in (SECRET_ID, *SECRET_NAME.split("^")):
        assert part not in result.stderr + result.stdout + " ".join(names)
    assert SECRET_ID in (tmp_path / "f.csv").read_text()
    said = cxr("predict", run.folder, films / "study" / "IM1", "--json", "--no-identifiers")
    assert SECRET_ID not in said.stdout
    assert json.loads(said.stdout)[0]["probabilities"]


def test_a_film_is_the_square_that_its_png_is(films):
    for name in ("IM1", "IM2"):
        np.testing.assert_array_equal(
            read_image(films / "study" / name), read_image(films / "study" / "plain.png")
        )
