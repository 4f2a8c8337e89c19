"""ChestMNIST (MedMNIST v2 and v3): NIH ChestX-ray14 in one file, scaled down.

    chestmnist.npz          28×28 pixels
    chestmnist_64.npz       64×64, and so on: _128, _224

Either is named as the data, or the folder that holds one of them. `cxr-keras download DEST --set
chestmnist` fetches it from https://zenodo.org/records/10519652 (CC BY 4.0). An archive has
train_images, train_labels, val_images … test_labels; a label is 1 or 0, in the order of `NAMES`.
They are named as NIH names them, so that the two data sets share their labels; there is none that
means normal.

The archive names no patients. Its own split (70/10/20%) is by patient but is not NIH's: NIH's test
list has 25,596 images, this one 22,433. So keep to it with `--split-method official`, and never mix
the data set with NIH's or RSNA's, whose films these are.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras.data.array_images import arrays_in, read_array, row_path, shape_of
from cxr_keras.data.dataset import IMAGE, PATH, PATIENT
from cxr_keras.data.labels import LabelSet
from cxr_keras.data.options import CHESTMNIST_SIZES
from cxr_keras.data.readers.layout import LabelTable
from cxr_keras.data.readers.registry import register_dataset
from cxr_keras.errors import DataError

NAMES = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
SPLITS = ("train", "val", "test")
SHARES_PATIENTS_WITH = ("nih", "rsna")

_FILE = re.compile(r"chestmnist(_\d+)?\.npz")


def file_name(size: int) -> str:
    """The name of the archive with images of `size` pixels a side."""
    return f"chestmnist{'' if size == CHESTMNIST_SIZES[0] else f'_{size}'}.npz"


def size_of_archive(archive: Path) -> int:
    """Pixels a side of the images in an archive.

    Raises:
        DataError: it cannot be read, or is not ChestMNIST's.
    """
    return int(shape_of(archive, f"{SPLITS[-1]}_images")[1])


@register_dataset(lambda root: bool(find_archives(root)))
def chestmnist(root: Path) -> LabelTable:
    """ChestMNIST: chestmnist.npz, _64, _128 or _224, alone or in a folder."""
    archive = only_archive(root)
    missing = [
        name
        for split in SPLITS
        for name in (f"{split}_images", f"{split}_labels")
        if name not in arrays_in(archive)
    ]
    if missing:
        raise DataError(
            f"{archive} is not ChestMNIST's: it lacks {', '.join(missing)}. Fetch it with "
            "`cxr-keras download DEST --set chestmnist`."
        )
    tables, truths, lists = [], [], {}
    for split in SPLITS:
        truth = _labels_of(archive, split)
        table = _images_of(archive, split, len(truth))
        tables.append(table)
        truths.append(truth)
        lists[split] = frozenset(table[IMAGE])
    return LabelTable(
        images=pd.concat(tables, ignore_index=True),
        truth=np.concatenate(truths),
        labels=LabelSet(NAMES),
        lists=lists,
        notices=(
            "ChestMNIST names no patients; its own split is by patient: --split-method official "
            "keeps them apart, the others do not. Its films are NIH's, so do not test on one what "
            "was trained on the other.",
        ),
        shares_patients_with=SHARES_PATIENTS_WITH,
    )


def place_of(image: str) -> tuple[str, int]:
    """The split of an image of this data set, and which row of the split's arrays it is.

    Raises:
        DataError: it is no image of ChestMNIST.
    """
    split, _, row = image.partition("_")
    if split not in SPLITS or not row.isdecimal():
        raise DataError(f"{image!r} is no image of ChestMNIST, such as test_000123.")
    return split, int(row)


def find_archives(root: Path) -> list[Path]:
    """ChestMNIST's archives that `root` is or holds, the smallest images first."""
    if root.is_file():
        return [root] if _FILE.fullmatch(root.name) else []
    return [
        root / file_name(size) for size in CHESTMNIST_SIZES if (root / file_name(size)).is_file()
    ]


def only_archive(root: Path) -> Path:
    """The one archive that `root` is or holds.

    Raises:
        DataError: there is none, or more than one.
    """
    found = find_archives(root)
    if not found:
        if root.is_file() and root.suffix == ".npz":
            return root  # named by hand: its arrays say what it is
        names = ", ".join(map(file_name, CHESTMNIST_SIZES))
        raise DataError(
            f"{root} is or holds no archive of ChestMNIST ({names}). Fetch one with "
            "`cxr-keras download DEST --set chestmnist`."
        )
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(
            f"{root} holds the same films in several sizes: {names}. Name the file that you want, "
            f"such as {found[-1]}."
        )
    return found[0]


def _labels_of(archive: Path, split: str) -> np.ndarray:
    labels = read_array(archive, f"{split}_labels")
    if labels.ndim != 2 or labels.shape[1] != len(NAMES) or not np.isin(labels, (0, 1)).all():
        raise DataError(
            f"{archive} is not ChestMNIST's: {split}_labels should be 0 or 1 in the shape (n, "
            f"{len(NAMES)}). Received: {labels.dtype} {labels.shape}, up to "
            f"{labels.max(initial=0)}."
        )
    return labels.astype("int8")


def _images_of(archive: Path, split: str, count: int) -> pd.DataFrame:
    """The rows of one split, whose names sort as they stand in the archive."""
    array = f"{split}_images"
    shape = shape_of(archive, array)
    if len(shape) != 3 or shape[0] != count:
        raise DataError(
            f"{archive} is not ChestMNIST's: {array} should have the shape ({count}, side, side), "
            f"as many as {split}_labels. Received: {shape}."
        )
    whole = os.path.abspath(archive)
    return pd.DataFrame(
        {
            IMAGE: [f"{split}_{row:06d}" for row in range(count)],
            PATH: [row_path(whole, array, row) for row in range(count)],
            PATIENT: "",
        }
    )
