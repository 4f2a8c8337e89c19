"""A folder in MIMIC-CXR-JPG's layout → its label table.

    mimic-cxr-2.0.0-chexpert.csv.gz    labels of 227,827 studies; or …-negbio.csv.gz
    mimic-cxr-2.0.0-metadata.csv.gz    377,110 images: study, patient, view
    mimic-cxr-2.0.0-split.csv.gz       train, validate or test of each image, where present
    files/p10/p10000032/s50414267/02aa804e-bde0afdd-112c0b34-7bc16630-4e384014.jpg …

Each table may be plain (.csv) or packed (.csv.gz). Where both label tables are there, CheXpert's
labels are read. Version 2.1.0 of the data set keeps these names.

The labels are CheXpert's 14, and a blank is unknown, as in CheXpert. They were read from the report
of a study, so every image of the study has them. An image's name is its "dicom_id". The data set
gives no age and no sex.

From https://physionet.org/content/mimic-cxr-jpg (credentialed access). Johnson et al.,
MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs, 2019,
https://arxiv.org/abs/1901.07042
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cxr_keras.data.dataset import IMAGE, PATH, PATIENT, VIEW
from cxr_keras.data.readers.chexpert import CHEXPERT, DEVICES
from cxr_keras.data.readers.csv_files import find_table, label_values, read_columns
from cxr_keras.data.readers.layout import LabelTable, deny_normal
from cxr_keras.data.readers.registry import register_dataset
from cxr_keras.errors import DataError

LABEL_NAMES = ("mimic-cxr-2.0.0-chexpert.csv", "mimic-cxr-2.0.0-negbio.csv")
META_NAME = "mimic-cxr-2.0.0-metadata.csv"
SPLIT_NAME = "mimic-cxr-2.0.0-split.csv"
LIST_NAMES = {"train": "train", "validate": "val", "test": "test"}  # theirs → ours
SUFFIX = ".jpg"

_DICOM, _STUDY, _SUBJECT, _VIEW = "dicom_id", "study_id", "subject_id", "ViewPosition"
_LATERAL = ("LATERAL", "LL")


def _is_mimic(folder: Path) -> bool:
    return find_table(folder, *LABEL_NAMES, META_NAME) is not None


@register_dataset(_is_mimic)
def mimic_cxr(folder: Path) -> LabelTable:
    """MIMIC-CXR-JPG: mimic-cxr-2.0.0-chexpert.csv.gz, …-metadata.csv.gz, files/p10/…

    Raises:
        DataError: a table is not there, or a cell that means nothing.
    """
    labels_from, images_from = find_table(folder, *LABEL_NAMES), find_table(folder, META_NAME)
    if labels_from is None or images_from is None:
        raise DataError(
            f"{folder} lacks {' or '.join(LABEL_NAMES) if labels_from is None else META_NAME} "
            "(or .gz). MIMIC-CXR-JPG needs its labels and its metadata in one folder."
        )
    studies = read_columns(labels_from, _SUBJECT, _STUDY, *CHEXPERT.names)
    if studies[_STUDY].duplicated().any():
        twice = studies.loc[studies[_STUDY].duplicated(), _STUDY].iloc[0]
        raise DataError(f"{labels_from} lists study {twice} twice. Keep one row per study.")
    rows = read_columns(images_from, _DICOM, _SUBJECT, _STUDY, _VIEW)
    place = pd.Index(studies[_STUDY]).get_indexer(rows[_STUDY])
    if (place < 0).all():
        raise DataError(
            f"No study of {images_from} is in {labels_from}. Put tables of one version together."
        )
    truth = deny_normal(
        label_values(studies, labels_from, CHEXPERT.names, _STUDY), CHEXPERT, DEVICES
    )
    images = _images(rows[place >= 0])
    lists, notices = _read_lists(folder, images[IMAGE])
    if (place < 0).any():
        notices = (
            f"{(place < 0).sum():,} images are of studies without labels: left out.",
            *notices,
        )
    return LabelTable(images, truth[place[place >= 0]], CHEXPERT, lists, notices)


def _images(rows: pd.DataFrame) -> pd.DataFrame:
    name, subject, study = rows[_DICOM], rows[_SUBJECT], rows[_STUDY]
    path = "files/p" + subject.str[:2] + "/p" + subject + "/s" + study + "/" + name + SUFFIX
    view = rows[_VIEW].mask(rows[_VIEW].isin(_LATERAL), "L")
    return pd.DataFrame({IMAGE: name, PATH: path, PATIENT: subject, VIEW: view})


def _read_lists(
    folder: Path, images: pd.Series
) -> tuple[dict[str, frozenset[str]], tuple[str, ...]]:
    """The data set's own splits, and how many of `images` are in none."""
    source = find_table(folder, SPLIT_NAME)
    if source is None:
        return {}, (f"{folder} has no {SPLIT_NAME}, so no official split.",)
    rows = read_columns(source, _DICOM, "split")
    wrong = ~rows["split"].isin(list(LIST_NAMES))
    if wrong.any():
        first = rows[wrong].iloc[0]
        raise DataError(
            f"{source}: a split is one of: {', '.join(LIST_NAMES)}. "
            f"Received: {first['split']!r} for {first[_DICOM]}."
        )
    lists = {
        ours: frozenset(rows.loc[rows["split"] == theirs, _DICOM])
        for theirs, ours in LIST_NAMES.items()
    }
    unlisted = int((~images.isin(rows[_DICOM])).sum())
    return lists, (f"{unlisted:,} images are in no list of {SPLIT_NAME}.",) if unlisted else ()
