"""Which images a network is measured on: a split of its own data, or all of another folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr_keras.data import phantom, pixel_store
from cxr_keras.data.dataset import FINDING_LABELS, IMAGE, PATIENT, Dataset
from cxr_keras.data.labels import encode_cells
from cxr_keras.data.options import EVERY_IMAGE
from cxr_keras.data.preparation import (
    Prepared,
    PreparedSplit,
    prepare,
    prepare_dataset,
    resolve_data,
    with_pixels,
)
from cxr_keras.data.readers import nih
from cxr_keras.data.splits import TEST
from cxr_keras.errors import DataError
from cxr_keras.evaluation.options import OWN_SPLITS
from cxr_keras.framing import Framing
from cxr_keras.runs import run_folder
from cxr_keras.runs.card import Card
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice


@dataclass(frozen=True)
class Measured:
    """The images that a network is measured on.

    Attributes:
        images: the images, decoded.
        split: of which split they are, or "all".
        root: their folder.
        own: whether the network was trained on this folder's images, so that the split is that of
            its training.
        phantoms: whether they are synthetic drawings.
        about: of other data: how many images and patients they are, and what was left out.
    """

    images: PreparedSplit
    split: str
    root: Path
    own: bool
    phantoms: bool
    about: tuple[str, ...] = ()


def data_of(file: Path, card: Card, data: PathLike | None) -> Prepared:
    """The data that the network of a file was trained on, or `data`, with its card's recipe."""
    return prepare(data or run_folder.data_folder(file, card), **recipe_of(card))


def recipe_of(card: Card) -> dict[str, Any]:
    """How a card's training data were chosen, split and framed, as `prepare` takes it."""
    same = ("per_class", "seed", "val_share", "test_share", "size", "fit")
    keys = {name: name for name in same} | {"split_method": "split"}  # its name in run.json
    return {name: card.data[key] for name, key in keys.items() if key in card.data}


def own_images(prepared: Prepared, split: str | None) -> Measured:
    """A split of the data that the network was trained on, its test split by default.

    Raises:
        DataError: there is no such split, or it is the test split of a network that has none.
    """
    split = split or TEST
    if split not in OWN_SPLITS:
        raise DataError(
            f"The network was trained on {prepared.root}, whose splits are "
            f"{', '.join(OWN_SPLITS)}. Received: {split!r}."
        )
    images = prepared.split(split)
    if not len(images):
        raise DataError(
            f"The network has no {split} split: all of {prepared.root} went into training and "
            "validation (--test-share 0). Measure it on images that it does not know with --data "
            "FOLDER, or with --split val on its validation split, which flatters it."
        )
    return Measured(images, split, prepared.root, own=True, phantoms=prepared.phantoms)


def images_of(
    data: PathLike | None,
    split: str | None,
    *,
    recipe: Mapping[str, Any],
    fingerprint: str | None,
) -> Measured:
    """The images of a folder that somebody named.

    If the recipe of the network's training makes the training data of it (their fingerprint says
    so, wherever the folder lies now), the split of that training. Other data has no such split:
    every image, or those of one of NIH's official lists.

    Args:
        data: the folder; None as in `preparation.resolve_data`.
        split: a split; None for the test split of the network's own data, every image of others.
        recipe: the choice of images, split, seed, size and fit of the training, for
            `prepare_dataset`.
        fingerprint: of the training data; None if it is not known.

    Raises:
        DataError: the data cannot be used, or names no such split.
    """
    dataset = nih.read_dataset(resolve_data(data))
    for sentence in dataset.notices:
        notice(sentence)
    own = _own(dataset, recipe, fingerprint)
    if own is None:
        return _other(dataset, split or EVERY_IMAGE, Framing.of(recipe))
    return own_images(own, split)


def _own(dataset: Dataset, recipe: Mapping[str, Any], fingerprint: str | None) -> Prepared | None:
    """The data as the network's training prepared it; None if it was not trained on this."""
    if fingerprint is None:
        return None
    try:
        prepared, notices = prepare_dataset(dataset, **recipe)
    except DataError:  # too few images, or no official lists, for the recipe: other data
        return None
    if prepared.fingerprint != fingerprint:
        return None
    for sentence in notices:
        notice(sentence)
    return prepared


def _other(dataset: Dataset, split: str, framing: Framing) -> Measured:
    """Every image of other data, or those of a list."""
    table = dataset.table
    if dataset.lists:
        named = {name: key for key, names in dataset.lists.items() for name in names}
        table = table.assign(split=table[IMAGE].map(named).fillna(""))
    if split != EVERY_IMAGE:
        table = _listed(table, dataset, split)
    store = pixel_store.open_store(list(table["path"]), dataset.root, framing)
    rows, bad = with_pixels(table.reset_index(drop=True), store)
    for sentence in bad:
        notice(sentence)
    which = "all" if split == EVERY_IMAGE else f"NIH's {split} list:"
    counted = (
        f"Other data than the network was trained on, {dataset.root}: {which} {len(rows):,} "
        f"images of {rows[PATIENT].nunique():,} patients."
    )
    notice(counted)
    images = PreparedSplit(
        rows, store.pixels, rows["row"].to_numpy(), encode_cells(rows[FINDING_LABELS])
    )
    return Measured(
        images,
        split,
        dataset.root,
        own=False,
        phantoms=phantom.is_phantom_folder(dataset.root),
        about=(counted, *dataset.notices, *bad[-1:]),
    )


def _listed(table: Any, dataset: Dataset, split: str) -> Any:
    names = ", ".join(sorted(dataset.lists))
    if split not in dataset.lists:
        has = f"it names {names} (NIH's lists)" if names else "it names none"
        raise DataError(
            f"{dataset.root} is not the data that the network was trained on, so it has no split "
            f"of its training, and no list of a split {split!r}: {has}. Leave --split out to "
            "measure every image."
        )
    table = table[table["split"] == split]
    if table.empty:
        raise DataError(
            f"No image of {dataset.root} is in {nih.LIST_NAMES[split]}. Leave --split out to "
            "measure every image."
        )
    return table
