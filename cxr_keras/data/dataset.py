"""A data set as everything after the readers sees it: one table of images, and its labels.

The table has one row an image. Whatever the data set calls them, its columns are named as NIH
names them, and what is not known of a data set has no column:

    Image Index       the image's name, unique in the table
    path              where its file lies; empty where it is not on disk
    Patient ID        its patient
    Finding Labels    the labels that it has, "A|B"
    Unknown Labels    those of which nobody knows, "C|D"; no column where all are known
    View Position     PA, AP, L …
    Patient Age       in years
    Patient Gender    F, M

A label in neither cell is absent from the image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras.data.labels import NIH, LabelSet
from cxr_keras.data.multi_hot import decode_rows, encode_cells

IMAGE, FINDING_LABELS, PATIENT = "Image Index", "Finding Labels", "Patient ID"
UNKNOWN_LABELS, PATH = "Unknown Labels", "path"
AGE, GENDER, VIEW = "Patient Age", "Patient Gender", "View Position"
TRAIN_VAL = "train_val"  # a list of images of which a data set leaves it open which are val


@dataclass(frozen=True)
class Dataset:
    """A readable data set.

    Attributes:
        root: its folder, or the file that its images lie in.
        table: one row per image, sorted by "Image Index", see this module.
        lists: the data set's own splits, where it has some: "train", "val", "test" or "train_val" →
            image names.
        notices: what was wrong or missing, a sentence each.
        labels: what its images are labelled for.
        pixels: image's name → its grey pixels, a uint8 array (height, width), for a data set whose
            images are no files; None where "path" names them.
        name: what the data set is called, such as "nih"; empty where nobody says.
        others: the folders of the data sets that were joined to it.
        in_python: whether it was made in Python, so that no folder says what it is.
        shares_patients_with: names of data sets whose patients are among its own.
    """

    root: Path
    table: pd.DataFrame
    lists: dict[str, frozenset[str]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    labels: LabelSet = NIH
    pixels: Callable[[str], np.ndarray] | None = None
    name: str = ""
    others: tuple[Path, ...] = ()
    in_python: bool = False
    shares_patients_with: tuple[str, ...] = ()

    @classmethod
    def from_table(
        cls,
        table: pd.DataFrame,
        images: str | os.PathLike[str] | Callable[[str], np.ndarray],
        *,
        labels: LabelSet | Sequence[str],
        image_column: str = "image",
        patient_column: str | None = "patient",
        name: str = "table",
    ) -> Dataset:
        """A data set made in Python.

        Args:
            table: one row an image. A column for each label holds 1 (there), 0 (absent), -1
                (uncertain: unknown) or nothing (unknown); "view", "age" (years), "sex" (F, M) and
                "split" (train, val, test) are taken where they are there.
            images: the folder that the image column's paths are relative to; or a function from an
                image's name to its grey pixels, a uint8 array (height, width), 0 black … 255 white,
                which is called for one image at a time.
            labels: names of the columns of labels; of names, "No Finding" or "Normal" is the one
                that says that there is no finding.
            image_column: the column of the images' names or paths.
            patient_column: the column of the patients; None where each image is of a patient of
                its own.
            name: what the data set is called.

        Raises:
            DataError: a column is missing, a value is none that it can hold, or no image is there.

        Example:
            >>> import pandas as pd
            >>> from cxr_keras import Dataset, train
            >>> table = pd.read_csv("data/clinic/clinic.csv")
            >>> data = Dataset.from_table(table, "data/clinic/scans", labels=["Edema", "Mass"])
            >>> run = train("resnet_custom", data=data, epochs=1, size=64)
        """
        from cxr_keras.data.from_python import dataset_from_table

        return dataset_from_table(
            table,
            images,
            labels=labels,
            image_column=image_column,
            patient_column=patient_column,
            name=name,
        )

    @property
    def roots(self) -> tuple[Path, ...]:
        """Its folder, and those of the data sets that were joined to it."""
        return (self.root, *self.others)

    def named(self, name: str) -> Dataset:
        """The same with a name."""
        return replace(self, name=name)

    def with_table(self, table: pd.DataFrame, *notices: str) -> Dataset:
        """The same with other rows, and what that means for a person."""
        return replace(self, table=table, notices=(*self.notices, *notices))


def truth_of(rows: pd.DataFrame, labels: Sequence[str]) -> np.ndarray:
    """What is known of the labels of images.

    Args:
        rows: one row an image, with the cells of this module.
        labels: names in the spelling of the cells.

    Returns:
        float32 (n, n_labels): 1, 0, or NaN where it is not known.
    """
    truth = encode_cells(rows[FINDING_LABELS], labels)
    if UNKNOWN_LABELS in rows.columns:
        unknown = encode_cells(rows[UNKNOWN_LABELS].fillna(""), labels)
        truth[unknown > 0] = np.nan
    return truth


def cells_of(truth: np.ndarray, labels: Sequence[str]) -> dict[str, list[str]]:
    """The cells of `truth`, the inverse of `truth_of`, without the second where all is known.

    Args:
        truth: (n, n_labels): 1, 0, or NaN where it is not known.
        labels: names of its columns.
    """
    cells = {FINDING_LABELS: decode_rows(truth == 1, labels)}
    unknown = np.isnan(truth)
    if unknown.any():
        cells[UNKNOWN_LABELS] = decode_rows(unknown, labels)
    return cells


def count_images(rows: pd.DataFrame) -> str:
    """How many images of how many patients, for people."""
    patients = rows[PATIENT].nunique()
    return f"{len(rows):,} images of {patients:,} patients"
