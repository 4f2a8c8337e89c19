"""A folder in CheXpert's layout → its label table.

    train.csv                     or train.csv.gz; 223,414 images of 64,540 patients
    valid.csv                     or valid.csv.gz; 234 images of 200 other patients
    train/patient00001/study1/view1_frontal.jpg …
    valid/patient64541/study1/view1_frontal.jpg …

The folder is the one with the tables, whatever its name, or the one above it if the tables lie in
its CheXpert-v1.0 or CheXpert-v1.0-small. "Path" in the tables starts with that name; the images
are looked for beside the tables.

A label is 1, 0, -1 (uncertain) or blank. Blank is unknown, not absent: the report that the label
was read from does not mention it. "No Finding" is 1 or blank in train.csv. Beside it what the
report does not mention stays unknown; a blank one beside a finding (support devices are none) is
absent, or it would have no negative.

train.csv was labelled by a program from reports, valid.csv by three radiologists from the images.
valid.csv is therefore the list "test", as in most papers, and train.csv is "train_val".

From https://stanfordmlgroup.github.io/competitions/chexpert (registration). Irvin et al., CheXpert:
A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison, AAAI 2019,
https://arxiv.org/abs/1901.07031
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import AGE, GENDER, IMAGE, PATH, PATIENT, TRAIN_VAL, VIEW
from cxr_keras.data.labels import NO_FINDING, LabelSet
from cxr_keras.data.readers.csv_files import find_table, has_columns, label_values, read_columns
from cxr_keras.data.readers.layout import LabelTable, deny_normal
from cxr_keras.data.readers.registry import register_dataset
from cxr_keras.data.readers.views import FRONTAL
from cxr_keras.errors import DataError

DEVICES = "Support Devices"  # may stand beside "No Finding"
CHEXPERT = LabelSet(
    (
        NO_FINDING,
        "Enlarged Cardiomediastinum",
        "Cardiomegaly",
        "Lung Opacity",
        "Lung Lesion",
        "Edema",
        "Consolidation",
        "Pneumonia",
        "Atelectasis",
        "Pneumothorax",
        "Pleural Effusion",
        "Pleural Other",
        "Fracture",
        DEVICES,
    ),
    normal=NO_FINDING,
)
LIST_NAMES = {TRAIN_VAL: "train.csv", "test": "valid.csv"}

_PATH, _SEX, _AGE, _SIDE, _DIRECTION = "Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"
_INSIDE = r"(?:^|/)((?:train|valid|test)/(patient\d+)/.+)$"  # without the data set's own folder


def _homes(folder: Path) -> list[Path]:
    """The folders with CheXpert's tables: `folder`, or those in it with CheXpert's name."""
    candidates = [folder, *sorted(folder.glob("CheXpert-v1.0*"))]
    return [home for home in candidates if any(_tables(home).values())]


def _tables(home: Path) -> dict[str, Path | None]:
    """List → its table, None where there is none."""
    found = {name: find_table(home, file) for name, file in LIST_NAMES.items()}
    return {
        name: source if has_columns(source, _PATH, _SIDE) else None
        for name, source in found.items()
    }


@register_dataset(lambda folder: bool(_homes(folder)))
def chexpert(folder: Path) -> LabelTable:
    """CheXpert: train.csv, valid.csv, train/patient00001/…

    Raises:
        DataError: no table or several folders with some, or a cell that means nothing.
    """
    homes = _homes(folder)
    if not homes:
        raise DataError(
            f"{folder} holds no table of CheXpert's. It needs train.csv or valid.csv with the "
            f"columns {_PATH!r} and {_SIDE!r}."
        )
    if len(homes) > 1:
        raise DataError(
            f"{folder} holds CheXpert {len(homes)} times: "
            f"{', '.join(str(home) for home in homes)}. Name one of them."
        )
    sources = {name: source for name, source in _tables(homes[0]).items() if source}
    columns = (_PATH, _SEX, _AGE, _SIDE, _DIRECTION, *CHEXPERT.names)
    tables = {name: read_columns(source, *columns) for name, source in sources.items()}
    images = {name: _images(table, sources[name]) for name, table in tables.items()}
    whole = pd.concat(images.values(), ignore_index=True)
    beside = homes[0].relative_to(folder).as_posix()
    return LabelTable(
        images=whole.assign(
            **{PATH: whole[IMAGE] if beside == "." else f"{beside}/" + whole[IMAGE]}
        ),
        truth=deny_normal(
            np.concatenate(
                [label_values(tables[n], sources[n], CHEXPERT.names, _PATH) for n in tables]
            ),
            CHEXPERT,
            DEVICES,
        ),
        labels=CHEXPERT,
        lists={name: frozenset(rows[IMAGE]) for name, rows in images.items()},
        notices=_notices(tables),
    )


def _images(table: pd.DataFrame, source: Path) -> pd.DataFrame:
    parts = table[_PATH].str.extract(_INSIDE)
    if parts[0].isna().any():
        wrong = table.loc[parts[0].isna(), _PATH].iloc[0]
        raise DataError(
            f"{source}: a path names the list, the patient and the file, such as "
            f"CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg. Received: {wrong!r}."
        )
    side, direction = table[_SIDE], table[_DIRECTION]
    view = direction.where(direction.isin(FRONTAL), "").mask(side == "Lateral", "L")
    return pd.DataFrame(
        {
            IMAGE: parts[0],
            PATIENT: parts[1],
            VIEW: view,
            AGE: pd.to_numeric(table[_AGE], errors="coerce"),
            GENDER: table[_SEX].map({"Female": "F", "Male": "M"}).fillna(""),
        }
    )


def _notices(tables: dict[str, pd.DataFrame]) -> tuple[str, ...]:
    """17 images of train.csv are "Frontal" and "LL" or "RL", which are lateral."""
    table = pd.concat([table[[_SIDE, _DIRECTION]] for table in tables.values()])
    odd = (table[_SIDE] == "Frontal") & ~table[_DIRECTION].isin(FRONTAL)
    if not odd.any():
        return ()
    kinds = ", ".join(repr(kind) for kind in sorted(set(table.loc[odd, _DIRECTION])))
    return (
        f"{odd.sum():,} images are Frontal but {kinds} in {_DIRECTION}: kept, their view unknown.",
    )
