"""Which images a network is measured on: a split of its own data, or all of another folder."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cxr_keras.data import phantom
from cxr_keras.data.dataset import IMAGE, Dataset, count_images, truth_of
from cxr_keras.data.given_split import GIVEN
from cxr_keras.data.options import EVERY_IMAGE
from cxr_keras.data.preparation import (
    Prepared,
    PreparedSplit,
    prepare,
    prepare_dataset,
    store_of,
    with_pixels,
)
from cxr_keras.data.readers.harmonised import matching
from cxr_keras.data.reading import Data, Reading
from cxr_keras.data.source import read_data
from cxr_keras.data.splits import TEST
from cxr_keras.errors import DataError
from cxr_keras.evaluation.options import OWN_SPLITS
from cxr_keras.runs import run_folder
from cxr_keras.runs.card import Card
from cxr_keras.utils.console import counted, notice
from cxr_keras.utils.files import part_of_file_name


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
        name: what the data set is called, such as "nih".
        unlike: of the network's own folder: what makes these other images than those of its
            training, as a part of a folder's name; empty for the same.
    """

    images: PreparedSplit
    split: str
    root: Path
    own: bool
    phantoms: bool
    about: tuple[str, ...] = ()
    name: str = ""
    unlike: str = ""


def data_of(file: Path, card: Card, data: Data | None, reading: Reading | None = None) -> Prepared:
    """The data that the network of a file was trained on, or `data`, with its card's recipe."""
    own: Data | None = None
    if data is None:
        own, found = run_folder.own_data(file, card)
        reading = reading or found
    return prepare(data or own, reading=reading or reading_of(card), **recipe_of(card))


def reading_of(card: Card) -> Reading:
    """How a card's training data was read."""
    return Reading(**card.data.get("reading", {}))


def recipe_of(card: Card) -> dict[str, Any]:
    """How a card's training data were chosen, split and framed, as `prepare` takes it."""
    same = ("per_class", "seed", "val_share", "test_share", "size", "fit")
    keys = {name: name for name in same} | {"split_method": "split"}  # its name in run.json
    recipe = {name: card.data[key] for name, key in keys.items() if key in card.data}
    if recipe.get("split_method") == GIVEN:  # the manifest says it
        del recipe["split_method"]
    return recipe


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
    return Measured(
        images, split, prepared.root, own=True, phantoms=prepared.phantoms, name=prepared.name
    )


def images_to_measure(
    file: Path,
    card: Card,
    data: Data | None,
    split: str | None,
    reading: Reading | None = None,
) -> Measured:
    """The images to measure: of the data named, or where nobody names any of the card's own."""
    if data is not None or not card.data or (reading and (reading.table or reading.manifest)):
        return images_of(data, split, card=card, reading=reading)
    prepared = data_of(file, card, data, reading)
    measured = own_images(prepared, split)
    if prepared.fingerprint == card.data.get("fingerprint"):
        return measured
    if reading is None:
        notice("The data has changed since this network was trained: the split may differ.")
        return replace(measured, unlike="changed")
    notice("The data is read in another way than for training: the split may differ.")
    return replace(measured, unlike=part_of_file_name("-".join(reading.words().values())))


def images_of(
    data: Data | None, split: str | None, *, card: Card, reading: Reading | None = None
) -> Measured:
    """The images of data that somebody named.

    If the recipe of the network's training makes the training data of it (their fingerprint says
    so, wherever the folder lies now), the split of that training. Other data has no such split:
    every image, or those of one of its official lists, and the labels that both know.

    Args:
        data: what was named; None as in `source.resolve_data`.
        split: a split; None for the test split of the network's own data, every image of others.
        card: of the network.
        reading: how the data is read; None for that of the network's own data where it is that,
            and as usual where it is other data.

    Raises:
        DataError: the data cannot be used, names no such split, or knows none of the labels.
    """
    for how in (reading,) if reading else dict.fromkeys((reading_of(card), Reading())):
        try:
            dataset = read_data(data, how)
        except DataError:
            if reading or how == Reading():
                raise
            continue  # other data than the network's own, read as usual
        own = _own(dataset, how, card)
        if own is not None:
            return own_images(own, split)
    for sentence in dataset.notices:
        notice(sentence)
    return _other(dataset, split or EVERY_IMAGE, card)


def _own(dataset: Dataset, reading: Reading, card: Card) -> Prepared | None:
    """The data as the network's training prepared it; None if it was not trained on this."""
    fingerprint = card.data.get("fingerprint")
    if fingerprint is None:
        return None
    try:
        prepared, notices = prepare_dataset(dataset, reading=reading, **recipe_of(card))
    except DataError:  # too few images, or no official lists, for the recipe: other data
        return None
    if prepared.fingerprint != fingerprint:
        return None
    for sentence in (*dataset.notices, *notices):
        notice(sentence)
    return prepared


def _other(dataset: Dataset, split: str, card: Card) -> Measured:
    """Every image of other data, or those of a list, with the labels that both know."""
    names, about = _shared_labels(dataset, card)
    table = dataset.table
    if dataset.lists:
        named = {name: key for key, images in dataset.lists.items() for name in images}
        table = table.assign(split=table[IMAGE].map(named).fillna(""))
    if split != EVERY_IMAGE:
        table = _listed(table, dataset, split)
    table = table.reset_index(drop=True)
    store = store_of(dataset, table, card.framing)
    rows, bad = with_pixels(table, store)
    for sentence in bad:
        notice(sentence)
    which = "all" if split == EVERY_IMAGE else f"the official {split} list:"
    where = " + ".join(map(str, dataset.roots))
    counted = f"Other data than the network was trained on, {where}: {which} {count_images(rows)}."
    for sentence in (counted, *about):
        notice(sentence)
    truth = truth_of(rows, list(names.values()))
    return Measured(
        PreparedSplit(rows, store.pixels, rows["row"].to_numpy(), truth, tuple(names)),
        split,
        dataset.root,
        own=False,
        phantoms=any(map(phantom.is_phantom_folder, dataset.roots)),
        about=(counted, *about, *dataset.notices, *bad[-1:]),
        name=dataset.name,
    )


def _shared_labels(dataset: Dataset, card: Card) -> tuple[dict[str, str], list[str]]:
    """The network's name of each label that both know → the data's; and what that leaves out."""
    ours = {our: their for their, our in matching(card.labels, dataset.labels.names).items()}
    names = {name: ours[name] for name in card.labels if name in ours}
    if not names:
        raise DataError(
            f"The network and {dataset.root} know no label in common. The network's: "
            f"{', '.join(card.labels)}; the data's: {', '.join(dataset.labels.names)}."
        )
    about = []
    if len(names) < len(card.labels):
        rest = [name for name in card.labels if name not in names]
        about.append(
            f"Measured on the {counted(len(names), 'label')} that both know: {', '.join(names)}. "
            f"The data does not know {', '.join(rest)}."
        )
    foreign = [name for name in dataset.labels.names if name not in names.values()]
    if foreign:
        shown = ", ".join(foreign[:8]) + (f" and {len(foreign) - 8} more" * (len(foreign) > 8))
        about.append(f"Labels of the data that the network does not predict: {shown}.")
    return names, about


def _listed(table: Any, dataset: Dataset, split: str) -> Any:
    names = ", ".join(sorted(dataset.lists))
    if split not in dataset.lists:
        has = f"it names {names} (official lists)" if names else "it names none"
        raise DataError(
            f"{dataset.root} is not the data that the network was trained on, so it has no split "
            f"of its training, and no list of a split {split!r}: {has}. Leave --split out to "
            "measure every image."
        )
    table = table[table["split"] == split]
    if table.empty:
        raise DataError(
            f"No image of {dataset.root} is in its official {split} list. Leave --split out to "
            "measure every image."
        )
    return table
