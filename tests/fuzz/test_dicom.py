"""Any bytes are a DICOM radiograph or an `ImageError` that names no patient."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from helpers.dicom_files import (
    SECRET_ID,
    SECRET_NAME,
    as_bytes,
    encode_by_gdcm,
    film,
    lookup,
    written,
)
from helpers.fuzzing import apply_all, assert_sentence, confined, edits, fuzz
from hypothesis import given
from hypothesis import strategies as st

from cxr_keras.data.images import read_image
from cxr_keras.errors import ImageError

pydicom = pytest.importorskip("pydicom", reason="the extra dicom is not installed")

KINDS = (
    "plain",
    "window",
    "lookup",
    "signed",
    "JPEG2000Lossless",
    "JPEGLSLossless",
    "RLELossless",
    "gdcm",
)


@functools.cache
def file(kind: str) -> bytes:
    """A small film of one kind."""
    pixels = np.arange(64 * 48).reshape(64, 48).astype("uint16")
    made = film(pixels, BitsStored=12)
    if kind == "window":
        made.WindowCenter, made.WindowWidth = [1000, 2000], [500, 900]
    if kind == "lookup":
        made = film(pixels, VOILUTSequence=lookup(np.arange(256), 10, 8))
    if kind == "signed":
        made = film(pixels.astype("int16") - 900, RescaleSlope=2, RescaleIntercept=-7)
    if kind == "gdcm":
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, "small")
            source = written(made, Path(folder, "plain"))
            encode_by_gdcm(source, target, "JPEGLosslessProcess14_1")
            return target.read_bytes()
    if kind.endswith("Lossless"):
        made.compress(getattr(pydicom.uid, kind))
    return as_bytes(made)


@fuzz(given(st.sampled_from(KINDS), st.lists(edits, min_size=1, max_size=4)))
def test_a_damaged_film_is_an_image_or_a_sentence(kind, changes):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "film")
        path.write_bytes(apply_all(file(kind), changes))
        with confined() as escaped:
            try:
                read = read_image(path)
            except ImageError as error:
                assert_sentence(error, path)
                said = str(error).replace(str(path), "")
                assert not any(part in said for part in (*SECRET_NAME.split("^"), SECRET_ID))
            else:
                assert read.shape == (256, 256)
                assert read.dtype == np.uint8
        # pydicom's own are filtered out where nobody asks for all of them
        assert not [(w.filename, str(w.message)) for w in escaped if "pydicom" not in w.filename]
