"""What the terms that index a report of Open-i mean: MeSH headings and their qualifiers → labels.

A term is a heading and what qualifies it: `Opacity/lung/base/left`, `Cardiomegaly/borderline`. It
stands for what is on the film; readers index no absence. Headings that are no label here (the
spine, the aorta, how far the lungs are expanded …) still say that the film is not normal.
"""

from __future__ import annotations

from collections.abc import Iterable

from cxr_keras.data.labels import NO_FINDING

NORMAL = "normal"
NOT_INDEXED = "no indexing"  # nobody read the report
POOR_FILM = "technical quality of image unsatisfactory"
BORDERLINE = "borderline"  # as a qualifier: perhaps

# heading, a qualifier that it needs to have this meaning, labels
TERMS: tuple[tuple[str, str | None, tuple[str, ...]], ...] = (
    ("pulmonary atelectasis", None, ("Atelectasis",)),
    ("calcified granuloma", None, ("Calcified Granuloma",)),
    ("cardiomegaly", None, ("Cardiomegaly",)),
    ("cardiac shadow", "enlarged", ("Cardiomegaly",)),
    ("consolidation", None, ("Consolidation",)),
    ("pulmonary edema", None, ("Edema",)),
    ("pleural effusion", None, ("Effusion",)),
    ("hemothorax", None, ("Effusion",)),
    ("hydropneumothorax", None, ("Effusion", "Pneumothorax")),
    ("hemopneumothorax", None, ("Effusion", "Pneumothorax")),
    ("emphysema", None, ("Emphysema",)),
    ("pulmonary emphysema", None, ("Emphysema",)),
    ("bullous emphysema", None, ("Emphysema",)),
    ("fibrosis", None, ("Fibrosis",)),
    ("pulmonary fibrosis", None, ("Fibrosis",)),
    ("fractures, bone", None, ("Fracture",)),
    ("granuloma", None, ("Granuloma",)),
    ("hernia, hiatal", None, ("Hernia",)),
    ("hernia, diaphragmatic", None, ("Hernia",)),
    ("infiltrate", None, ("Infiltration",)),
    ("opacity", None, ("Lung Opacity",)),
    ("airspace disease", None, ("Lung Opacity",)),
    ("mass", None, ("Mass",)),
    ("nodule", None, ("Nodule",)),
    ("thickening", "pleura", ("Pleural_Thickening",)),
    ("pneumonia", None, ("Pneumonia",)),
    ("pneumothorax", None, ("Pneumothorax",)),
    ("catheters, indwelling", None, ("Support Devices",)),
    ("implanted medical device", None, ("Support Devices",)),
    ("medical device", None, ("Support Devices",)),
    ("tube, inserted", None, ("Support Devices",)),
    (NORMAL, None, (NO_FINDING,)),
)
NAMES = tuple(sorted({name for _, _, names in TERMS for name in names}, key=str.lower))


def heading(term: str) -> str:
    """The heading of a term, in lower case."""
    return _parts(term)[0]


def labels_of(term: str) -> tuple[str, ...]:
    """The labels that a term means; none for a heading that is no label here."""
    first, *qualifiers = _parts(term)
    return tuple(
        name
        for known, needed, names in TERMS
        if known == first and (needed is None or needed in qualifiers)
        for name in names
    )


def is_borderline(term: str) -> bool:
    """Whether a term says that what it means is perhaps there."""
    return BORDERLINE in _parts(term)[1:]


def says_nothing(terms: Iterable[str]) -> bool:
    """Whether the terms of a report leave open what is on the film."""
    return all(heading(term) in (NOT_INDEXED, POOR_FILM) for term in terms)


def _parts(term: str) -> list[str]:
    return [" ".join(part.lower().split()) for part in term.split("/")]
