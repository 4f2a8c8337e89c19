"""Which names of different data sets mean the same finding.

Written out, name by name: nothing is guessed from a part of a name. Names that differ in case or in
"_" for a blank are one name (`labels.plain`), so a finding that every data set calls alike, such as
Pneumothorax, needs no row here.

A row means that a radiologist who gives one label would give the other. A wider or a narrower
finding is another one, and stands in no row with it: "Lung Lesion" (CheXpert) is a nodule or a mass
or something else; "Pleural Other" is any finding of the pleura but effusion; "laminar atelectasis",
"apical pleural thickening" and "multiple nodules" (PadChest) are kinds; "Infiltration" is not
"Consolidation"; "aortic elongation" (PadChest) is not "Aortic enlargement" (VinDr).
"""

from __future__ import annotations

from collections.abc import Sequence

from cxr_keras.data.labels import plain

HARMONISED: tuple[tuple[str, ...], ...] = (
    # CheXpert's allows support devices; PadChest's and Open-i's "normal" does not always.
    ("No Finding", "normal"),
    # Names with "Pulmonary", commas and plurals are Open-i's, here and below.
    ("Atelectasis", "Pulmonary Atelectasis", "Atelectases"),
    ("Effusion", "Pleural Effusion"),  # NIH's and ChestMNIST's "Effusion" is of the pleura
    ("Edema", "Pulmonary Edema"),
    ("Emphysema", "Pulmonary Emphysema"),  # not "subcutaneous emphysema"
    ("Fibrosis", "Pulmonary Fibrosis"),  # not "fibrotic band"
    # Debatable: NIH's may be another hernia of the diaphragm, but most that films show are hiatal.
    ("Hernia", "Hiatal Hernia", "Hernia, Hiatal"),
    ("Infiltration", "Infiltrate", "Infiltrates"),
    ("Mass", "Pulmonary Mass"),  # NIH's is in the lung: not "mediastinal mass"
    ("Nodule/Mass", "Nodule or mass"),  # VinDr's, Google's: either, so neither Nodule nor Mass
    # Debatable: any opacity of the lung for CheXpert and VinDr, one that may be pneumonia for RSNA,
    # of the air spaces for Google. CheXpert's labelling program once called its own "Airspace".
    ("Lung Opacity", "Airspace Opacity"),
    ("Pleural_Thickening", "pleural"),  # ChestMNIST's short name; not CheXpert's "Pleural Other"
    ("Fracture", "Fractures, Bone"),  # any bone: not "rib fracture", "clavicle fracture"
    ("Enlarged PA", "Pulmonary artery enlargement"),  # VinDr's PA is that artery
    ("Lung cavity", "Cavitation"),
    # Debatable: PadChest's are signs, but signs are all that a film shows of the disease.
    ("COPD", "COPD signs", "Pulmonary Disease, Chronic Obstructive"),
)

_GROUP = {plain(name): number for number, names in enumerate(HARMONISED) for name in names}


def same_finding(a: str, b: str) -> bool:
    """Whether two names mean one finding."""
    return _key(a) == _key(b)


def matching(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """The labels that two data sets, or a network and a data set, share.

    Of several names for one finding the first one counts, but an equal name comes first.

    Args:
        ours: names of one.
        theirs: names of the other.

    Returns:
        Their name → our name, in their order; each at most once.
    """
    found: dict[str, str] = {}
    for key in (plain, _key):
        mine: dict[str | int, str] = {}
        for name in ours:
            if name not in found.values():
                mine.setdefault(key(name), name)
        for name in theirs:
            if name not in found and key(name) in mine:
                found[name] = mine.pop(key(name))
    return {name: found[name] for name in theirs if name in found}


def _key(name: str) -> str | int:
    """What all names of a finding have in common: the row of the table, or the name itself."""
    return _GROUP.get(plain(name), plain(name))
