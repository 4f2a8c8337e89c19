"""Structured Reports and secondary captures: what they say, and of what."""

import shutil
import subprocess

import highdicom
import numpy as np
import pydicom
import pytest
from helpers.dicom_files import SECRET_ID, film, written
from helpers.refusals import refusal
from highdicom.sr import srread
from pydicom.uid import generate_uid

from cxr_keras import predict
from cxr_keras.inference.dicom_answers import RESEARCH, finding_code
from cxr_keras.inference.heat_maps import HeatMaps


@pytest.fixture
def study(tmp_path):
    """A folder with a good film, one whose header lacks its study, and a PNG."""
    from PIL import Image

    folder = tmp_path / "study"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 4096, (300, 280)).astype("uint16")
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    written(film(pixels, BitsStored=12, **uids), folder / "good.dcm")
    written(film(pixels, BitsStored=12), folder / "homeless.dcm")
    Image.fromarray((pixels >> 4).astype("uint8")).save(folder / "plain.png")
    return folder


def values_of(report):
    """Finding → its probability, of a report's measurement groups."""
    (groups,) = [
        item
        for item in report.ContentSequence
        if item.get("ContentSequence")
        and item.ConceptNameCodeSequence[0].CodeMeaning == "Imaging Measurements"
    ]
    found = {}
    for group in groups.ContentSequence:
        said = {item.ConceptNameCodeSequence[0].CodeMeaning: item for item in group.ContentSequence}
        label = said["Tracking Identifier"].TextValue.split(" (")[0]
        (number,) = said["Probability"].MeasuredValueSequence
        found[label] = float(number.NumericValue)
    return found


def test_a_report_says_each_probability_and_whose_it_is(run, study, tmp_path):
    rows = predict(run.folder, study, dicom_sr=tmp_path / "sr")
    assert [file.name for file in (tmp_path / "sr").iterdir()] == ["good.sr.dcm"]
    source = pydicom.dcmread(study / "good.dcm")
    report = srread(tmp_path / "sr" / "good.sr.dcm")
    assert values_of(report) == pytest.approx(rows[0].probabilities, abs=1e-6)
    assert (report.PatientID, report.StudyInstanceUID) == (SECRET_ID, source.StudyInstanceUID)
    assert report.SeriesInstanceUID != source.SeriesInstanceUID
    (series,) = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert RESEARCH in report.to_json()
    assert report.VerificationFlag == "UNVERIFIED"
    assert not rows[0].warnings
    assert "StudyInstanceUID" in rows[1].warnings[0]
    assert "no DICOM" in rows[2].warnings[0]


def test_a_capture_shows_the_map_and_refers_to_the_image(run, study, tmp_path, monkeypatch):
    monkeypatch.setattr(
        HeatMaps, "__call__", lambda self, _, labels: np.full((len(labels), 256, 256), 0.8)
    )
    row = predict(run.folder, study / "good.dcm", dicom_heatmaps=tmp_path / "sc")[0]
    files = sorted((tmp_path / "sc").iterdir())
    assert len(files) == max(1, len(row.findings))
    source, capture = (pydicom.dcmread(file) for file in (study / "good.dcm", files[0]))
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert capture.StudyInstanceUID == source.StudyInstanceUID
    assert RESEARCH in capture.DerivationDescription
    shown = capture.pixel_array
    assert shown.shape[1:] == (512, 3)
    assert (shown[:30] > 200).any()  # words on the black band above
    assert len(np.unique(shown[-400:], axis=0)) > 10
    assert np.ptp(shown[-200:].astype(int), axis=-1).max() > 30  # colours


def test_objects_are_not_made_on_a_cluster(run, study, tmp_path):
    assert "--dicom-sr" in refusal(predict, run.folder, study, dicom_sr=tmp_path, ray="")


@pytest.mark.slow
def test_independent_readers_open_what_is_made_of_a_real_film(run, tmp_path):
    """RG1 of pydicom-data; dsrdump of DCMTK, dciodvfy of dicom3tools."""
    pytest.importorskip("data_store", reason=".ci/run installs pydicom-data for this test")
    from pydicom.data import get_testdata_file

    image = get_testdata_file("RG1_UNCR.dcm", download=False)
    predict(
        run.folder, image, dicom_sr=tmp_path, dicom_heatmaps=tmp_path, method="integrated-gradients"
    )
    report = tmp_path / "RG1_UNCR.sr.dcm"
    others = [file for file in tmp_path.iterdir() if file != report]
    assert others
    if shutil.which("dciodvfy"):
        for file in (report, *others):
            said = subprocess.run(["dciodvfy", file], capture_output=True, text=True)
            assert "Error" not in said.stdout + said.stderr
    if not shutil.which("dsrdump"):
        pytest.skip("DCMTK is not installed here; .ci/run installs it")
    dump = subprocess.run(["dsrdump", "+Pl", report], capture_output=True, text=True, check=True)
    assert "Enhanced SR Document" in dump.stdout
    assert RESEARCH in dump.stdout
    assert dump.stdout.count('"Probability"') == 15


def test_codes_of_labels_are_no_two_alike_and_known_ones_are_snomed():
    labels = ("calcified pleural plaques", "calcified pleural thickening", "Mass", "???", "Hernia")
    codes = [finding_code(highdicom, label) for label in labels]
    assert len({code.value for code in codes}) == len(labels)
    assert all(0 < len(code.value) <= 16 for code in codes)
    assert codes[-1].value == "HERNIA"
    for label in ("Effusion", "Pleural Effusion", "pleural_effusion"):
        assert finding_code(highdicom, label).value == "60046008"
