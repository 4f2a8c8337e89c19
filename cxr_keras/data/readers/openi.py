"""Open-i, the chest films of Indiana University, labelled by the terms that index their reports.

    indiana_reports.csv         uid, MeSH, Problems …               as it circulates on Kaggle
    indiana_projections.csv     uid, filename, projection (Frontal, Lateral)
    images/images_normalized/*.png

    ecgen-radiology/*.xml       the reports, with <MeSH><major>     as NLM gives them
    NLMCXR_png/*.png

From https://www.kaggle.com/datasets/raddar/chest-xrays-indiana-university or
https://openi.nlm.nih.gov/faq. The terms are those of people who read the reports; what each means
stands in `openi_terms.TERMS`. What a report does not name counts as absent, "normal" is "No
Finding", and "borderline" makes a label uncertain. A report is of one patient, and all of its
images have its labels. The XML reports say no view: indiana_projections.csv beside them does.

Left out, and counted: reports that nobody indexed, or of which only the quality of the film is
said; images without a report.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import IMAGE, PATH, PATIENT, VIEW
from cxr_keras.data.images import SUFFIXES
from cxr_keras.data.labels import NO_FINDING, LabelSet
from cxr_keras.data.readers.csv_files import read_csv, require
from cxr_keras.data.readers.layout import MAYBE, NO, YES, LabelTable
from cxr_keras.data.readers.openi_terms import (
    NAMES,
    heading,
    is_borderline,
    labels_of,
    says_nothing,
)
from cxr_keras.data.readers.registry import register_dataset
from cxr_keras.errors import DataError

REPORTS_NAME, PROJECTIONS_NAME = "indiana_reports.csv", "indiana_projections.csv"
XML_FOLDER = "ecgen-radiology"
IMAGE_FOLDERS = ("images/images_normalized", "images_normalized", "images", "NLMCXR_png", ".")
VIEWS = {"Frontal": "FRONTAL", "Lateral": "L"}
LABELS = LabelSet(NAMES, normal=NO_FINDING)

_UID, _FILE, _PROJECTION = "uid", "filename", "projection"
_TERMS = ("MeSH", "Problems")  # the first that is there: only MeSH has qualifiers
_KAGGLE_SUFFIX = ".dcm.png"


@dataclass(frozen=True)
class Reports:
    """What both layouts say.

    Attributes:
        terms: uid → the terms that index the report.
        images: name, uid and view ("" where it is not said) of each image.
    """

    terms: dict[str, list[str]]
    images: list[tuple[str, str, str]]


@register_dataset(lambda root: (root / REPORTS_NAME).is_file() or _has_xml(root))
def openi(root: Path) -> LabelTable:
    """Open-i, Indiana University: indiana_reports.csv and _projections.csv, or ecgen-radiology/."""
    reports = _from_tables(root) if (root / REPORTS_NAME).is_file() else _from_xml(root)
    notices: list[str] = []
    images = _with_report(reports, notices)
    if not images:
        raise DataError(
            f"{root} has no image whose report says what is on it. Fetch the reports and the list "
            "of images again."
        )
    files = _files(root)
    table = pd.DataFrame(images, columns=[IMAGE, PATIENT, VIEW])
    table[PATH] = [files.get(name, "") for name in table[IMAGE]]
    if (table[VIEW] == "").all():
        table = table.drop(columns=VIEW)
        notices.append(
            f"The reports say no view, so lateral films are among these; {PROJECTIONS_NAME} in "
            f"{root} says it."
        )
    rows = {uid: _row(terms) for uid, terms in reports.terms.items()}
    truth = np.array([rows[uid] for uid in table[PATIENT]], dtype="int8")
    return LabelTable(table, truth, LABELS, notices=tuple(notices))


def _from_tables(root: Path) -> Reports:
    """The two CSVs."""
    source = root / REPORTS_NAME
    table = read_csv(source)
    column = next((name for name in _TERMS if name in table.columns), _TERMS[0])
    require(table, source, _UID, column)
    uids = table[_UID].str.strip()
    if uids.duplicated().any():
        raise DataError(
            f"{source} has two rows for {_UID} {uids[uids.duplicated()].iloc[0]}. Keep one row "
            "for each report."
        )
    terms = {uid: _split(cell) for uid, cell in zip(uids, table[column], strict=True)}
    return Reports(terms, _projections(root / PROJECTIONS_NAME))


def _projections(source: Path) -> list[tuple[str, str, str]]:
    if not source.is_file():
        raise DataError(f"{source} is missing: it says which images a report is of. Put it there.")
    table = read_csv(source)
    require(table, source, _UID, _FILE, _PROJECTION)
    table = table[[_FILE, _UID, _PROJECTION]].apply(lambda cells: cells.str.strip())
    views = table[_PROJECTION].str.capitalize().map(VIEWS)
    if views.isna().any():
        row = int(table.index[views.isna()][0])
        raise DataError(
            f"{source}: the column {_PROJECTION!r} holds {table[_PROJECTION][row]!r} in row "
            f"{row + 2:,}. It should be {' or '.join(VIEWS)}."
        )
    return list(zip(table[_FILE], table[_UID], views, strict=True))


def _from_xml(root: Path) -> Reports:
    """NLM's reports, one file each; views from Kaggle's list where it lies beside them."""
    projections = root / PROJECTIONS_NAME
    views = {}
    if projections.is_file():
        known = _projections(projections)
        views = {f"CXR{file.removesuffix(_KAGGLE_SUFFIX)}": view for file, _, view in known}
    terms: dict[str, list[str]] = {}
    images: list[tuple[str, str, str]] = []
    for path in sorted((root / XML_FOLDER).glob("*.xml")):
        try:
            report = ElementTree.parse(path).getroot()
        except (ElementTree.ParseError, OSError, ValueError) as error:
            raise DataError(
                f"{path} cannot be read as a report ({error}). Unpack the reports again."
            ) from error
        uid = path.stem
        terms[uid] = [t for node in report.iterfind(".//MeSH/major") for t in _split(node.text)]
        for node in report.iterfind(".//parentImage"):
            image = node.get("id", "")
            images.append((f"{image}.png", uid, views.get(image, "")))
    return Reports(terms, images)


def _with_report(reports: Reports, notices: list[str]) -> list[tuple[str, str, str]]:
    """The images with a report that says something; counts the others, and unknown terms."""
    silent = {uid for uid, terms in reports.terms.items() if says_nothing(terms)}
    found, without, unsaid = [], 0, 0
    for name, uid, view in reports.images:
        if uid not in reports.terms:
            without += 1
        elif uid in silent:
            unsaid += 1
        else:
            found.append((name, uid, view))
    if unsaid:
        notices.append(
            f"{unsaid:,} images have a report that nobody indexed, or of which only the quality "
            "of the film is said: left out."
        )
    if without:
        notices.append(f"{without:,} images have no report: left out.")
    pictured = {uid for _, uid, _ in reports.images}
    alone = sum(uid not in pictured for uid in reports.terms)
    if alone:
        notices.append(f"{alone:,} reports have no image: left out.")
    other = Counter(
        heading(term)
        for uid in {uid for _, uid, _ in found}
        for term in reports.terms[uid]
        if not labels_of(term)
    )
    if other:
        most = sorted(other.items(), key=lambda item: (-item[1], item[0]))[:3]
        named = ", ".join(f"{name} {count:,}" for name, count in most)
        notices.append(
            f"{other.total():,} terms of reports are no label here (most: {named}); they say only "
            "that a film is not normal."
        )
    return found


def _row(terms: list[str]) -> np.ndarray:
    """What the terms of a report say of each label."""
    row = np.full(len(LABELS), NO, dtype="int8")
    for term in terms:
        for name in labels_of(term):
            place = LABELS.names.index(name)
            if not is_borderline(term):
                row[place] = YES
            elif row[place] == NO:
                row[place] = MAYBE
    if len({heading(term) for term in terms}) > 1:  # normal beside anything else is not
        row[LABELS.names.index(NO_FINDING)] = NO
    return row


def _split(cell: str | None) -> list[str]:
    return [term for term in (term.strip() for term in (cell or "").split(";")) if term]


def _files(root: Path) -> dict[str, str]:
    """Name of the image → its path, relative to the folder."""
    found: dict[str, str] = {}
    for folder in IMAGE_FOLDERS:
        if (root / folder).is_dir():
            for name in os.listdir(root / folder):
                if name.lower().endswith(SUFFIXES):
                    found.setdefault(name, os.path.normpath(os.path.join(folder, name)))
    return found


def _has_xml(root: Path) -> bool:
    return next((root / XML_FOLDER).glob("*.xml"), None) is not None
