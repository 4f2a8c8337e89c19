"""Any image file → a grey uint8 square, the one form in which radiographs are stored and seen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cxr_keras.data import dicom
from cxr_keras.data.array_images import read_row, row_of
from cxr_keras.data.content import Content, ImageFile, open_file
from cxr_keras.data.png_depth import deep_png, white_value
from cxr_keras.errors import ImageError
from cxr_keras.framing import DEFAULT_FRAMING, Framing

VERSION = 1  # of decoding: raise it when a pixel may come out otherwise
SUFFIXES = (".png", ".jpg", ".jpeg", *dicom.SUFFIXES)
MAX_PIXELS = 80_000_000  # four times the largest digital detectors; more is a mistake or a bomb

_FLAT = 3.0  # standard deviation of grey values below which there is no image
_LONG = 2.0  # times as long as wide
_LATERAL = ("LL", "RL", "LATERAL", "LAT", "LLO", "RLO")  # DICOM's and common view positions
_HUE, _COLOURED = 40, 0.05  # between the channels of a pixel; share of the pixels

_TOO_LARGE = f"more than {MAX_PIXELS // 10**6} megapixels; scale it down first"
_FORMATS = ("PNG", "JPEG")
_ORIENTATION = 0x0112  # EXIF


@dataclass(frozen=True)
class Radiograph:
    """An image file, read.

    Attributes:
        pixels: uint8 (framing.stored, framing.stored), 0 black … 255 white.
        header: what a DICOM file says of the patient and the image, see `dicom.IDENTIFIERS`.
        warnings: what may be wrong with it, in words that name no patient.
    """

    pixels: np.ndarray
    header: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def read_image(
    path: ImageFile, framing: Framing = DEFAULT_FRAMING, *, bits: int | None = None
) -> np.ndarray:
    """The pixels of `read_radiograph`."""
    return read_radiograph(path, framing, bits=bits).pixels


def read_radiograph(
    path: ImageFile, framing: Framing = DEFAULT_FRAMING, *, bits: int | None = None
) -> Radiograph:
    """Read a PNG, JPEG or DICOM file as a grey radiograph: uint8, 0 black … 255 white.

    EXIF orientation is applied, transparency is laid over black, colours become ITU-R 601 luma,
    16-bit values are scaled from the depth that they have (see `png_depth`), and DICOM is read as a
    viewer shows it first (see `dicom`). Pillow's antialiased bilinear filter scales the image.

    Args:
        path: the file, its content, or a row of an array in an archive, see `array_images`.
        framing: the size, and how much of the image is kept. By default the shorter side becomes
            256 pixels and the centre is kept, as torchvision's `Resize(256)` does.
        bits: depth of the data set's 16-bit PNGs, see `png_depth.common_depth`.

    Raises:
        ImageError: the file is missing, unreadable, none of the three, cut short, animated or of
            more than 80 megapixels, or DICOM that is no radiograph. The message names the file.
        DataError: it is a row of an archive that cannot be read or unpacked.
    """
    row = row_of(path)
    if row is not None:
        return Radiograph(_framed(read_row(row), path, framing))
    if dicom.is_dicom(path):
        found = dicom.read_dicom(path)
        pixels = frame_array(found.pixels, str(path), framing)
        doubts = _doubts(pixels, found.pixels.shape[::-1], view=found.header.get("view", ""))
        return Radiograph(pixels, found.header, (*found.warnings, *doubts))
    with _decoding(path), _opened(path) as image:
        _check(image, path, framing)
        if _is_deep(image):
            grey, depth = _from_deep(image, path, bits)
            pixels = _square(grey, framing)
            return Radiograph(pixels, warnings=(depth, *_doubts(pixels, image.size)))
        # inside: a grey image is not decoded before it is scaled
        pixels = _square(_to_grey(image), framing)
        doubts = _doubts(pixels, image.size, coloured=_is_coloured(image))
        return Radiograph(pixels, warnings=doubts)


def read_whole(path: ImageFile, longest: int) -> np.ndarray:
    """The whole image, as `read_radiograph` sees it before it makes a square of it: uint8 (h, w).

    Args:
        path: the file, its content, or a row of an array in an archive.
        longest: pixels of the longer side at most; a larger image is scaled down.

    Raises:
        ImageError: see `read_radiograph`.
        DataError: see `read_radiograph`.
    """
    row = row_of(path)
    if row is not None:
        return np.asarray(_shrunk(_to_grey(read_row(row)), longest))
    if dicom.is_dicom(path):
        return np.asarray(_shrunk(Image.fromarray(dicom.read_dicom(path).pixels), longest))
    with _decoding(path), _opened(path) as image:
        _check(image, path, DEFAULT_FRAMING)
        grey = _from_deep(image, path, None)[0] if _is_deep(image) else _to_grey(image)
        return np.asarray(_shrunk(grey, longest))


def _shrunk(grey: Image.Image, longest: int) -> Image.Image:
    largest = max(grey.size)
    if largest <= longest:
        return grey
    width, height = (max(1, round(length * longest / largest)) for length in grey.size)
    return grey.resize((width, height), Image.Resampling.BILINEAR)


def _opened(path: ImageFile) -> Image.Image:
    """Pillow's image, of which only the header is read."""
    if isinstance(path, Content):
        return Image.open(open_file(path), formats=_FORMATS)
    return Image.open(path, formats=_FORMATS)


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I") or image.mode == "F"


@contextmanager
def _decoding(path: ImageFile) -> Iterator[None]:
    """Whatever goes wrong within is an `ImageError` that names the file."""
    try:
        yield
    except ImageError:
        raise
    # Pillow's own limit, which it checks first: above 89 megapixels it warns (an error under
    # `python -W error`), above 179 it refuses
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{path}: {_TOO_LARGE}.") from error
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file.") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{path}: not a PNG, JPEG or DICOM image ({_looks_like(path)})."
        ) from error
    except Exception as error:  # whatever a broken file leads Pillow's decoders to
        why = str(error) or type(error).__name__
        raise ImageError(f"{path}: the image cannot be decoded ({why}).") from error


def image_size(path: ImageFile) -> tuple[int, int]:
    """Width and height of an image file in pixels, as it is shown.

    Raises:
        ImageError: it cannot be read.
    """
    try:
        if dicom.is_dicom(path):
            dataset = dicom.read_dataset(path)  # the header says it, nothing is decoded
            return int(dataset.Columns), int(dataset.Rows)
        with _opened(path) as image:
            turned = image.getexif().get(_ORIENTATION, 1) >= 5
            return image.size[::-1] if turned else image.size
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{path}: the image cannot be decoded.") from error


def find_image_files(folder: Path) -> list[Path]:
    """Every PNG, JPEG and DICOM file below `folder`, in natural reading order.

    PNG and JPEG by their suffix, DICOM by its content as well; hidden files and folders are left
    out, and the DICOMDIR of a folder, which holds no image. Links to folders are followed, each
    folder once.
    """
    found, seen = [], {os.path.realpath(folder)}
    for place, folders, files in os.walk(folder, followlinks=True):
        within = {name: os.path.realpath(os.path.join(place, name)) for name in sorted(folders)}
        folders[:] = [
            name for name, real in within.items() if not name.startswith(".") and real not in seen
        ]
        seen.update(within[name] for name in folders)
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return sorted(
        path
        for path in found
        if path.is_file()
        and path.name.upper() != dicom.DIRECTORY
        and (path.suffix.lower() in SUFFIXES or dicom.is_dicom(path))
    )


def frame_array(pixels: np.ndarray, name: str, framing: Framing = DEFAULT_FRAMING) -> np.ndarray:
    """A grey array as `read_image` would give it if it were a file.

    Args:
        pixels: uint8 (height, width), 0 black … 255 white.
        name: what an error calls it.
        framing: the size, and how much of the image is kept.

    Raises:
        ImageError: it is too small or too large.
    """
    return _framed(Image.fromarray(pixels), name, framing)


def _framed(image: Image.Image, path: ImageFile, framing: Framing) -> np.ndarray:
    _check(image, path, framing)
    return _square(_to_grey(image), framing)


def _doubts(
    pixels: np.ndarray, size: tuple[int, ...], *, coloured: bool = False, view: str = ""
) -> tuple[str, ...]:
    """What tells at once that this may be no frontal radiograph; cheap, and no proof."""
    found = []
    if pixels.std() < _FLAT:
        found.append("nearly one grey value")
    if coloured:
        found.append("a colour image, and a radiograph is grey")
    if max(size) > _LONG * min(size):
        found.append("more than twice as long as wide")
    if view.upper() in _LATERAL:
        found.append("a lateral view")
    return tuple(found)


def _is_coloured(image: Image.Image) -> bool:
    """Whether a share of the pixels has a hue that a grey image, tinted or scanned, has not."""
    if image.mode not in ("RGB", "RGBA", "P", "CMYK", "YCbCr"):
        return False
    small = np.asarray(image.convert("RGB").resize((64, 64)), "int16")
    return bool((np.ptp(small, axis=2) > _HUE).mean() > _COLOURED)


def _square(grey: Image.Image, framing: Framing) -> np.ndarray:
    square = _centre_square if framing.fit == "crop" else _padded_square
    return square(grey, framing.stored)


def _check(image: Image.Image, path: ImageFile, framing: Framing) -> None:
    (width, height), side = image.size, framing.stored
    if width * height > MAX_PIXELS:
        raise ImageError(f"{path}: {width}×{height} is {_TOO_LARGE}.")
    if max(width, height) * side // max(min(width, height), 1) * side > MAX_PIXELS:
        raise ImageError(f"{path}: {width}×{height} is too narrow for a radiograph; crop it first.")
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(f"{path}: an animation of {frames} frames; save one frame as a file.")


def _to_grey(image: Image.Image) -> Image.Image:
    upright = _upright(image)
    if upright.mode in ("LA", "RGBA", "PA") or "transparency" in upright.info:
        coloured = upright.convert("RGBA")
        if coloured.getchannel("A").getextrema() == (255, 255):
            return coloured.convert("L")
        black = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, coloured).convert("L")
    if upright.mode in ("1", "L"):
        return upright if upright.mode == "L" else upright.convert("L")
    return upright.convert("RGB").convert("L")


def _from_deep(image: Image.Image, path: ImageFile, bits: int | None) -> tuple[Image.Image, str]:
    """An image of more than 8 bits in 8, and of which depth it was taken to be."""
    values = np.asarray(_upright(image))
    white, known = white_value(deep_png(path), int(values.max(initial=0)), bits)
    scaled = np.clip(values, 0, white).astype("float32") * (255.0 / white)
    return Image.fromarray((scaled + 0.5).astype("uint8")), f"a 16-bit PNG, read as {known}"


def _upright(image: Image.Image) -> Image.Image:
    if image.getexif().get(_ORIENTATION, 1) == 1:
        return image
    return ImageOps.exif_transpose(image)


def _centre_square(grey: Image.Image, side: int) -> np.ndarray:
    """The shorter side scaled to `side`, the centre of the longer one kept."""
    width, height = grey.size
    shorter = min(width, height)
    size = (max(side, width * side // shorter), max(side, height * side // shorter))
    if size != grey.size:
        grey = grey.resize(size, Image.Resampling.BILINEAR)
    if size == (side, side):
        return np.asarray(grey)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    return np.asarray(grey.crop((left, top, left + side, top + side)))


def _padded_square(grey: Image.Image, side: int) -> np.ndarray:
    """The longer side scaled to `side`, as much black on either side of the shorter one."""
    longer = max(grey.size)
    width, height = (max(1, round(length * side / longer)) for length in grey.size)
    if (width, height) != grey.size:
        grey = grey.resize((width, height), Image.Resampling.BILINEAR)
    square = np.zeros((side, side), "uint8")
    left, top = (side - width) // 2, (side - height) // 2
    square[top : top + height, left : left + width] = np.asarray(grey)
    return square


def _looks_like(path: ImageFile) -> str:
    with open_file(path) as file:
        head = file.read(1)
    if not head:
        return "the file is empty"
    return "its content says otherwise, whatever its name"
