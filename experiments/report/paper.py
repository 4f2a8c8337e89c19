"""The report's published numbers, and what can be read out of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from cxr_keras import FINDINGS

SOURCE = Path(__file__).with_name("paper_results.csv")
MEASURES = ("precision", "accuracy", "recall", "f1")
TEST_IMAGES = 886  # 20% of the report's 4,427
SIZES = "2,832 / 709 / 886"


@cache
def published() -> dict[str, pd.DataFrame]:
    """Table → its rows by label: columns as in paper_results.csv."""
    rows = pd.read_csv(SOURCE)
    return {name: part.set_index("label") for name, part in rows.groupby("table", sort=False)}


def average(table: str, measure: str, labels: tuple[str, ...] = FINDINGS) -> float:
    """Mean of a table's published values over `labels`."""
    return float(published()[table].loc[list(labels), measure].mean())


@cache
def supports() -> pd.Series:
    """Label → images of the report's test split that have it.

    The report prints no counts, but its own figures give them: with P positives, recall r and
    precision p, the wrong answers are (1 - accuracy) * 886 = P + r P / p - 2 r P. All 14 tables
    agree to within an image; the median is taken.
    """
    counts = {}
    for name, rows in published().items():
        positive = (rows["recall"] / rows["precision"].where(rows["precision"] > 0)).fillna(0.0)
        wrong = (1 - rows["accuracy"]) * TEST_IMAGES
        counts[name] = (wrong / (1 + positive - 2 * rows["recall"])).round()
    return pd.DataFrame(counts).median(axis=1).astype(int)


def constant_loss() -> float:
    """Cross-entropy of the best constant answer on the report's test split, mean of 15 labels."""
    rates = supports().to_numpy() / TEST_IMAGES
    return float(-(rates * np.log(rates) + (1 - rates) * np.log(1 - rates)).mean())


def always_no_accuracy(labels: tuple[str, ...] = FINDINGS) -> float:
    """Mean accuracy of answering "no" always on the report's test split."""
    return float(1 - (supports()[list(labels)] / TEST_IMAGES).mean())


def remarks(table: str) -> list[str]:
    """What must be said about a published table: whether it repeats another or predicts nothing."""
    said = []
    for later, earlier in (("C11", "C5"), ("C12", "C6")):
        if table in (later, earlier):
            said.append(_repetition(later, earlier))
    if table in published() and not published()[table]["recall"].any():
        said.append(f'In the report\'s {table} the network answers "no" always: each recall is 0.')
    return said


def _repetition(later: str, earlier: str) -> str:
    a, b = published()[later], published()[earlier]
    same = int((a[list(MEASURES)].round(4) == b[list(MEASURES)].round(4)).to_numpy().sum())
    losses = [f"{rows['test_loss'].iloc[0]:.5f}" for rows in (a, b)]
    return (
        f"In the report, {later} ({a['model'].iloc[0]}) repeats {earlier} "
        f"({b['model'].iloc[0]}): {same} of {len(a) * len(MEASURES)} numbers agree to four digits, "
        f"test loss {losses[0]} and {losses[1]}. Both are shown as published."
    )
