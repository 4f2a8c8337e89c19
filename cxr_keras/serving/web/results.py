"""What a run came to on its test split, as the page browses it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from cxr_keras.data.dataset import AGE, GENDER, IMAGE, PATIENT, VIEW
from cxr_keras.data.demographics import groups_of
from cxr_keras.evaluation.kept import Kept
from cxr_keras.evaluation.predictions import PROBABILITY, TRUTH, labels_of
from cxr_keras.runs.card import Card

BINS = 10  # of probabilities, as in reliability.csv


def observed(kept: Kept) -> dict[str, list[dict[str, Any]]]:
    """Label → bins of probabilities: of its images there, what share has the finding.

    The 95% interval is Wilson's, with patients counted in place of images: the images of one
    patient are alike. A bin without images is left out.
    """
    table = kept.predictions
    patients = table.get(PATIENT, pd.Series(range(len(table))))
    found = {}
    for label in labels_of(table):
        truth = table[TRUTH + label].to_numpy("float64")
        places = np.minimum(table[PROBABILITY + label].fillna(-1) * BINS, BINS - 1).astype(int)
        bins = []
        for place in range(BINS):
            inside = ((places == place) & ~np.isnan(truth)).to_numpy()
            if not inside.any():
                continue
            rate, number = float(truth[inside].mean()), int(patients[inside].nunique())
            interval = binomtest(round(rate * number), number).proportion_ci(method="wilson")
            bins.append(
                {
                    "low": place / BINS,
                    "high": (place + 1) / BINS,
                    "images": int(inside.sum()),
                    "patients": number,
                    "rate": rate,
                    "rate_low": min(float(interval.low), rate),
                    "rate_high": max(float(interval.high), rate),
                }
            )
        found[label] = bins
    return found


def to_json(kept: Kept, card: Card) -> dict[str, Any]:
    """All that the page needs to browse it: a list a column, labels in the card's order."""
    table = kept.predictions
    labels = [label for label in card.labels if PROBABILITY + label in table]
    names = {"patient": PATIENT, "age": AGE, "sex": GENDER, "view": VIEW}
    about = {name: _column(table[one]) for name, one in names.items() if one in table}
    about.setdefault("patient", [""] * len(table))  # other tools' tables may name none
    groups = groups_of(table)
    return {
        "split": kept.split,
        "notice": card.split_notice,
        "labels": labels,
        "normal": card.normal,
        "thresholds": dict(zip(card.labels, card.thresholds, strict=True)),
        "images": {"image": list(map(str, table[IMAGE]))} | about,
        "groups": {name: list(groups[name]) for name in groups},
        "probabilities": {name: _column(table[PROBABILITY + name]) for name in labels},
        "truth": {name: _column(table[TRUTH + name]) for name in labels},
        "metrics": records_of(kept.metrics),
        "subgroups": records_of(kept.subgroups),
    }


def records_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table for JSON: what is not known is None."""
    columns = {str(name): _column(table[name]) for name in table}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _column(values: pd.Series) -> list[Any]:
    return [None if pd.isna(value) else value for value in values.tolist()]
