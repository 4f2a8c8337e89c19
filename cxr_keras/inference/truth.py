"""What a data set says of the images that are predicted, to be drawn beside the maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cxr_keras.data.boxes import boxes_in_square, read_boxes
from cxr_keras.data.dataset import FINDING_LABELS, PATH
from cxr_keras.data.labels import split_labels
from cxr_keras.data.source import read_data
from cxr_keras.metrics.localization import Box
from cxr_keras.runs.card import Card
from cxr_keras.utils.arguments import PathLike


@dataclass(frozen=True)
class Known:
    """What is known of one image.

    Attributes:
        findings: the labels that it has.
        boxes: label → its boxes, in pixels of the network's stored square.
    """

    findings: tuple[str, ...]
    boxes: dict[str, list[Box]]


class Truth:
    """The images of a data set by their files.

    Args:
        data: a data folder in a known layout.
        card: of the network that predicts.

    Raises:
        DataError: it is no such folder.
    """

    def __init__(self, data: PathLike, card: Card):
        dataset = read_data(data)
        paths = [Path(path).resolve() for path in dataset.table[PATH]]
        self._rows = dict(zip(paths, range(len(paths)), strict=True))
        self._table, self._card = dataset.table, card
        self._boxes = read_boxes(dataset.root)

    def of(self, path: Path) -> Known | None:
        """What is known of the image in this file; None where it is none of the data set's."""
        row = self._rows.get(path.resolve())
        if row is None:
            return None
        rows = self._table.iloc[row : row + 1]
        boxes, _ = boxes_in_square(self._boxes, rows, self._card.framing, self._card.labels)
        return Known(
            findings=tuple(split_labels(str(rows[FINDING_LABELS].iloc[0]))),
            boxes=next(iter(boxes.values()), {}),
        )
