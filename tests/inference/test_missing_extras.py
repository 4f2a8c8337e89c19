"""Without the extras the core works, and says what to install."""

import sys

import numpy as np
import pytest
from helpers.dicom_files import film, written
from helpers.refusals import refusal

from cxr_keras import predict
from cxr_keras.inference.opened import Opened
from cxr_keras.runs.onnx_file import export
from cxr_keras.serving.listener import Listener


@pytest.fixture
def dicom_film(tmp_path):
    return written(film(np.arange(6400, dtype="uint16").reshape(80, 80)), tmp_path / "film.dcm")


def test_highdicom(run, dicom_film, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    said = refusal(predict, run.folder, dicom_film, dicom_sr=tmp_path)
    assert 'pip install "cxr-keras[dicom]"' in said
    assert predict(run.folder, dicom_film)[0].probabilities


def test_pynetdicom(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynetdicom", None)
    said = refusal(Listener, Opened(run.folder), tmp_path)
    assert 'pip install "cxr-keras[dicom]"' in said


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_onnx(run, phantoms, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    target = tmp_path / "net.onnx"
    target.write_bytes(b"")
    call = (export, run.folder, target) if package == "onnx" else (predict, target, phantoms)
    assert 'pip install "cxr-keras[onnx]"' in refusal(*call)
