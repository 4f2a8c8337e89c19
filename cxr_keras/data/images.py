"""Any image file → a grey uint8 square, the one form in which radiographs are stored and seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cxr_keras.data.array_images import read_row, row_of
from cxr_keras.errors import ImageError
from cxr_keras.framing import DEFAULT_FRAMING, Framing

VERSION = 1  # of decoding: raise it when a pixel may come out otherwise
SUFFIXES = (".png", ".jpg", ".jpeg")
MAX_PIXELS = 80_000_000  # four times the largest digital detectors; more is a mistake or a bomb

_TOO_LARGE = f"more than {MAX_PIXELS // 10**6} megapixels; scale it down first"
_FORMATS = ("PNG", "JPEG")
_ORIENTATION = 0x0112  # EXIF


def read_image(path: str | Path, framing: Framing = DEFAULT_FRAMING) -> np.ndarray:
    """Read a PNG or JPEG as a grey radiograph: uint8, 0 black … 255 white.

    EXIF orientation is applied, transparency is laid over black, colours become ITU-R 601 luma,
    and 16-bit values are scaled from the depth that holds them (8, 12 or 16 bits). Pillow's
    antialiased bilinear filter scales the image.

    Args:
        path: the file, or a row of an array in an archive, see `array_images`.
        framing: the size, and how much of the image is kept. By default the shorter side becomes
            256 pixels and the centre is kept, as torchvision's `Resize(256)` does.

    Returns:
        Shape (framing.stored, framing.stored), by default (256, 256).

    Raises:
        ImageError: the file is missing, unreadable, no PNG or JPEG, cut short, animated or of
            more than 80 megapixels. The message names the file.
        DataError: it is a row of an archive that cannot be read or unpacked.
    """
    row = row_of(path)
    if row is not None:
        return _framed(read_row(row), path, framing)
    try:
        with Image.open(path, formats=_FORMATS) as image:
            # inside: a grey image is not decoded before it is scaled
            return _framed(image, path, framing)
    except ImageError:
        raise
    # Pillow's own limit, which it checks first: above 89 megapixels it warns (an error under
    # `python -W error`), above 179 it refuses
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"{path}: {_TOO_LARGE}.") from error
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file.") from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not a PNG or JPEG image ({_looks_like(path)}).") from error
    except Exception as error:  # whatever a broken file leads Pillow's decoders to
        why = str(error) or type(error).__name__
        raise ImageError(f"{path}: the image cannot be decoded ({why}).") from error


def find_image_files(folder: Path) -> list[Path]:
    """Every PNG and JPEG below `folder`, hidden files left out, in natural reading order."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(
        path
        for path in found
        if path.is_file() and not any(p.startswith(".") for p in path.relative_to(folder).parts)
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


def _framed(image: Image.Image, path: str | Path, framing: Framing) -> np.ndarray:
    _check(image, path, framing)
    square = _centre_square if framing.fit == "crop" else _padded_square
    return square(_to_grey(image), framing.stored)


def _check(image: Image.Image, path: str | Path, framing: Framing) -> None:
    (width, height), side = image.size, framing.stored
    if width * height > MAX_PIXELS:
        raise ImageError(f"{path}: {width}×{height} is {_TOO_LARGE}.")
    if max(width, height) * side // max(min(width, height), 1) * side > MAX_PIXELS:
        raise ImageError(f"{path}: {width}×{height} is too narrow for a radiograph; crop it first.")
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(f"{path}: an animation of {frames} frames; save one frame as a file.")


def _to_grey(image: Image.Image) -> Image.Image:
    upright = image
    if image.getexif().get(_ORIENTATION, 1) != 1:
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        return _from_deep(np.asarray(upright))
    if upright.mode in ("LA", "RGBA", "PA") or "transparency" in upright.info:
        coloured = upright.convert("RGBA")
        if coloured.getchannel("A").getextrema() == (255, 255):
            return coloured.convert("L")
        black = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, coloured).convert("L")
    if upright.mode in ("1", "L"):
        return upright if upright.mode == "L" else upright.convert("L")
    return upright.convert("RGB").convert("L")


def _from_deep(values: np.ndarray) -> Image.Image:
    """Values of more than 8 bits → 8 bits, from the smallest usual depth that holds them."""
    highest = int(values.max(initial=0))
    white = next(white for white in (255, 4095, 65535, max(highest, 1)) if highest <= white)
    scaled = np.clip(values, 0, white).astype("float32") * (255.0 / white)
    return Image.fromarray((scaled + 0.5).astype("uint8"))


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


def _looks_like(path: str | Path) -> str:
    with open(path, "rb") as file:
        head = file.read(132)
    if not head:
        return "the file is empty"
    if head[128:132] == b"DICM":
        return "it is DICOM; export it as PNG first"
    return "its content says otherwise, whatever its name"
