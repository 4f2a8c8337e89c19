"""What is in a data folder, from its label table: labels, combinations, age, sex and view.

Figures 2 and 3 of the report, for any data set. No image is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np
import pandas as pd

from cxr_keras import plots
from cxr_keras.data import phantom
from cxr_keras.data.dataset import AGE, FINDING_LABELS, GENDER, PATIENT, VIEW, truth_of
from cxr_keras.data.demographics import groups_of
from cxr_keras.data.reading import Data, Reading, ReadSettings
from cxr_keras.data.source import read_data
from cxr_keras.errors import DataError
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import write_table

LABEL_COUNTS, PATIENTS = "label_counts.csv", "patients.csv"
LABEL_COUNTS_PLOT, COMBINATIONS_PLOT = "label_counts", "combinations"
PLOT_SUFFIXES = (".png", ".svg")
FILES = (
    *(LABEL_COUNTS, PATIENTS),
    *(name + suffix for name in (LABEL_COUNTS_PLOT, COMBINATIONS_PLOT) for suffix in PLOT_SUFFIXES),
)

_GROUPS = {"age": AGE, "sex": GENDER, "view": VIEW}


@dataclass(frozen=True)
class Exploration:
    """What was found in a data folder.

    Attributes:
        labels: one row per label, in the data set's order: label, images, single (of them with
            this label alone), multiple (with others), share (of all images).
        people: one row per age band, sex and view: group, value, images, patients, share (of all
            images); without rows where the table has none of the three columns. A patient counts
            in every band and view that he has an image in.
        images: how many.
        patients: how many.
        multiple_share: share of the images with more than one finding.
        normal: the label that says that there is no finding; None if none does.
        phantoms: whether these are synthetic drawings.
        folder: where the tables and figures (`FILES`) lie.
    """

    labels: pd.DataFrame
    people: pd.DataFrame
    images: int
    patients: int
    multiple_share: float
    normal: str | None
    phantoms: bool
    folder: Path


def explore(
    data: Data | None = None,
    *,
    on_disk: bool = False,
    out: PathLike | None = None,
    **reading: Unpack[ReadSettings],
) -> Exploration:
    """Count labels, their combinations, ages, sexes and views; write tables and figures.

    Args:
        data: a data folder in a known layout (docs/datasets.md), a `Dataset`, or several; None as
            in `resolve_data`.
        on_disk: count only images that are there, not every row of the label table.
        out: folder for the files; by default `explore-<name of the data folder>` here.
        **reading: how the data is read, see `cxr_keras.data.reading.Reading`.

    Raises:
        DataError: the data cannot be read, or `out` cannot be written.
    """
    dataset = read_data(data, Reading.of(reading)[0], allow_missing=not on_disk)
    root = dataset.root
    is_phantom = phantom.is_phantom_folder(root)
    absent = [column for column in _GROUPS.values() if column not in dataset.table.columns]
    for sentence in dataset.notices:
        notice(sentence)
    if absent:
        notice(f"The label table lacks {' and '.join(map(repr, absent))}: not counted by it.")
    # the built-in phantoms lie in the cache, in a folder whose name says nothing
    name = "phantoms" if data is None and is_phantom else root.resolve().name
    labels = label_table(dataset.table, dataset.labels.names)
    found = Exploration(
        labels=labels,
        people=people_table(dataset.table),
        images=len(dataset.table),
        patients=int(dataset.table[PATIENT].nunique()),
        multiple_share=float(dataset.table[FINDING_LABELS].str.contains("|", regex=False).mean()),
        normal=dataset.labels.normal,
        phantoms=is_phantom,
        folder=Path(out).expanduser() if out else Path(f"explore-{name}"),
    )
    _write(found)
    return found


def label_table(images: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Images of each label, and how many of them carry it alone and with others.

    Args:
        images: one row per image, with the cells of `data.dataset`.
        labels: of the data set.

    Returns:
        Columns label, images, single, multiple, share (of the images of which it is known), and
        where some are not known, unknown.
    """
    truth = truth_of(images, labels)
    present, unknown = truth == 1, np.isnan(truth).sum(axis=0)
    alone = present & (present.sum(axis=1, keepdims=True) == 1)
    counts, single = present.sum(axis=0), alone.sum(axis=0)
    known = np.maximum(len(images) - unknown, 1)
    table = pd.DataFrame(
        {
            "label": labels,
            "images": counts,
            "single": single,
            "multiple": counts - single,
            "share": counts / known,
        }
    )
    return table.assign(unknown=unknown) if unknown.any() else table


def people_table(images: pd.DataFrame) -> pd.DataFrame:
    """Images and patients of each age band, sex and view, as far as the table has them.

    Args:
        images: one row per image, "Patient ID" and NIH's columns of age, sex and view.
    """
    groups = groups_of(images)
    rows = []
    for group in _GROUPS:
        if group in groups.columns:
            for value, inside in images.groupby(groups[group])[PATIENT]:
                share = len(inside) / len(images)
                rows.append((group, value, len(inside), inside.nunique(), share))
    return pd.DataFrame(rows, columns=["group", "value", "images", "patients", "share"])


def _write(found: Exploration) -> None:
    note = phantom.NOTICE if found.phantoms else ""
    figures = {
        LABEL_COUNTS_PLOT: plots.label_counts_figure(found.labels, note),
        COMBINATIONS_PLOT: plots.combination_figure(
            found.labels[found.labels["label"] != found.normal], note
        ),
    }
    try:
        found.folder.mkdir(parents=True, exist_ok=True)
        write_table(found.labels, found.folder / LABEL_COUNTS)
        write_table(found.people, found.folder / PATIENTS)
        for name, figure in figures.items():
            for suffix in PLOT_SUFFIXES:
                plots.save_figure(figure, found.folder / (name + suffix))
    except OSError as error:
        raise DataError(
            f"Tables and figures cannot be written to {found.folder} ({error.strerror}). "
            "Give --out with a folder that you can write."
        ) from error
