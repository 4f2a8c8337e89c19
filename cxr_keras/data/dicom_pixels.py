"""The stored values of a DICOM image → what a viewer shows first of them.

In the standard's order (PS3.3 C.11, C.7.6.3): modality LUT or rescale, VOI LUT or window,
inversion, 8 bits.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from cxr_keras.data import gdcm_process
from cxr_keras.data.content import ImageFile, bytes_of
from cxr_keras.data.png_depth import smallest_depth
from cxr_keras.errors import ImageError

NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
_LONGEST = 64  # characters, as the standard's LO
_DECODERS = {
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG baseline
    "1.2.840.10008.1.2.4.51": "pillow",  # JPEG extended, of 8 bits
    "1.2.840.10008.1.2.4.57": "gdcm",  # JPEG lossless
    "1.2.840.10008.1.2.4.70": "gdcm",
    "1.2.840.10008.1.2.4.80": "pyjpegls",
    "1.2.840.10008.1.2.4.81": "pyjpegls",
    **dict.fromkeys(
        (f"1.2.840.10008.1.2.4.{kind}" for kind in (90, 91, 201, 202, 203)), "pylibjpeg"
    ),  # JPEG 2000 and its high-throughput form
}


def stored_values(dataset: Any, source: ImageFile | os.PathLike[str]) -> np.ndarray:
    """The stored values, (rows, columns), without what may lie in bits that are not theirs.

    Each transfer syntax has one decoder that takes damaged files well; pydicom's way, the next one
    where one fails, ends in GDCM.

    Args:
        dataset: pydicom's.
        source: its file, or the content of it.

    Raises:
        ImageError: it is in a transfer syntax that is not read, damaged, or of another size.
    """
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    bits, below = int(dataset.BitsStored), 0
    dataset.PixelRepresentation = int(number(dataset, "PixelRepresentation", 0))  # some lack it
    if syntax in (*NATIVE, DEFLATED, RLE):
        below = max(0, int(number(dataset, "HighBit", bits - 1)) + 1 - bits)
        dataset.BitsStored = bits + below  # pydicom takes the lowest bits for the image's
        if syntax == RLE:  # the decoder in Rust panics at damaged files, which is no Exception
            dataset.pixel_array_options(decoding_plugin="pydicom")
        values = np.asarray(dataset.pixel_array)
    else:
        decoder = _DECODERS.get(syntax)
        if decoder is None or (decoder == "pillow" and bits > 8):
            raise ImageError("it is compressed in a way that is not read.")
        if decoder == "gdcm":
            values = gdcm_process.decode(bytes_of(source))
        else:
            dataset.pixel_array_options(decoding_plugin=decoder)
            values = np.asarray(dataset.pixel_array)
        if int(number(dataset, "HighBit", bits - 1)) != bits - 1:
            raise ImageError("its bits lie where those of compressed images cannot.")
        above = max(0, values.dtype.itemsize * 8 - bits)
        values = (values << above) >> above  # what is above the image's bits is not its
    if values.shape != (dataset.Rows, dataset.Columns):
        raise ImageError("its pixels are of another size than its header says.")
    return values >> below if below else values


def shown_values(dataset: Any, stored: np.ndarray) -> np.ndarray:
    """What a viewer shows first of stored values, uint8."""
    from pydicom.pixels.processing import apply_modality_lut

    padding = _padding(dataset, stored)
    if "RescaleSlope" in dataset or "RescaleIntercept" in dataset:  # which may be there and empty
        dataset.RescaleSlope = number(dataset, "RescaleSlope", 1.0)
        dataset.RescaleIntercept = number(dataset, "RescaleIntercept", 0.0)
    values = np.asarray(apply_modality_lut(stored, dataset), "float32")
    bright = _lookup(dataset, values)
    if bright is None:
        bright = _window(dataset, values)
    if bright is None:
        seen = values if padding is None else values[~padding]
        low, high = (seen.min(), seen.max()) if seen.size else (0.0, 0.0)
        bright = (values - low) / max(high - low, 1e-12)
    bright = np.clip(bright, 0, 1)
    inverse = text(dataset, "PresentationLUTShape") == "INVERSE"
    if inverse or dataset.PhotometricInterpretation == "MONOCHROME1":
        bright = 1 - bright
    if padding is not None:
        bright[padding] = 0
    bright *= 255
    bright += 0.5
    return np.asarray(bright.astype("uint8"))


def _padding(dataset: Any, stored: np.ndarray) -> np.ndarray | None:
    """Where there is nothing but padding, bool; None for an image without."""
    low = number(dataset, "PixelPaddingValue", None)
    if low is None:
        return None
    high = number(dataset, "PixelPaddingRangeLimit", low)
    found = (stored >= min(low, high)) & (stored <= max(low, high))
    return found if found.any() and not found.all() else None


def _lookup(dataset: Any, values: np.ndarray) -> np.ndarray | None:
    """The first VOI LUT's answer in 0…1; None without one.

    Its descriptor says how many bits an entry has, and often lies: it is believed where the
    highest entry fits its bits and needs the last of them; else the smallest usual depth that
    holds the entries is taken.
    """
    items = dataset.get("VOILUTSequence")
    if not items:
        return None
    count, first, bits = (int(n) for n in items[0].LUTDescriptor)
    count = count or 1 << 16
    data = items[0].LUTData
    if isinstance(data, bytes):
        order = "<" if dataset.original_encoding[1] is not False else ">"
        entries = np.frombuffer(data, "u1" if len(data) < 2 * count else f"{order}u2")
    else:
        entries = np.asarray(data).astype("uint16")
    if len(entries) < count <= 2 * len(entries):  # two entries of 8 bits in each word
        entries = entries.view("u1")
    entries = entries[:count]
    highest = int(entries.max())
    if not (1 << bits) // 2 <= highest < 1 << bits:
        bits = smallest_depth(highest)
    places = np.clip(np.round(values) - first, 0, len(entries) - 1).astype("int64")
    return np.asarray(entries[places] / ((1 << bits) - 1))


def _window(dataset: Any, values: np.ndarray) -> np.ndarray | None:
    """The first window's answer, below 0 and above 1 outside of it; None without a usable one.

    PS3.3 C.11.2.1.2 and C.11.2.1.3.
    """
    centre, width = (number(dataset, f"Window{name}", None) for name in ("Center", "Width"))
    function = text(dataset, "VOILUTFunction") or "LINEAR"
    if centre is None or width is None or not width > 0:
        return None
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return (values - centre) / width + 0.5
    if width <= 1:
        return (values > centre - 0.5).astype("float64")
    return (values - (centre - 0.5)) / (width - 1) + 0.5


def number(dataset: Any, keyword: str, default: float | None) -> Any:
    """The first value of an element as a number; the default where there is none that makes one."""
    try:
        value = dataset.get(keyword)
        if value is not None and not isinstance(value, str | int | float):
            value = value[0]
        number = float(value)
    except Exception:
        return default
    return number if np.isfinite(number) else default


def text(dataset: Any, keyword: str) -> str:
    """The value of an element as text; "" where there is none that can be read."""
    try:
        value = str(dataset.get(keyword) or "")
        return "".join(c for c in " ".join(value.split()) if c.isprintable())[:_LONGEST]
    except Exception:
        return ""
