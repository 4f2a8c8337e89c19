"""A DICOM file → the grey image that a viewer shows first, and what its header says of it.

pydicom (extra `dicom`) reads and decodes; its warnings and errors quote
values, which may name a patient, so none of them is passed on.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import warnings
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from cxr_keras.data.codestream import check_deflated, data_start, declared_size
from cxr_keras.data.content import Content, ImageFile, bytes_of, open_file
from cxr_keras.data.dicom_pixels import (
    DEFLATED,
    NATIVE,
    RLE,
    number,
    shown_values,
    stored_values,
    text,
)
from cxr_keras.errors import DataError, ImageError

SUFFIXES = (".dcm", ".dicom")  # usual ones; content decides
DIRECTORY = "DICOMDIR"
IDENTIFIERS = ("patient_id", "sex", "age", "view", "pixel_spacing_mm")
EXTRA = 'pip install "cxr-keras[dicom]"'
MAX_FILE_BYTES = 1 << 30
HEAD_BYTES = 140  # of a file, enough for `looks_like_dicom`

# Radiographs; "OT" and none are what converted and old files say
_MODALITIES = ("CR", "DX", "RG", "RF", "OT", "")
# What an error may name; another text may be anything, a patient's name included
_OTHERS = ("CT", "MR", "US", "MG", "XA", "NM", "PT", "IO", "PX", "SEG", "RTDOSE", "RTIMAGE", "SR")
FOR_PROCESSING = "pixels FOR PROCESSING: raw detector values, which no viewer shows as they are"
BURNED_IN = "burned-in annotations: text in the image may name the patient and mislead the network"


@dataclass(frozen=True)
class DicomImage:
    """One image of a DICOM file.

    Attributes:
        pixels: uint8 (rows, columns), 0 black … 255 white.
        header: those of `IDENTIFIERS` that the file gives, as text; age in years.
        warnings: sentences about it, without any of the header's values.
    """

    pixels: np.ndarray
    header: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file that begins with these `HEAD_BYTES` is DICOM, with its preamble or without."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 12 or head[:2] not in (b"\x02\x00", b"\x08\x00") or head[3] != 0:
        return False
    explicit = head[4:6].isalpha() and head[4:6].isupper()
    return explicit or int.from_bytes(head[4:8], "little") <= 64  # else the first value's length


def is_dicom(path: ImageFile | os.PathLike[str]) -> bool:
    """Whether the content of a file says that it is DICOM; False where it cannot be read."""
    try:
        if not isinstance(path, Content) and not stat.S_ISREG(os.stat(path).st_mode):
            return False  # a pipe would be waited for
        with open_file(path) as file:
            return looks_like_dicom(file.read(HEAD_BYTES))
    except OSError:
        return False


def read_dicom(path: ImageFile | os.PathLike[str]) -> DicomImage:
    """Read the one grey image of a DICOM file, whatever it is compressed with.

    The VOI LUT counts before a window, the first before others. Where there is neither, black and
    white are the lowest and the highest value; padding is black.

    Raises:
        ImageError: the extra `dicom` is not installed; or the file holds no single grey
            projection, is damaged, or pretends to sizes that it does not have. The message names
            the file and nothing of its header but what kind of image it is.
    """
    dataset = read_dataset(path)
    reason = _unfit(dataset)
    if reason:
        raise ImageError(f"{path}: {reason}.")
    try:
        pixels = shown_values(dataset, stored_values(dataset, path))
        return DicomImage(pixels, _header(dataset), _warnings(dataset))
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from None
    except Exception as error:  # whatever a broken file leads decoders to
        syntax = _syntax_name(dataset)
        raise ImageError(
            f"{path}: its pixels cannot be decoded ({syntax}, {type(error).__name__})."
        ) from None


def files_of_directory(path: Path) -> list[Path]:
    """The image files that a DICOMDIR names, in its order.

    Raises:
        DataError: it cannot be read, or names files outside its folder.
    """
    try:
        dataset = read_dataset(path)
        records = dataset.get("DirectoryRecordSequence") or []
        named = [record.get("ReferencedFileID") for record in records]
        files = [
            path.parent.joinpath(*([name] if isinstance(name, str) else map(str, name)))
            for name in named
            if name
        ]
        outside = [one for one in files if not one.resolve().is_relative_to(path.parent.resolve())]
        found = [one for one in files if is_dicom(one) or not one.exists()]
    except ImageError as error:
        raise DataError(str(error)) from None
    except Exception as error:
        raise DataError(f"{path} cannot be read as a DICOMDIR ({type(error).__name__}).") from None
    if outside:
        raise DataError(f"{path} names files outside its folder, which are not opened.")
    return found


@lru_cache(maxsize=1)
def pydicom() -> Any:
    """pydicom, which says nothing of its own.

    Raises:
        ImageError: it is not installed.
    """
    try:
        import pydicom as library
        import pydicom.encaps
        import pydicom.pixels
    except ImportError as error:
        raise ImageError(f"it is DICOM, which needs the extra dicom: {EXTRA}") from error
    library.config.settings.reading_validation_mode = library.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    return library


def read_dataset(path: ImageFile | os.PathLike[str]) -> Any:
    """Pydicom's data set of a file, its elements not looked at yet.

    Raises:
        ImageError: see `read_dicom`.
    """
    try:
        reader = pydicom()
        warnings.filterwarnings("ignore", module=r"pydicom\.")  # each time: others reset filters
        if not isinstance(path, Content) and os.path.getsize(path) > MAX_FILE_BYTES:
            raise ImageError(f"it is larger than {MAX_FILE_BYTES >> 30} GB")
        content = bytes_of(path)
        if not looks_like_dicom(content[:HEAD_BYTES]):
            raise ImageError("it is no DICOM file")
        if DEFLATED.encode() in content[: data_start(content)]:
            check_deflated(content)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}.") from None
    except ImageError as error:
        raise ImageError(f"{path}: {error}.") from error.__cause__
    try:
        dataset = reader.dcmread(BytesIO(content), force=True)
        if not dataset.file_meta.get("TransferSyntaxUID"):
            implicit, little = dataset.original_encoding
            dataset.file_meta.TransferSyntaxUID = NATIVE[
                0 if implicit else 1 if little or little is None else 2
            ]
        return dataset
    except Exception as error:
        raise ImageError(f"{path}: it cannot be read as DICOM ({type(error).__name__}).") from None


def _unfit(dataset: Any) -> str:
    """Why the data set holds no single grey projection; "" if it does."""
    modality = text(dataset, "Modality").upper()
    if "PixelData" not in dataset:
        return "this DICOM file holds no image"
    if modality not in _MODALITIES:
        kind = modality if modality in _OTHERS else "another"
        return f"its modality is {kind}, and a radiograph's is CR or DX"
    if number(dataset, "NumberOfFrames", 1) != 1:
        return "it holds several frames; save one of them as a file"
    grey = text(dataset, "PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
    if number(dataset, "SamplesPerPixel", 1) != 1 or not grey:
        return "it is a colour image, and a radiograph is grey"
    rows, columns = (int(number(dataset, name, 0)) for name in ("Rows", "Columns"))
    return _unfit_size(dataset, rows, columns)


def _unfit_size(dataset: Any, rows: int, columns: int) -> str:
    from cxr_keras.data.images import MAX_PIXELS

    if rows < 1 or columns < 1:
        return "it has no pixels"
    if rows * columns > MAX_PIXELS:
        return f"{columns}×{rows} is more than {MAX_PIXELS // 10**6} megapixels"
    if number(dataset, "BitsAllocated", 0) not in (8, 16, 32):
        return "its pixels are of neither 8, 16 nor 32 bits"
    if dataset.file_meta.TransferSyntaxUID in (*NATIVE, DEFLATED):
        return ""
    try:
        frame = next(pydicom().encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    except Exception as error:
        return f"its compressed image is damaged ({type(error).__name__})"
    if dataset.file_meta.TransferSyntaxUID == RLE:
        if len(frame) > 2 * rows * columns * number(dataset, "BitsAllocated", 8) // 8 + 64:
            return "its compressed image is of another size than its header says"
    elif declared_size(frame) != (rows, columns):
        return "its compressed image is of another size than its header says"
    # what was looked at is what is decoded
    for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        if name in dataset:
            del dataset[name]
    dataset.PixelData = pydicom().encaps.encapsulate([frame], has_bot=False)
    dataset["PixelData"].VR = "OB"
    return ""


def _header(dataset: Any) -> dict[str, str]:
    spacing = number(dataset, "ImagerPixelSpacing", None) or number(dataset, "PixelSpacing", None)
    found = {
        "patient_id": text(dataset, "PatientID"),
        "sex": text(dataset, "PatientSex"),
        "age": _years(text(dataset, "PatientAge")),
        "view": text(dataset, "ViewPosition"),
        "pixel_spacing_mm": f"{spacing:g}" if spacing else "",
    }
    return {name: value for name, value in found.items() if value}


def _years(age: str) -> str:
    """Years of an age such as "045Y", "018M", "006W", "010D"; "" for another text."""
    parts = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
    if not re.fullmatch("[0-9]{1,4}[YMWD]", age):
        return ""
    return f"{int(age[:-1]) * parts[age[-1]]:.3g}"


def _warnings(dataset: Any) -> tuple[str, ...]:
    found = []
    if text(dataset, "PresentationIntentType").upper() == "FOR PROCESSING":
        found.append(FOR_PROCESSING)
    if text(dataset, "BurnedInAnnotation").upper() == "YES":
        found.append(BURNED_IN)
    return tuple(found)


def _syntax_name(dataset: Any) -> str:
    syntax = dataset.file_meta.TransferSyntaxUID
    return (
        syntax.name if getattr(syntax, "is_transfer_syntax", False) else "unknown transfer syntax"
    )
