"""A folder in PadChest's layout → its label table.

    PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv    or .gz; 160,861 images, 67,625 patients
    <ImageID>.png …              the images beside it, or in images-224/,
    0/<ImageID>.png …            or in folders named as the table's "ImageDir"

The labels are "normal" and, as PadChest spells them, the findings that 50 or more of the images
have, but for "mass" (56 images): that does not say where, and other data sets call so a mass in the
lung, which is "pulmonary mass" here. Each other finding is ignored: the image has a finding, so it
is not normal, but none of the labels.

A finding that an image does not list is absent from it. PadChest's labels form a tree, and only
what is listed counts: "laminar atelectasis" is not "atelectasis" too. Of the words in "Labels" that
are no findings:

- "normal" beside a finding is dropped: the finding stands;
- "exclude" says that the image is no good: it is left out;
- "unchanged" says that the image is like an earlier one, which is not named: what it lists is
  there, and whether anything else is there is unknown;
- "suboptimal study" says how the image was taken: ignored;
- an image of which nothing else is said (no label, or "unchanged" alone …) is left out.

39,053 images were labelled by physicians and the others by a program from the reports
("MethodLabel"); both are read. "AP_horizontal", taken lying, counts as AP. "COSTAL" shows ribs and
keeps its name; images of the projection "EXCLUDE" show no chest and are left out. The age is the
year of the study less the year of birth.

From https://bimcv.cipf.es/bimcv-projects/padchest. Bustos et al., PadChest: A large chest x-ray
image dataset with multi-label annotated reports, Medical Image Analysis 2020,
https://arxiv.org/abs/1901.07441
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import AGE, GENDER, IMAGE, PATH, PATIENT, VIEW
from cxr_keras.data.labels import LabelSet
from cxr_keras.data.readers.csv_files import find_table, read_columns
from cxr_keras.data.readers.layout import NO, UNSAID, YES, LabelTable
from cxr_keras.data.readers.registry import register_dataset
from cxr_keras.errors import DataError

TABLE_NAME = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
SMALL_IMAGES = "images-224"
NORMAL, EXCLUDE, UNCHANGED = "normal", "exclude", "unchanged"
NO_FINDINGS = frozenset({"", EXCLUDE, UNCHANGED, "suboptimal study"})  # "": a sentence without one

_FINDINGS = """
abnormal foreign body, adenopathy, air bronchogram, air fluid level, air trapping, alveolar
pattern, aortic atheromatosis, aortic button enlargement, aortic elongation, apical pleural
thickening, artificial aortic heart valve, artificial heart valve, artificial mitral heart
valve, asbestosis signs, ascendent aortic elongation, atelectasis, atypical pneumonia, axial
hyperostosis, azygoesophageal recess shift, azygos lobe, blastic bone lesion, bone metastasis,
bronchiectasis, bronchovascular markings, bullas, calcified adenopathy, calcified densities,
calcified fibroadenoma, calcified granuloma, calcified pleural plaques, calcified pleural
thickening, callus rib fracture, cardiomegaly, catheter, cavitation, central vascular
redistribution, central venous catheter, central venous catheter via jugular vein, central
venous catheter via subclavian vein, central venous catheter via umbilical vein, cervical rib,
chest drain tube, chronic changes, clavicle fracture, consolidation, COPD signs, costochondral
junction hypertrophy, costophrenic angle blunting, dai, descendent aortic elongation,
diaphragmatic eventration, dual chamber device, emphysema, end on vessel, endotracheal tube,
fibrotic band, fissure thickening, flattened diaphragm, goiter, granuloma, ground glass pattern,
gynecomastia, heart insufficiency, heart valve calcified, hemidiaphragm elevation, hiatal
hernia, hilar congestion, hilar enlargement, humeral fracture, humeral prosthesis, hyperinflated
lung, hypoexpansion, hypoexpansion basal, increased density, infiltrates, interstitial pattern,
kerley lines, kyphosis, laminar atelectasis, lobar atelectasis, loculated fissural effusion,
loculated pleural effusion, lung metastasis, lung vascular paucity, lymphangitis carcinomatosa,
lytic bone lesion, major fissure thickening, mammary prosthesis, mastectomy, mediastinal
enlargement, mediastinal mass, mediastinal shift, mediastinic lipomatosis, metal, miliary
opacities, minor fissure thickening, multiple nodules, nipple shadow, nodule, non axial
articular degenerative changes, NSG tube, osteopenia, osteoporosis, osteosynthesis material,
pacemaker, pectum carinatum, pectum excavatum, pericardial effusion, pleural effusion, pleural
thickening, pneumonia, pneumoperitoneo, pneumothorax, post radiotherapy changes, pseudonodule,
pulmonary artery enlargement, pulmonary edema, pulmonary fibrosis, pulmonary hypertension,
pulmonary mass, reservoir central venous catheter, respiratory distress, reticular interstitial
pattern, reticulonodular interstitial pattern, rib fracture, sclerotic bone lesion, scoliosis,
segmental atelectasis, single chamber device, soft tissue mass, sternotomy, subcutaneous
emphysema, superior mediastinal enlargement, supra aortic elongation, surgery, surgery breast,
surgery lung, surgery neck, suture material, thoracic cage deformation, tracheal shift,
tracheostomy tube, tuberculosis, tuberculosis sequelae, vascular hilar enlargement, vascular
redistribution, vertebral anterior compression, vertebral compression, vertebral degenerative
changes, vertebral fracture, volume loss
"""
PADCHEST = LabelSet((*" ".join(_FINDINGS.split()).split(", "), NORMAL), NORMAL)

_ID, _DIRECTORY, _PATIENT, _LABELS = "ImageID", "ImageDir", "PatientID", "Labels"
_BIRTH, _STUDY, _SEX, _VIEW = "PatientBirth", "StudyDate_DICOM", "PatientSex_DICOM", "Projection"
_VIEWS = {"AP_horizontal": "AP", "UNK": ""}  # theirs → ours; others keep their name
_NO_CHEST = "EXCLUDE"  # a view
_PLACE = {name: place for place, name in enumerate(PADCHEST.names)}


@register_dataset(lambda folder: find_table(folder, TABLE_NAME) is not None)
def padchest(folder: Path) -> LabelTable:
    """PadChest: PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv, images-224/ or 0/, 1/ …

    Raises:
        DataError: no table, a cell of labels that is no list, or not one image that is of use.
    """
    source = find_table(folder, TABLE_NAME)
    if source is None:
        raise DataError(f"{folder} holds no table of PadChest's. It needs {TABLE_NAME} (or .gz).")
    table = read_columns(source, _ID, _DIRECTORY, _PATIENT, _LABELS, _BIRTH, _STUDY, _SEX, _VIEW)
    chest = (table[_VIEW] != _NO_CHEST).to_numpy()
    codes, cells = pd.factorize(table[_LABELS])  # of many images few cells differ
    said = [_names(cell) for cell in cells]
    if None in said:
        row = table.iloc[int(np.argmax(codes == said.index(None)))]
        raise DataError(
            f"{source}: labels are a list such as ['pleural effusion', 'cardiomegaly']. "
            f"Received: {row[_LABELS]!r} for {row[_ID]}."
        )
    names = [names or frozenset() for names in said]
    kinds = np.stack([_values(kind) for kind in names])
    usable = np.array([_is_usable(kind) for kind in names], dtype=bool)
    kept = chest & usable[codes]
    if not kept.any():
        raise DataError(f"{source} says nothing of any image of a chest. Fetch it again.")
    rows = np.bincount(codes[chest], minlength=len(cells))
    notices = _notices(list(zip(names, rows.tolist(), strict=True)))
    if not chest.all():
        notices.insert(0, f"{(~chest).sum():,} images show no chest ({_NO_CHEST}): left out.")
    return LabelTable(
        images=_images(folder, table[kept]),
        truth=kinds[codes[kept]],
        labels=PADCHEST,
        notices=tuple(notices),
    )


def _names(cell: str) -> frozenset[str] | None:
    """The names in a cell; None where it is no list of names."""
    if cell in ("", "nan"):
        return frozenset()
    try:
        names = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return frozenset(name.strip() for name in names)


def _is_usable(names: frozenset[str]) -> bool:
    return EXCLUDE not in names and bool(names - NO_FINDINGS)


def _values(names: frozenset[str]) -> np.ndarray:
    """What the names in a cell say of each label, int8 (n_labels,)."""
    findings = names - NO_FINDINGS - {NORMAL}
    rest = UNSAID if findings and UNCHANGED in names else NO
    values = np.full(len(PADCHEST), rest, dtype="int8")
    values[_PLACE[NORMAL]] = NO if findings else YES
    values[[_PLACE[name] for name in findings if name in _PLACE]] = YES
    return values


def _images(folder: Path, table: pd.DataFrame) -> pd.DataFrame:
    years = [
        pd.to_numeric(years, errors="coerce") for years in (table[_STUDY].str[:4], table[_BIRTH])
    ]
    return pd.DataFrame(
        {
            IMAGE: table[_ID],
            PATH: _paths(folder, table),
            PATIENT: table[_PATIENT],
            VIEW: table[_VIEW].replace(_VIEWS),
            AGE: years[0] - years[1],
            GENDER: table[_SEX].where(table[_SEX].isin(["F", "M"]), ""),
        }
    )


def _paths(folder: Path, table: pd.DataFrame) -> pd.Series:
    if (folder / SMALL_IMAGES).is_dir():
        return SMALL_IMAGES + "/" + table[_ID]
    there = [name for name in table[_DIRECTORY].unique() if name and (folder / name).is_dir()]
    inside = table[_DIRECTORY].isin(there)
    return (table[_DIRECTORY] + "/" + table[_ID]).where(inside, table[_ID])


def _notices(cells: list[tuple[frozenset[str], int]]) -> list[str]:
    """What became of the images; the names in each cell, and how many images have that cell."""
    counts: Counter[str] = Counter()
    rare: Counter[str] = Counter()
    for names, rows in cells:
        findings = names - NO_FINDINGS - {NORMAL}
        if EXCLUDE in names:
            counts[EXCLUDE] += rows
        elif not _is_usable(names):
            counts["nothing"] += rows
        elif findings:
            counts[NORMAL] += rows * (NORMAL in names)
            counts[UNCHANGED] += rows * (UNCHANGED in names)
            rare.update({name: rows for name in findings if name not in _PLACE})
    sentences = {
        EXCLUDE: "images are marked 'exclude': left out.",
        "nothing": "images have no label that says something of them: left out.",
        NORMAL: "images say 'normal' beside a finding: the finding stands.",
        UNCHANGED: "images are 'unchanged': what they do not list is unknown.",
    }
    notices = [f"{counts[key]:,} {says}" for key, says in sentences.items() if counts[key]]
    if rare:
        most = ", ".join(f"{name!r} ({rows:,})" for name, rows in rare.most_common(5))
        notices.append(f"{len(rare):,} findings are none of the labels: ignored (most: {most}).")
    return notices
