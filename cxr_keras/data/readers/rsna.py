"""RSNA Pneumonia Detection Challenge (2018): frontal films of NIH's, read again for pneumonia.

    stage_2_train_labels.csv            patientId, x, y, width, height, Target; a row for each box
    stage_2_detailed_class_info.csv     patientId, class                        where present
    stage_2_train_images/<id>.png       or .jpg; also stage_2_train_images_png/ or _jpg/
    pneumonia-challenge-dataset-mappings_2018.json                              where present

From https://www.kaggle.com/c/rsna-pneumonia-detection-challenge; the mappings from the challenge's
page at https://www.rsna.org. Each table is plain or .gz.

Labels. Target is 1 where radiologists marked a lung opacity that may be pneumonia, so it is the
label "Pneumonia". It is not "Lung Opacity" as others use it: a film with a mass or an effusion has
Target 0 ("No Lung Opacity / Not Normal"). "No Finding" is the class "Normal" of the second table;
without that table there is no such label.

Patients. A patientId is that of an image: 26,684 of them, though some are of one person. Only the
mappings say of whom, by NIH's numbers. The films are NIH's, so the data set is never to be mixed
with NIH's or ChestMNIST.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import IMAGE, PATH, PATIENT
from cxr_keras.data.images import SUFFIXES
from cxr_keras.data.labels import NO_FINDING, LabelSet
from cxr_keras.data.readers.csv_files import find_table, read_csv, require
from cxr_keras.data.readers.layout import NO, UNSAID, YES, LabelTable
from cxr_keras.data.readers.registry import register_dataset
from cxr_keras.errors import DataError

LABELS_NAME = "stage_2_train_labels.csv"
CLASSES_NAME = "stage_2_detailed_class_info.csv"
MAPPINGS_NAME = "pneumonia-challenge-dataset-mappings_2018.json"
IMAGE_FOLDERS = tuple(f"stage_2_train_images{ending}" for ending in ("", "_png", "_jpg"))
PNEUMONIA = "Pneumonia"
OPACITY = "Lung Opacity"
CLASSES = ("Normal", "No Lung Opacity / Not Normal", OPACITY)
SHARES_PATIENTS_WITH = ("nih", "chestmnist")

_ID, _TARGET, _CLASS = "patientId", "Target", "class"


@register_dataset(lambda root: find_table(root, LABELS_NAME) is not None)
def rsna(root: Path) -> LabelTable:
    """RSNA Pneumonia Detection Challenge: stage_2_train_labels.csv, stage_2_train_images/."""
    source = find_table(root, LABELS_NAME)
    if source is None:
        raise DataError(
            f"{root} holds no {LABELS_NAME}. Put the challenge's tables and images there, from "
            "https://www.kaggle.com/c/rsna-pneumonia-detection-challenge."
        )
    targets = _one_a_film(source, _TARGET, ("0", "1"))
    notices = ["RSNA's films are NIH's, so do not test on one what was trained on the other."]
    classes = _classes_of(root, targets, notices)
    pneumonia = np.where(targets == "1", YES, NO).astype("int8")
    truth, labels = pneumonia[:, np.newaxis], LabelSet((PNEUMONIA,))
    if classes is not None:
        truth = np.stack([_normal(classes, pneumonia), pneumonia], axis=1)
        labels = LabelSet((NO_FINDING, PNEUMONIA), normal=NO_FINDING)
    files = _files(root)
    images = pd.DataFrame(
        {
            IMAGE: targets.index,
            PATH: [files.get(name, "") for name in targets.index],
            PATIENT: _patients_of(root, targets.index, notices),
        }
    )
    return LabelTable(
        images, truth, labels, notices=tuple(notices), shares_patients_with=SHARES_PATIENTS_WITH
    )


def _one_a_film(source: Path, column: str, allowed: tuple[str, ...]) -> pd.Series:
    """What a table with one or more rows a film says of each, by its id.

    Raises:
        DataError: a value is none of `allowed`, or a film has two.
    """
    table = read_csv(source)
    require(table, source, _ID, column)
    table = table[[_ID, column]].apply(lambda cells: cells.str.strip())
    bad = ~table[column].isin(allowed)
    if bad.any():
        row = int(table.index[bad][0])
        raise DataError(
            f"{source}: the column {column!r} holds {table[column][row]!r} in row {row + 2:,}. It "
            f"should be one of: {', '.join(map(repr, allowed))}. Fetch the table again."
        )
    table = table.drop_duplicates()
    twice = table[_ID].duplicated()
    if twice.any():
        name = table.loc[twice, _ID].iloc[0]
        values = " and ".join(map(repr, table.loc[table[_ID] == name, column]))
        raise DataError(
            f"{source}: the column {column!r} holds {values} for {name}. Fetch the table again."
        )
    return table.set_index(_ID)[column]


def _classes_of(root: Path, targets: pd.Series, notices: list[str]) -> pd.Series | None:
    """The class of each film, "" where it is not said; None without the table."""
    source = find_table(root, CLASSES_NAME)
    if source is None:
        notices.append(f"There is no {CLASSES_NAME}, so no label says that a film is normal.")
        return None
    classes = _one_a_film(source, _CLASS, CLASSES).reindex(targets.index, fill_value="")
    absent = int((classes == "").sum())
    if absent:
        notices.append(f"{absent:,} films have no class: unknown whether they are normal.")
    against = int(((classes != "") & ((classes == OPACITY) != (targets == "1"))).sum())
    if against:
        notices.append(f"{against:,} films have a Target that is not their class: Target counts.")
    return classes


def _normal(classes: pd.Series, pneumonia: np.ndarray) -> np.ndarray:
    normal = np.where(classes == CLASSES[0], YES, np.where(classes == "", UNSAID, NO))
    return np.where(pneumonia == YES, NO, normal).astype("int8")


def _patients_of(root: Path, films: pd.Index, notices: list[str]) -> list[str]:
    """Whose each film is, by NIH's number where the mappings are there, else nobody's."""
    source = find_table(root, MAPPINGS_NAME)
    if source is None:
        notices.append(
            f"RSNA names films, not patients, so a patient may be in two splits; {MAPPINGS_NAME} "
            f"from the challenge's page at rsna.org, put into {root}, says whose each film is."
        )
        return [""] * len(films)
    try:
        rows: list[dict[str, Any]] = json.loads(source.read_text(encoding="utf-8-sig"))
        patients = {row["subset_img_id"]: _nih_patient(row["img_id"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{source} is not RSNA's ({error}): it should be a list of objects with "
            "'subset_img_id' and 'img_id', such as '00000165_001.png'. Fetch it again, or remove "
            "it."
        ) from error
    return [patients.get(name, "") for name in films]


def _nih_patient(image: str) -> str:
    """NIH's patient of NIH's image: 00000165_001.png → 165."""
    return str(int(image.partition("_")[0]))


def _files(root: Path) -> dict[str, str]:
    """Id → path of the film, relative to the folder."""
    found: dict[str, str] = {}
    for folder in IMAGE_FOLDERS:
        if (root / folder).is_dir():
            for name in sorted(os.listdir(root / folder)):
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in SUFFIXES:
                    found.setdefault(stem, f"{folder}/{name}")
    return found
