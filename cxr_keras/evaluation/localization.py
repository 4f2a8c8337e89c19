"""`localize`: heat maps against the boxes that radiologists drew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from cxr_keras.data.boxes import BOX_NAME, Boxes, boxes_in_square, read_boxes
from cxr_keras.data.dataset import IMAGE, PATIENT
from cxr_keras.data.reading import Data, as_data
from cxr_keras.errors import DataError
from cxr_keras.evaluation.evaluation import refuse_trained_on
from cxr_keras.evaluation.measured import Measured, images_to_measure
from cxr_keras.inference.heat_maps import HeatMaps, MeanMaps, heat_maps
from cxr_keras.inference.options import GRAD_CAM, NO_TTA, Tta
from cxr_keras.inference.tta import check_tta
from cxr_keras.metrics.localization import (
    RULE,
    Box,
    centre_prior,
    detected_box,
    measure_map,
    summary,
)
from cxr_keras.metrics.options import RESAMPLES
from cxr_keras.plots import localization_figure, save_figure
from cxr_keras.runs import model_file, run_folder
from cxr_keras.runs.card import Card
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import progress_bar
from cxr_keras.utils.files import write_table

TABLE, MAPS, FIGURE = "localize.csv", "maps.csv", "localize.png"
RANDOM, CENTRE, UNTRAINED = "random map", "centre prior", "random weights"
_IMAGES = 16  # whose maps are made at a time
_SHOWN = 12  # maps in the figure


@dataclass(frozen=True)
class Localization:
    """What heat maps are worth as pointers.

    Attributes:
        table: see `metrics.localization.summary`; the maps of the method, of the same method on the
            same network with random weights, of noise, and of a bell in the middle.
        maps: a row a map and finding: map, image, patient, label, empty, and the measures.
        folder: where the tables and the figure were written.
        cell: pixels of the network's square that one place of a map stands for.
        about: sentences that belong beside the numbers.
    """

    table: pd.DataFrame
    maps: pd.DataFrame
    folder: Path
    cell: float
    about: tuple[str, ...] = ()


def localize(
    run: PathLike,
    data: Data | None = None,
    *,
    split: str | None = None,
    method: str = GRAD_CAM,
    layer: str | None = None,
    tta: Tta = NO_TTA,
    resamples: int = RESAMPLES,
    force: bool = False,
    out: PathLike | None = None,
) -> Localization:
    """Measure a network's heat maps on every image that has a box.

    Args:
        run: a run folder or a `.keras` file.
        data: a folder with `BBox_List_2017.csv`, NIH's or of phantoms; by default the data that
            the network was trained on.
        split: of the network's own data, by default its test split; of other data every image.
        method: one of `inference.options.METHODS`.
        layer: whose maps; by default see `heat_maps`.
        tta: "flip" takes the mean of the map of an image and that of its mirror image.
        resamples: of the bootstrap over patients; 0 for no intervals.
        force: take images that the network was trained on, too.
        out: folder for the tables and the figure; by default one beside the model.

    Raises:
        ModelError, DataError: the network or the data cannot be used, or no image has a box.
        CxrError: there is no such method.
    """
    file = model_file.find_model(run)
    card = model_file.read_card(file)
    model = model_file.load_model(file)
    explainer = heat_maps(model, method, layer, tta=check_tta(tta))
    named = as_data(data) or None
    split = split or (card.measured_split if named is None and card.data else None)
    measured = images_to_measure(file, card, named, split)
    boxes, cut = _boxes(measured, card)
    rows = np.flatnonzero(measured.images.rows[IMAGE].isin(list(boxes)))
    refuse_trained_on(file, measured.images.part(rows), force=force)
    untrained = heat_maps(_untrained(model), method, layer, tta=tta)
    found: list[dict[str, object]] = []
    shown: list[tuple[np.ndarray, np.ndarray, list[Box], Box | None, str]] = []
    count = sum(len(labels) for labels in boxes.values())
    with progress_bar("Drawing heat maps", count) as bar:
        for name, patient, label, of, heats, pixels in _maps(
            measured, boxes, card, {method: explainer, UNTRAINED: untrained}
        ):
            for kind, heat in heats.items():
                whose = {"map": kind, "image": name, "patient": patient, "label": label}
                found.append(whose | {"empty": not heat.any()} | measure_map(heat, of))
            if len(shown) < _SHOWN:
                shown.append((pixels, heats[method], of, detected_box(heats[method]), label))
            bar.advance()
    maps = pd.DataFrame(found)
    table = summary(maps, resamples=resamples)
    folder = (
        Path(out)
        if out
        else run_folder.results_folder(file) / _name(measured, card, method, layer, tta)
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_table(table, folder / TABLE)
    write_table(maps, folder / MAPS)
    save_figure(localization_figure(shown), folder / FIGURE)
    empty = int(maps.loc[maps["map"] == method, "empty"].sum())
    about = [
        f"{count:,} findings with boxes in {len(boxes):,} images. The detected box is {RULE}. "
        f"One place of a map is {explainer.cell:.0f} of the network's {card.framing.size} pixels."
    ]
    if empty:
        about.append(f"{empty:,} maps are empty, nothing speaks for the finding: they miss it.")
    if cut:
        about.append(f"{cut:,} boxes lie outside what the network sees: left out.")
    return Localization(table, maps, folder, explainer.cell, tuple(about))


def _name(measured: Measured, card: Card, method: str, layer: str | None, tta: Tta) -> str:
    """The folder beside the model, as `evaluate` makes its own."""
    parts = [] if measured.own else [measured.root.resolve().name]
    parts += [measured.split] if parts or measured.split != card.measured_split else []
    parts += [measured.unlike] if measured.unlike else []
    parts += [method, *([layer] if layer else []), *([tta] if tta != NO_TTA else [])]
    return "-".join(["localize", *parts])


def _boxes(measured: Measured, card: Card) -> tuple[Boxes, int]:
    """Where the boxes of the measured images lie, and how many lie outside what is seen."""
    listed = read_boxes(measured.root)
    if listed.empty:
        raise DataError(
            f"{measured.root} has no boxes. Name a folder with {BOX_NAME}: NIH's, or "
            "phantoms (`cxr-keras phantom`)."
        )
    found, cut = boxes_in_square(listed, measured.images.rows, card.framing, card.labels)
    if not found:
        raise DataError(
            f"None of the {len(measured.images):,} images has a box of a label that the network "
            "knows. Name other data, or another --split."
        )
    return found, cut


def _untrained(model: keras.Model) -> keras.Model:
    """The same network with random weights: its maps must be others (Adebayo et al. 2018).

    "Sanity Checks for Saliency Maps", NeurIPS 2018, https://arxiv.org/abs/1810.03292.
    """
    keras.utils.set_random_seed(0)
    return keras.models.clone_model(model)


def _maps(
    measured: Measured,
    boxes: Boxes,
    card: Card,
    explainers: dict[str, HeatMaps | MeanMaps],
) -> Iterator[tuple[str, object, str, list[Box], dict[str, np.ndarray], np.ndarray]]:
    """(image, patient, finding, its boxes, each kind's map, pixels) of every finding with a box."""
    rows = measured.images.rows
    places = np.flatnonzero(rows[IMAGE].isin(list(boxes)))
    rng, explainer = np.random.default_rng(0), next(iter(explainers.values()))
    for start in range(0, len(places), _IMAGES):
        some = places[start : start + _IMAGES]
        pixels = measured.images.batch(some)[..., 0]
        names = rows[IMAGE].to_numpy()[some]
        pairs = [(place, label) for place, name in enumerate(names) for label in boxes[str(name)]]
        asked = [(place, card.labels.index(label)) for place, label in pairs]
        heats = {kind: found.maps(pixels, asked) for kind, found in explainers.items()}
        for number, (place, label) in enumerate(pairs):
            noise = rng.random((explainer.grid, explainer.grid)).astype("float32")
            kinds = {kind: found[number] for kind, found in heats.items()}
            kinds[RANDOM] = explainer.to_image(noise)
            kinds[CENTRE] = explainer.to_image(centre_prior(explainer.grid))
            name = str(names[place])
            patient = rows[PATIENT].to_numpy()[some[place]] if PATIENT in rows else name
            yield name, patient, label, boxes[name][label], kinds, pixels[place]
