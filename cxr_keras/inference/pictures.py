"""Pictures of predictions: a file a heat map, and one sheet of all images."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cxr_keras import plots
from cxr_keras.data.images import image_size, read_image
from cxr_keras.framing import Framing
from cxr_keras.inference.dicom_answers import RESEARCH, Answers
from cxr_keras.inference.files import Prediction
from cxr_keras.inference.heat_maps import HeatMaps, MeanMaps
from cxr_keras.inference.truth import Known, Truth
from cxr_keras.metrics.localization import Box
from cxr_keras.runs.card import Card
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import make_parent, part_of_file_name

MOST = 40  # images on a sheet
_SHOWN_SIZE = 896  # in pixels of the network's view; a little more is stored around it
_LINE = 40  # letters in a line of a caption
_SMALL = 512  # pixels up to which a picture is drawn in the usual resolution


class Pictures:
    """Draws the heat maps of one row after the other.

    Args:
        explainer: makes the maps.
        card: of the network.
        names: file → the beginning of its pictures' names, see `prediction.picture_names`.
        folder: for a file a map; None for none.
        sheet: for all images in one; None for none.
        truth: what is drawn beside the maps of the images that it knows.
        answers: writes the maps as DICOM objects; None for none.
    """

    def __init__(
        self,
        explainer: HeatMaps | MeanMaps,
        card: Card,
        names: dict[Path, str],
        folder: PathLike | None,
        sheet: PathLike | None,
        truth: Truth | None = None,
        answers: Answers | None = None,
    ):
        self._explainer, self._card, self._names = explainer, card, names
        self._truth, self._answers = truth, answers
        self._folder = None if folder is None else Path(folder)
        self._sheet = None if sheet is None else Path(sheet)
        self._shown: list[tuple[np.ndarray, np.ndarray, Sequence[Box], str]] = []
        self._left_out = 0

    def __call__(self, row: Prediction) -> Prediction:
        """Draw a row; the row, which says which of its maps are empty and so not drawn."""
        assert row.pixels is not None
        top = max(row.probabilities, key=lambda name: row.probabilities[name])
        labels = row.findings or (top,)
        maps = self._explainer(row.pixels, [self._card.labels.index(name) for name in labels])
        known = self._truth.of(row.path) if self._truth else None
        if self._sheet is not None:
            self._keep(row, labels[0], maps[0], known)
        if self._folder is None and self._answers is None:
            return row
        film = _film(row, self._card.framing)
        empty = [name for name, heat in zip(labels, maps, strict=True) if not heat.any()]
        for name, heat in zip(labels, maps, strict=True):
            if name in empty:
                continue
            if self._answers is not None:
                words = f"{self._caption(row, name)}\n{RESEARCH}"
                row = self._answers.capture(row, name, burned_in(film, heat, words))
            if self._folder is not None:
                file = f"{self._names[row.path]}.{part_of_file_name(name)}.png"
                save_overlay(
                    film,
                    heat,
                    self._folder / file,
                    title=self._caption(row, name),
                    truth=self._said(known),
                    boxes=_boxes(row, known, name, len(film)),
                )
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

    def _said(self, known: Known | None) -> str:
        """What the data say, a line; "" where nothing is asked."""
        if self._truth is None:
            return ""
        text = f"data: {', '.join(known.findings)}" if known else "data: not known"
        return textwrap.fill(text, _LINE)

    def _keep(self, row: Prediction, label: str, heat: np.ndarray, known: Known | None) -> None:
        if len(self._shown) == MOST:
            self._left_out += 1
            return
        assert row.pixels is not None
        lines = [self._names[row.path][-24:], self._caption(row, label), self._said(known)]
        lines.append("" if heat.any() else "no map")
        boxes = _boxes(row, known, label, len(row.pixels))
        caption = "\n".join(line for line in lines if line)
        self._shown.append((row.pixels, heat, boxes, caption))

    def _caption(self, row: Prediction, label: str) -> str:
        limit = self._card.thresholds[self._card.labels.index(label)]
        text = f"{label} {row.probabilities[label]:.2f} (threshold {limit:.2f})"
        return f"{text}\nunlike training: do not believe it" if row.unlike_training else text


def save_overlay(
    pixels: np.ndarray,
    heat: np.ndarray,
    target: Path,
    *,
    title: str,
    truth: str = "",
    boxes: Sequence[Box] = (),
) -> None:
    """Write a PNG: the radiograph, and beside it the same with the map over it.

    Args:
        pixels: uint8 (n, n), of any resolution; the picture has about as many pixels.
        heat: (side, side) in 0…1, of the same part of the film.
        target: the file.
        title: above the map.
        truth: above the radiograph.
        boxes: drawn into both, in pixels of `pixels`.
    """
    make_parent(target)
    if len(pixels) != len(heat):
        image = Image.fromarray(heat.astype("float32"))
        heat = np.asarray(image.resize(pixels.shape[::-1], Image.Resampling.BILINEAR))
    figure = Figure(figsize=(7.2, 3.9))
    names = (truth or "radiograph", title)
    for axes, name in zip(figure.subplots(1, 2), names, strict=True):
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        plots.outline(axes, boxes)
        axes.set_title(name, fontsize=10)
        axes.axis("off")
    plots.lay_heat(figure.axes[1], heat)
    figure.tight_layout()
    plots.save_figure(figure, target, dpi=150 if len(pixels) <= _SMALL else 300, packed=False)


def burned_in(pixels: np.ndarray, heat: np.ndarray, words: str) -> np.ndarray:
    """A radiograph with a map over it and words above it: uint8 (h, side, 3).

    Args:
        pixels: uint8 (side, side).
        heat: (n, n) in 0…1, of the same part of the film.
        words: some lines.
    """
    side, dots = max(len(pixels), _SMALL), 100
    lines = textwrap.wrap(words.replace("\n", " — "), 72)
    band = 0.032 * side * (len(lines) + 0.6)  # for words, in pixels
    figure = Figure(figsize=(side / dots, (side + band) / dots), dpi=dots, facecolor="black")
    axes = figure.add_axes((0, 0, 1, side / (side + band)))
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, extent=(0, 1, 1, 0))
    axes.axis("off")
    image = Image.fromarray(heat.astype("float32")).resize((side, side), Image.Resampling.BILINEAR)
    plots.lay_heat(axes, np.asarray(image), extent=(0, 1, 1, 0))
    size = 0.024 * side * 72 / dots
    figure.text(0.01, 0.998, "\n".join(lines), color="white", size=size, va="top")
    return plots.pixels_of(figure, dpi=dots)


def _boxes(row: Prediction, known: Known | None, label: str, side: int) -> list[Box]:
    """The finding's boxes in a square of this side; none for an image that was turned."""
    if known is None or row.corrected or row.pixels is None:
        return []
    scale = side / len(row.pixels)
    found = known.boxes.get(label, [])
    return [(a * scale, b * scale, c * scale, d * scale) for a, b, c, d in found]


def _film(row: Prediction, framing: Framing) -> np.ndarray:
    """The square of a film as the network sees it, in more pixels where its file has more."""
    assert row.pixels is not None
    size = min(_SHOWN_SIZE, min(image_size(row.path)) * 7 // 8)
    if row.corrected or size <= framing.size:
        return row.pixels
    return read_image(row.path, Framing(size, framing.fit))
