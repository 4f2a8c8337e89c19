"""Pictures of predictions: a file a heat map, and one sheet of all images."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cxr_keras import plots
from cxr_keras.data.images import image_size, read_image
from cxr_keras.framing import Framing
from cxr_keras.inference.files import Prediction
from cxr_keras.inference.heat_maps import HeatMaps, MeanMaps
from cxr_keras.runs.card import Card
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import make_parent

MOST = 40  # images on a sheet
_SHOWN_SIZE = 896  # in pixels of the network's view; a little more is stored around it
_SMALL = 512  # pixels up to which a picture is drawn in the usual resolution


class Pictures:
    """Draws the heat maps of one row after the other.

    Args:
        explainer: makes the maps.
        card: of the network.
        names: file → the beginning of its pictures' names, see `picture_names`.
        folder: for a file a map; None for none.
        sheet: for all images in one; None for none.
    """

    def __init__(
        self,
        explainer: HeatMaps | MeanMaps,
        card: Card,
        names: dict[Path, str],
        folder: PathLike | None,
        sheet: PathLike | None,
    ):
        self._explainer, self._card, self._names = explainer, card, names
        self._folder = None if folder is None else Path(folder)
        self._sheet = None if sheet is None else Path(sheet)
        self._shown: list[tuple[np.ndarray, np.ndarray, str]] = []
        self._left_out = 0

    def __call__(self, row: Prediction) -> Prediction:
        """Draw a row; the row, which says which of its maps are empty and so not drawn."""
        assert row.pixels is not None
        top = max(row.probabilities, key=lambda name: row.probabilities[name])
        labels = row.findings or (top,)
        maps = self._explainer(row.pixels, [self._card.labels.index(name) for name in labels])
        if self._sheet is not None:
            self._keep(row, labels[0], maps[0])
        if self._folder is None:
            return row
        film = _film(row, self._card.framing)
        empty = [name for name, heat in zip(labels, maps, strict=True) if not heat.any()]
        for name, heat in zip(labels, maps, strict=True):
            if name not in empty:
                file = f"{self._names[row.path]}.{name.replace(' ', '_')}.png"
                save_overlay(film, heat, self._folder / file, title=self._caption(row, name))
        if not empty:
            return row
        said = f"no heat map of {', '.join(empty)}: nothing in the layer speaks for it"
        return dataclasses.replace(row, warnings=(*row.warnings, said))

    def finish(self) -> None:
        """Write the sheet, if one was asked for."""
        if self._sheet is None or not self._shown:
            return
        make_parent(self._sheet)
        plots.save_figure(plots.sheet_figure(self._shown), self._sheet)
        if self._left_out:
            notice(f"{self._left_out:,} more images are not on {self._sheet}: it holds {MOST}.")

    def _keep(self, row: Prediction, label: str, heat: np.ndarray) -> None:
        if len(self._shown) == MOST:
            self._left_out += 1
            return
        assert row.pixels is not None
        caption = f"{self._names[row.path][-24:]}\n{self._caption(row, label)}"
        self._shown.append((row.pixels, heat, caption if heat.any() else f"{caption}\nno map"))

    def _caption(self, row: Prediction, label: str) -> str:
        limit = self._card.thresholds[self._card.labels.index(label)]
        text = f"{label} {row.probabilities[label]:.2f} (threshold {limit:.2f})"
        return f"{text}\nunlike training: do not believe it" if row.unlike_training else text


def picture_names(files: Sequence[Path]) -> dict[Path, str]:
    """File → its stem, or where two files share it the path below their common folder."""
    places = {path: path.absolute() for path in files}
    stems = Counter(place.stem for place in set(places.values()))
    common = os.path.commonpath([place.parent for place in places.values()])
    return {
        path: place.stem if stems[place.stem] == 1 else "__".join(place.relative_to(common).parts)
        for path, place in places.items()
    }


def save_overlay(pixels: np.ndarray, heat: np.ndarray, target: Path, *, title: str) -> None:
    """Write a PNG: the radiograph, and beside it the same with the map over it.

    Args:
        pixels: uint8 (n, n), of any resolution; the picture has about as many pixels.
        heat: (side, side) in 0…1, of the same part of the film.
        target: the file.
        title: above the map.
    """
    make_parent(target)
    if len(pixels) != len(heat):
        image = Image.fromarray(heat.astype("float32"))
        heat = np.asarray(image.resize(pixels.shape[::-1], Image.Resampling.BILINEAR))
    figure = Figure(figsize=(7.2, 3.9))
    for axes, name in zip(figure.subplots(1, 2), ("radiograph", title), strict=True):
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        axes.set_title(name, fontsize=10)
        axes.axis("off")
    plots.lay_heat(figure.axes[1], heat)
    figure.tight_layout()
    plots.save_figure(figure, target, dpi=150 if len(pixels) <= _SMALL else 300)


def _film(row: Prediction, framing: Framing) -> np.ndarray:
    """The square of a film as the network sees it, in more pixels where its file has more."""
    assert row.pixels is not None
    if row.corrected or min(image_size(row.path)) <= len(row.pixels):
        return row.pixels
    return read_image(row.path, Framing(_SHOWN_SIZE, framing.fit))
