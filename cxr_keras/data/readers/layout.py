"""What a reader gives: a data set's own table, before anybody chose what to do with it.

A reader knows one data set's files and columns and nothing else. What is uncertain, which views are
wanted and which files are on disk is decided for all of them here, in one way.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras.data.array_images import file_of
from cxr_keras.data.dataset import IMAGE, PATH, PATIENT, Dataset, cells_of
from cxr_keras.data.labels import LabelSet
from cxr_keras.data.options import IGNORE, Uncertain
from cxr_keras.data.readers.views import choose_views
from cxr_keras.errors import DataError

YES, NO, MAYBE, UNSAID = 1, 0, -1, -2  # the label is there, is not, is uncertain, is not mentioned


@dataclass(frozen=True)
class LabelTable:
    """A data set's images and labels, as it gives them.

    Attributes:
        images: one row an image: "Image Index" (its name, unique), "path" (of its file, relative
            to the folder; empty where it is not known where it lies), "Patient ID", and where the
            data set has them "View Position" (PA, AP, L …), "Patient Age" (years) and "Patient
            Gender" (F, M), all text but the age.
        truth: int8 (n, n_labels): 1 the label is there, 0 it is not, -1 (`MAYBE`) uncertain, -2
            (`UNSAID`) nobody said.
        labels: names of the columns of `truth`.
        lists: the data set's own splits, see `Dataset.lists`.
        notices: what was left out, a sentence each, with counts.
        shares_patients_with: names of the readers of data sets with the same patients under other
            names, so that the two must not be mixed.
    """

    images: pd.DataFrame
    truth: np.ndarray
    labels: LabelSet
    lists: dict[str, frozenset[str]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    shares_patients_with: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReadOptions:
    """What a person wants of a data set.

    Attributes:
        uncertain: what a label that is uncertain counts as: "ignore" as unknown, "ones" as there,
            "zeros" as absent.
        views: views to keep, "all" for all; None for the frontal ones.
        allow_missing: keep images that are not on disk.
    """

    uncertain: Uncertain = IGNORE
    views: tuple[str, ...] | None = None
    allow_missing: bool = False


def deny_normal(truth: np.ndarray, labels: LabelSet, *devices: str) -> np.ndarray:
    """Where a finding is there and nobody said "normal", normal is absent, not unknown.

    A program that reads reports says "No Finding" or nothing; without this the label would have no
    negative to learn from.

    Args:
        truth: as in `LabelTable`.
        labels: names of its columns, with a normal one.
        devices: labels that are no findings: they may stand beside normal.
    """
    finding = [name != labels.normal and name not in devices for name in labels.names]
    found = (truth[:, finding] == YES).any(axis=1)
    column = labels.names.index(str(labels.normal))
    denied = truth.copy()
    denied[found & (truth[:, column] == UNSAID), column] = NO
    return denied


def assemble(root: Path, found: LabelTable, options: ReadOptions) -> Dataset:
    """The data set of a label table: views chosen, uncertain labels decided, files looked for.

    Raises:
        DataError: no image is left.
    """
    images, truth, notices = found.images.reset_index(drop=True), found.truth, list(found.notices)
    if images[IMAGE].duplicated().any():
        repeated = images.loc[images[IMAGE].duplicated(), IMAGE]
        raise DataError(
            f"The table of {root} lists {len(repeated):,} images twice, such as "
            f"{repeated.iloc[0]}. Keep one row per image."
        )
    images, truth = _with_patients(images, notices), truth.astype("float32")
    truth[truth == UNSAID] = np.nan
    truth = _decided(truth, found.labels.names, options.uncertain, notices)
    table = images.assign(**cells_of(truth, found.labels.names))
    table = choose_views(table, options.views, notices)
    table = _on_disk(root, table, notices, allow_missing=options.allow_missing)
    return Dataset(
        root=root,
        table=table.sort_values(IMAGE, ignore_index=True),
        lists={name: images for name, images in found.lists.items() if images},
        notices=tuple(notices),
        labels=found.labels,
        shares_patients_with=found.shares_patients_with,
    )


def _with_patients(images: pd.DataFrame, notices: list[str]) -> pd.DataFrame:
    """Each image without a patient becomes a patient of its own."""
    known = images[PATIENT] if PATIENT in images.columns else pd.Series("", index=images.index)
    known = known.astype(str).where(known.notna(), "").str.strip()
    nameless = known == ""
    if nameless.any():
        notices.append(
            f"{nameless.sum():,} images have no patient: each counts as a patient of its own."
        )
    return images.assign(**{PATIENT: known.mask(nameless, "unknown " + images[IMAGE])})


def _decided(
    truth: np.ndarray, labels: Sequence[str], uncertain: Uncertain, notices: list[str]
) -> np.ndarray:
    """What is uncertain as a person wants it; says how much that is."""
    maybe = truth == MAYBE
    counts = maybe.sum(axis=0)
    if counts.any():
        meaning = {"ignore": "unknown", "ones": "present", "zeros": "absent"}[uncertain]
        most = np.argsort(-counts, kind="stable")[:3]
        named = ", ".join(f"{labels[i]} {counts[i]:,}" for i in most if counts[i])
        notices.append(
            f"{int(counts.sum()):,} labels are uncertain and count as {meaning} (most: {named}); "
            "--uncertain decides."
        )
    truth[maybe] = {"ignore": np.nan, "ones": 1.0, "zeros": 0.0}[uncertain]
    return truth


def _on_disk(
    root: Path, table: pd.DataFrame, notices: list[str], *, allow_missing: bool
) -> pd.DataFrame:
    """Whole paths, empty where there is no such file; rows without one are left out."""
    paths = [os.path.join(root, path) if path else "" for path in table[PATH].fillna("")]
    there = np.array([bool(path) and os.path.exists(file_of(path)) for path in paths], dtype=bool)
    table = table.assign(**{PATH: np.where(there, np.array(paths, dtype=object), "")})
    if allow_missing or there.all():
        return table
    if not there.any():
        raise DataError(
            f"None of the {len(table):,} images that the table of {root} names is on disk. Put "
            "them where it says, or plan without them: `cxr-keras prepare --allow-missing`."
        )
    notices.append(f"{int((~there).sum()):,} of {len(table):,} images are not on disk: left out.")
    return table[there]
