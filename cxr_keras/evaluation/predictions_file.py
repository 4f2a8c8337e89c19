"""A CSV of predictions, this tool's or any other's, measured against a label table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from cxr_keras.data.dataset import IMAGE, truth_of
from cxr_keras.data.readers.harmonised import matching
from cxr_keras.errors import DataError
from cxr_keras.evaluation.predictions import (
    PROBABILITY,
    labels_of,
    read_predictions,
    truth_columns,
)
from cxr_keras.evaluation.result import Evaluation, write_evaluation
from cxr_keras.evaluation.second_truth import read_truth
from cxr_keras.metrics.options import RESAMPLES
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice


def evaluate_predictions(
    predictions: PathLike,
    truth: PathLike,
    *,
    thresholds: float = 0.5,
    resamples: int = RESAMPLES,
    out: PathLike | None = None,
) -> Evaluation:
    """Measure a CSV of predictions (this tool's or any other's) against a label table.

    Args:
        predictions: CSV with "Image Index" and prob_<label> columns: any of the table's labels, in
            any order.
        truth: a label table in NIH's layout, or any CSV with a row an image (see
            `readers.table`).
        thresholds: a label is predicted positive at or above this probability.
        resamples: of the bootstrap over patients; 0 for no intervals.
        out: folder for the tables; by default <predictions>-evaluation beside the file.

    Raises:
        DataError: a file or column is missing, a prob_ column names no label, an image stands
            twice, or no image is in both files.
    """
    source = Path(predictions)
    table = read_predictions(source)
    repeated = table.loc[table[IMAGE].duplicated(), IMAGE]
    if len(repeated):
        raise DataError(
            f"{source} has {len(repeated):,} images twice, such as {repeated.iloc[0]}. Keep one "
            "row per image."
        )
    known = read_truth(Path(truth))
    for sentence in known.notices:
        notice(sentence)
    names = labels_of(table)
    theirs = {our: their for their, our in matching(names, known.labels.names).items()}
    absent = [name for name in names if name not in theirs]
    if absent:
        raise DataError(
            f"{source} has the column {PROBABILITY}{absent[0]}, which names none of the labels of "
            f"{truth}: {', '.join(known.labels.names)}."
        )
    joined = table[[IMAGE, *(PROBABILITY + name for name in names)]]
    joined = joined.merge(known.table, on=IMAGE)
    if joined.empty:
        raise DataError(f"No image of {source} is in {truth}. Check that the two belong together.")
    if len(joined) < len(table):
        notice(f"{len(table) - len(joined):,} images of {source} are not in {truth}: left out.")
    true = truth_columns(truth_of(joined, [theirs[name] for name in names]), names)
    return write_evaluation(
        pd.concat([joined, true], axis=1),
        Path(out) if out else source.with_name(f"{source.stem}-evaluation"),
        thresholds=thresholds,
        normal=next((our for our in names if theirs[our] == known.labels.normal), None),
        resamples=resamples,
        keep_predictions=False,
    )
