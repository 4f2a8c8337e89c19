"""A folder in VinDr-CXR's layout, PhysioNet's or Kaggle's → its label table.

PhysioNet's, 28 labels (22 local ones, 6 of the whole image):

    annotations/image_labels_train.csv    15,000 images × 3 radiologists, a row each; 1 or 0 a label
    annotations/image_labels_test.csv     3,000 images, a row each, agreed on by five radiologists
    train/<image_id>.png …                the list "train_val"
    test/<image_id>.png …                 the list "test"

Kaggle's (VinBigData Chest X-ray Abnormalities Detection), 15 labels:

    train.csv                             a row for each box, or "No finding", of a radiologist
    train/<image_id>.png …                its test images have no labels and are not read

Tables may be plain or .gz. Both data sets come as DICOM; the images here are PNG or JPEG.

An image has a label if more than half of its radiologists gave it, so two of three. Where three
radiologists saw three different findings, it has none of them, and "No finding" neither. Of a tie
the label is uncertain.

Every image is a PA view. No patient is named, so each image counts as a patient of its own; age
and sex are in the DICOM files only.

From https://physionet.org/content/vindr-cxr and
https://www.kaggle.com/c/vinbigdata-chest-xray-abnormalities-detection. Nguyen et al., VinDr-CXR: An
open dataset of chest X-rays with radiologist's annotations, Scientific Data 2022,
https://doi.org/10.1038/s41597-022-01498-w
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import IMAGE, PATH, TRAIN_VAL, VIEW
from cxr_keras.data.images import SUFFIXES
from cxr_keras.data.labels import LabelSet
from cxr_keras.data.readers.csv_files import (
    find_table,
    has_columns,
    label_values,
    read_columns,
    read_csv,
    require,
)
from cxr_keras.data.readers.layout import MAYBE, NO, UNSAID, YES, LabelTable
from cxr_keras.data.readers.registry import register_dataset
from cxr_keras.errors import DataError

KAGGLE = LabelSet(
    (
        "Aortic enlargement",
        "Atelectasis",
        "Calcification",
        "Cardiomegaly",
        "Consolidation",
        "ILD",
        "Infiltration",
        "Lung Opacity",
        "Nodule/Mass",
        "Other lesion",
        "Pleural effusion",
        "Pleural thickening",
        "Pneumothorax",
        "Pulmonary fibrosis",
        "No finding",
    ),
    normal="No finding",
)
PHYSIONET = LabelSet(
    (
        *KAGGLE.findings,
        "Clavicle fracture",
        "Edema",
        "Emphysema",
        "Enlarged PA",
        "Lung cavity",
        "Lung cyst",
        "Mediastinal shift",
        "Rib fracture",
        "COPD",
        "Lung tumor",
        "Pneumonia",
        "Tuberculosis",
        "Other diseases",
        "No finding",
    ),
    normal="No finding",
    aliases={"Other disease": "Other diseases"},  # spelt so in some copies of the test table
)

_ID, _READER, _CLASS = "image_id", "rad_id", "class_name"
_FOLDERS = {TRAIN_VAL: "train", "test": "test"}


def _annotations(folder: Path) -> dict[str, Path]:
    """List → PhysioNet's table of it, those that are there."""
    found = {
        name: find_table(folder / "annotations", f"image_labels_{part}.csv")
        for name, part in _FOLDERS.items()
    }
    return {name: source for name, source in found.items() if source}


def _boxes(folder: Path) -> Path | None:
    """Kaggle's table."""
    source = find_table(folder, "train.csv")
    return source if has_columns(source, _ID, _CLASS, _READER) else None


@register_dataset(lambda folder: bool(_annotations(folder)) or _boxes(folder) is not None)
def vindr(folder: Path) -> LabelTable:
    """VinDr-CXR: annotations/image_labels_train.csv (PhysioNet) or train.csv (Kaggle), train/.

    Raises:
        DataError: no table, or a cell that means nothing.
    """
    sources, boxes = _annotations(folder), _boxes(folder)
    if sources:
        parts = {name: _physionet(source) for name, source in sources.items()}
        labels = PHYSIONET
    elif boxes:
        parts, labels = {TRAIN_VAL: _kaggle(boxes)}, KAGGLE
    else:
        raise DataError(
            f"{folder} holds no table of VinDr-CXR's. It needs annotations/image_labels_train.csv "
            f"or Kaggle's train.csv with the columns {_ID!r}, {_CLASS!r} and {_READER!r}."
        )
    images = [_images(folder, _FOLDERS[name], names) for name, (names, _) in parts.items()]
    lists = {name: frozenset(names) for name, (names, _) in parts.items()}
    return LabelTable(
        images=pd.concat(images, ignore_index=True),
        truth=np.concatenate([truth for _, truth in parts.values()]),
        labels=labels,
        lists=lists if sources else {},
    )


def _physionet(source: Path) -> tuple[pd.Index, np.ndarray]:
    """Images and what most of their radiologists say of each label."""
    table = read_csv(source)
    table = table.rename(columns=lambda name: PHYSIONET.canonical(name) or name)
    require(table, source, _ID, *PHYSIONET.names)
    if table.empty:
        raise DataError(f"{source} has no row, so it names no image. Fetch it again.")
    said = label_values(table, source, PHYSIONET.names, _ID)
    image, names = pd.factorize(table[_ID].str.strip())
    yes, no = (_count(image, said == value, len(names)) for value in (YES, NO))
    return pd.Index(names), _majority(yes, no)


def _kaggle(source: Path) -> tuple[pd.Index, np.ndarray]:
    """Images and what most of their radiologists say of each label."""
    table = read_columns(source, _ID, _CLASS, _READER).drop_duplicates()  # many boxes, one label
    spelt = table[_CLASS].map({name: KAGGLE.canonical(name) for name in table[_CLASS].unique()})
    if spelt.isna().any():
        first = table[spelt.isna()].iloc[0]
        raise DataError(
            f"{source}: a {_CLASS} is one of: {', '.join(KAGGLE.names)}. "
            f"Received: {first[_CLASS]!r} for {first[_ID]}."
        )
    image, names = pd.factorize(table[_ID])
    flags = spelt.to_numpy()[:, None] == np.array(KAGGLE.names, dtype=object)
    yes = _count(image, flags, len(names))
    readers = table.groupby(image)[_READER].nunique().to_numpy()
    return pd.Index(names), _majority(yes, readers[:, None] - yes)


def _count(image: np.ndarray, flags: np.ndarray, n_images: int) -> np.ndarray:
    """How many of each image's rows have each flag: (n_images, n_labels)."""
    counts = np.zeros((n_images, flags.shape[1]), dtype="int16")
    np.add.at(counts, image, flags.astype("int16"))
    return counts


def _majority(yes: np.ndarray, no: np.ndarray) -> np.ndarray:
    truth = np.select([yes > no, yes < no, yes > 0], [YES, NO, MAYBE], UNSAID)
    return truth.astype("int8")


def _images(folder: Path, part: str, names: pd.Index) -> pd.DataFrame:
    """One row an image; its path is empty where no PNG or JPEG of that name is there."""
    directory = folder / part
    there = {entry.name for entry in directory.iterdir()} if directory.is_dir() else set()
    paths = (
        next((f"{part}/{name}{suffix}" for suffix in SUFFIXES if name + suffix in there), "")
        for name in names
    )
    return pd.DataFrame({IMAGE: names, PATH: list(paths), VIEW: "PA"})
