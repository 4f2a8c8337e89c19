"""What a data set knows of an image by its name: its file, its labels, its boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from cxr_keras.data.array_images import file_of
from cxr_keras.data.boxes import BOX_SIDE, read_boxes
from cxr_keras.data.dataset import FINDING_LABELS, IMAGE, PATH
from cxr_keras.data.labels import split_labels
from cxr_keras.data.reading import Data, Reading
from cxr_keras.data.source import read_data


class KnownImages:
    """The images of a data set by their names.

    Args:
        data: a data folder, or several.
        reading: how it is read.

    Raises:
        DataError: it cannot be read.
    """

    def __init__(self, data: Data | None, reading: Reading | None = None):
        dataset = read_data(data, reading)
        table = dataset.table.drop_duplicates(IMAGE).set_index(IMAGE)
        self._files: dict[str, str] = dict(zip(table.index, map(str, table[PATH]), strict=True))
        self._findings: dict[str, str] = dict(zip(table.index, table[FINDING_LABELS], strict=True))
        lists = [read_boxes(root) for root in dataset.roots]
        self._boxes = pd.concat(lists).groupby(IMAGE)

    def file_of(self, image: str) -> str | None:
        """The image's file; None where there is none of that name."""
        path = self._files.get(image)
        return path if path is not None and Path(file_of(path)).is_file() else None

    def truth_of(self, image: str) -> dict[str, Any] | None:
        """Its findings and boxes, see `boxes_of`; None where there is none of that name."""
        if image not in self._findings:
            return None
        findings = list(split_labels(str(self._findings[image])))
        return {"findings": findings, "boxes": self.boxes_of(image)}

    def boxes_of(self, image: str) -> list[dict[str, Any]]:
        """Its boxes: label, x, y, width and height, as shares of the image's width and height."""
        if image not in self._boxes.groups:
            return []
        columns = ("label", "x", "y", "w", "h")
        rows = self._boxes.get_group(image)[list(columns)].itertuples(index=False)
        return [
            {
                "label": str(label),
                "x": x / BOX_SIDE,
                "y": y / BOX_SIDE,
                "width": wide / BOX_SIDE,
                "height": high / BOX_SIDE,
            }
            for label, x, y, wide, high in rows
        ]
