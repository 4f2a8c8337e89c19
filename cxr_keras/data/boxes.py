"""Boxes around findings: NIH's list, and where they lie in the square that a network is given."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cxr_keras.data.dataset import IMAGE, PATH
from cxr_keras.data.images import image_size
from cxr_keras.data.labels import canonical_label
from cxr_keras.errors import DataError
from cxr_keras.framing import Framing
from cxr_keras.metrics.localization import Box

BOX_NAME = "BBox_List_2017.csv"
_COLUMNS = (IMAGE, "label", "x", "y", "w", "h")
BOX_SIDE = 1024  # NIH's boxes are in pixels of an image of this side, whatever the file's is

Boxes = dict[str, dict[str, list[Box]]]  # image → finding → its boxes


def read_boxes(folder: Path) -> pd.DataFrame:
    """The box list in a data folder, as `read_box_list` has it; empty where there is none."""
    file = folder / BOX_NAME
    return read_box_list(file) if file.is_file() else pd.DataFrame({name: [] for name in _COLUMNS})


def read_box_list(file: Path) -> pd.DataFrame:
    """NIH's box list: columns Image Index, label, x, y, w, h in pixels of the 1024×1024 image.

    Raises:
        DataError: there is no such file, or it is no such list.
    """
    if not file.is_file():
        raise DataError(f"There is no list of boxes {file}. Name one as NIH's {BOX_NAME}.")
    try:
        boxes = pd.read_csv(
            file, skiprows=1, header=None, usecols=range(6), names=[*_COLUMNS], encoding="utf-8-sig"
        )
        for name in _COLUMNS[2:]:
            boxes[name] = boxes[name].astype(float)
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(
            f"{file} is no list of boxes: {error}. It needs NIH's columns: image, label, x, y, "
            "width, height."
        ) from error
    boxes["label"] = [canonical_label(str(name)) for name in boxes["label"]]
    return boxes


def boxes_in_square(
    listed: pd.DataFrame, rows: pd.DataFrame, framing: Framing, labels: tuple[str, ...]
) -> tuple[Boxes, int]:
    """Where listed boxes lie in the stored squares of a data set's images, cut at what is seen.

    Args:
        listed: of `read_boxes`.
        rows: the images, with their file names and paths.
        framing: how an image becomes the square.
        labels: those whose boxes are wanted.

    Returns:
        The boxes in pixels of the stored square, and how many lie outside what the network sees.
    """
    paths = rows.drop_duplicates(IMAGE).set_index(IMAGE)[PATH]
    listed = listed[listed[IMAGE].isin(paths.index) & listed["label"].isin(labels)]
    found: Boxes = {}
    cut = 0
    for name, group in listed.groupby(IMAGE, sort=False):
        width, height = image_size(str(paths[name]))
        across, down = width / BOX_SIDE, height / BOX_SIDE
        for label, x, y, w, h in group[[*_COLUMNS[1:]]].itertuples(index=False):
            box = (x * across, y * down, w * across, h * down)
            left, top, right, bottom = _seen(framing, framing.in_square(box, width, height))
            if left < right and top < bottom:
                placed = (left, top, right, bottom)
                found.setdefault(str(name), {}).setdefault(label, []).append(placed)
            else:
                cut += 1
    return found, cut


def _seen(framing: Framing, box: Box) -> Box:
    """A box cut at the rim of the stored square that the network leaves out."""
    before, after = framing.margins
    ends = (before, before, framing.stored - after, framing.stored - after)
    left, top, right, bottom = box
    return max(left, ends[0]), max(top, ends[1]), min(right, ends[2]), min(bottom, ends[3])
