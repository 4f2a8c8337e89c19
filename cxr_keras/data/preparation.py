"""From a data folder to what training reads: images chosen, split and decoded once."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr_keras.data import phantom, pixel_store
from cxr_keras.data.dataset import FINDING_LABELS, IMAGE, PATH, UNKNOWN_LABELS, Dataset, truth_of
from cxr_keras.data.from_python import function_store
from cxr_keras.data.given_split import GIVEN, given_split
from cxr_keras.data.labels import LABELS, NIH, LabelSet
from cxr_keras.data.options import (
    DEFAULT_SPLIT_METHOD,
    SEED,
    VAL_SHARE,
    SplitMethod,
    images_per_class,
    split_shares,
)
from cxr_keras.data.png_depth import common_depth
from cxr_keras.data.reading import Data, Reading
from cxr_keras.data.selection import choose_images
from cxr_keras.data.source import read_data
from cxr_keras.data.splits import TRAIN, split_images
from cxr_keras.framing import DEFAULT_FRAMING, FIT, SIZE, Fit, Framing
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.arrays import take_rows
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import atomic_file, cache_folder

FOLDER, MANIFEST = "prepared", "manifest.csv"


@dataclass(frozen=True)
class PreparedSplit:
    """The images of one split, ready to be read in batches.

    Attributes:
        rows: the manifest's rows of these images.
        pixels: all decoded images of the store, uint8 (N, side, side), memory-mapped; it
            holds images of other choices, too.
        index: (n,) which rows of `pixels` belong to this split, in the order of `rows`.
        truth: float32 (n, n_labels): 1, 0, or NaN where it is not known.
        labels: names of the columns of `truth`.
    """

    rows: pd.DataFrame
    pixels: np.ndarray
    index: np.ndarray
    truth: np.ndarray
    labels: tuple[str, ...] = LABELS

    def __len__(self) -> int:
        return len(self.index)

    def part(self, places: np.ndarray) -> PreparedSplit:
        """The images at `places` as a split of their own."""
        rows = self.rows.iloc[places].reset_index(drop=True)
        return replace(self, rows=rows, index=self.index[places], truth=self.truth[places])

    def batch(self, places: Any) -> np.ndarray:
        """Pixels of the images at `places` of this split, uint8 (B, side, side, 1)."""
        return take_rows(self.pixels, self.index[places])[..., np.newaxis]


@dataclass(frozen=True)
class Prepared:
    """Chosen, split and decoded images.

    Attributes:
        root: the data folder.
        manifest: one row per image: NIH's columns, "chosen_for", "split", "path", "row" (in the
            store; -1 when planned without images) and "digest" (of the decoded pixels).
        folder: where manifest.csv was written.
        store: the pixel store; None when planned without images.
        split_method: "paper", "patient", "official", or "manifest" for one that a person made.
        phantoms: whether any of these are synthetic drawings.
        not_chosen: images of the folder that were left out because their labels had enough.
        framing: how large the images are stored, and how much of them.
        labels: what the images are labelled for.
        roots: the data folder, and those of the data sets that were joined to it.
        reading: how they were read.
        name: what the data set is called, such as "nih".
        in_python: whether it was made in Python.
    """

    root: Path
    manifest: pd.DataFrame
    folder: Path
    store: pixel_store.PixelStore | None
    split_method: str
    phantoms: bool
    not_chosen: int = 0
    framing: Framing = DEFAULT_FRAMING
    labels: LabelSet = NIH
    roots: tuple[Path, ...] = ()
    reading: Reading = field(default_factory=Reading)
    name: str = ""
    in_python: bool = False

    def split(self, split: str) -> PreparedSplit:
        """The images of "train", "val", "test", or "all" of them."""
        assert self.store is not None, "planned without images"
        rows = self.manifest.iloc[self.places(split)].reset_index(drop=True)
        names = self.labels.names
        truth = truth_of(rows, names)
        return PreparedSplit(rows, self.store.pixels, rows["row"].to_numpy(), truth, names)

    def places(self, split: str) -> np.ndarray:
        """Which rows of the manifest are those of "train", "val", "test", or "all" of them."""
        wanted = self.manifest["split"].to_numpy() == split
        return np.arange(len(wanted)) if split == "all" else np.flatnonzero(wanted)

    def base_rates(self) -> dict[str, float]:
        """Label → its share of the training images for which it is known; 0 where it never is."""
        names = self.labels.names
        truth = truth_of(self.manifest[self.manifest["split"] == TRAIN], names)
        known = np.maximum((~np.isnan(truth)).sum(axis=0), 1)
        rates = np.nansum(truth, axis=0) / known
        return {name: round(float(rate), 6) for name, rate in zip(names, rates, strict=True)}

    @property
    def fingerprint(self) -> str:
        """A digest of the images' names, labels, splits and pixels."""
        names = [IMAGE, FINDING_LABELS, UNKNOWN_LABELS, "split", "digest"]
        columns = self.manifest[[name for name in names if name in self.manifest.columns]]
        text = columns.to_csv(index=False, lineterminator="\n")
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def prepare(
    data: Data | None = None,
    *,
    reading: Reading | None = None,
    per_class: int | str | None = None,
    split_method: SplitMethod = DEFAULT_SPLIT_METHOD,
    seed: int = SEED,
    size: int = SIZE,
    fit: Fit = FIT,
    val_share: float = VAL_SHARE,
    test_share: float | None = None,
    allow_missing: bool = False,
    out: PathLike | None = None,
) -> Prepared:
    """Choose images, split them, decode each once, and write manifest.csv.

    Args:
        data: one data set or several, see `source.read_data`.
        reading: how they are read.
        per_class: images chosen for each label, or "all"; by default 300, or every image for the
            official split.
        split_method: "patient", "paper" or "official".
        seed: of choice and split: what training calls its data seed.
        size: side in pixels of what a network sees, 64…1024; images are stored at what it needs.
        fit: "crop" keeps the centre square, "whole" all of the image (see `Framing`).
        val_share: of the images that are not test, above 0 and below 1.
        test_share: of the chosen images, below 1; 0 for no test split. By default 0.2; not for the
            official split, whose test images are NIH's list.
        allow_missing: plan on the label table alone; nothing is decoded.
        out: folder for manifest.csv; by default one in the cache.

    Raises:
        DataError: the data cannot be used as asked.
        CxrError: there is no such size or fit.
    """
    split_shares(val_share, test_share, split_method)  # refused before any work is done
    dataset = read_data(data, reading, allow_missing=allow_missing)
    for sentence in dataset.notices:
        notice(sentence)
    prepared, notices = prepare_dataset(
        dataset,
        reading=reading,
        per_class=per_class,
        split_method=split_method,
        seed=seed,
        size=size,
        fit=fit,
        val_share=val_share,
        test_share=test_share,
        allow_missing=allow_missing,
        out=out,
    )
    for sentence in notices:
        notice(sentence)
    return prepared


def prepare_dataset(
    dataset: Dataset,
    *,
    reading: Reading | None = None,
    per_class: int | str | None = None,
    split_method: SplitMethod = DEFAULT_SPLIT_METHOD,
    seed: int = SEED,
    size: int = SIZE,
    fit: Fit = FIT,
    val_share: float = VAL_SHARE,
    test_share: float | None = None,
    allow_missing: bool = False,
    out: PathLike | None = None,
) -> tuple[Prepared, list[str]]:
    """`prepare` of data that was read; its notices are returned, not said."""
    root, reading = dataset.root, reading or Reading()
    given = reading.manifest is not None
    per_class = None if given else images_per_class(per_class, split_method)
    framing = Framing(size, fit)
    limit = None if isinstance(per_class, str) else per_class
    names = dataset.labels.names
    chosen = choose_images(dataset.table, per_class=limit, seed=seed, labels=names)
    not_chosen = len(dataset.table) - len(chosen)
    store = None if allow_missing else store_of(dataset, chosen, framing)
    chosen, bad = with_pixels(chosen, store)
    shares = split_shares(val_share, test_share, split_method)
    if given:
        manifest, notices = given_split(chosen, dataset)
    else:
        manifest, notices = split_images(
            chosen,
            dataset,
            method=split_method,
            seed=seed,
            val_share=val_share,
            test_share=test_share,
        )
    places = os.pathsep.join(str(one.resolve()) for one in dataset.roots)
    setting = f"{places} {per_class} {split_method} {seed} {shares} {allow_missing}"
    setting += "" if framing == DEFAULT_FRAMING else f" {framing}"
    setting += f" {said}" if (said := reading.said()) else ""
    key = hashlib.sha256(setting.encode()).hexdigest()[:12]
    folder = Path(out) if out else cache_folder(FOLDER, key)
    manifest = _written(manifest, folder)
    beside = [Path(path).parent.parent for path in manifest[PATH].head(1) if path]  # of a CSV
    is_phantom = any(map(phantom.is_phantom_folder, (*dataset.roots, *beside)))
    prepared = Prepared(
        root,
        manifest,
        folder,
        store,
        GIVEN if given else split_method,
        is_phantom,
        not_chosen,
        framing,
        dataset.labels,
        dataset.roots,
        reading,
        dataset.name,
        dataset.in_python,
    )
    return prepared, bad + notices


def _written(manifest: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The manifest, written; its paths are whole, so that it can be read from anywhere."""
    whole = [os.path.abspath(path) if path else "" for path in manifest[PATH]]
    manifest = manifest.assign(**{PATH: whole})
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / MANIFEST) as temporary:
        manifest.to_csv(temporary, index=False, errors="backslashreplace")
    return manifest


def store_of(dataset: Dataset, rows: pd.DataFrame, framing: Framing) -> pixel_store.PixelStore:
    """The decoded images of some rows of a data set, in their order."""
    if dataset.pixels is not None:
        return function_store(dataset.pixels, list(rows[IMAGE]), framing)
    place = os.pathsep.join(os.path.abspath(root) for root in dataset.roots)
    bits = common_depth([path for path in dataset.table[PATH] if path])
    return pixel_store.open_store(list(rows[PATH]), place, framing, bits=bits)


def with_pixels(
    chosen: pd.DataFrame, store: pixel_store.PixelStore | None
) -> tuple[pd.DataFrame, list[str]]:
    """Add "row" and "digest"; leave out, name and count what could not be decoded."""
    if store is None:
        return chosen.assign(row=-1, digest=""), []
    bad = store.bad()
    notices = [f"Left out: {error}" for error in bad["error"].head(10)]
    if len(bad):
        count = f"{len(bad):,} of {len(chosen):,} images"
        notices.append(f"{count} cannot be decoded and are left out.")
    chosen = chosen.assign(**{name: store.index[name].to_numpy() for name in ("row", "digest")})
    return chosen[chosen["digest"] != ""].reset_index(drop=True), notices
