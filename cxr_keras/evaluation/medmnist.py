"""ChestMNIST as its makers measure it, to stand beside the numbers that papers print.

Their evaluator (medmnist 3.0, evaluator.py) has two measures: AUC, the plain mean of the labels'
AUROCs, and ACC, the mean over labels of the accuracy at a probability above 0.5. ACC says little:
always "no" has 0.947. It reads results from files that are named after them,

    chestmnist_64_test_[AUC]0.763_[ACC]0.948@RUN.csv

without "_64" for 28 pixels, and have a row for each image and no header: its number in the split,
then its 14 probabilities in ChestMNIST's order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from cxr_keras.data.array_images import shape_of
from cxr_keras.data.dataset import IMAGE
from cxr_keras.data.readers.chestmnist import (
    NAMES,
    file_name,
    only_archive,
    place_of,
    size_of_archive,
)
from cxr_keras.errors import DataError
from cxr_keras.evaluation.predictions import columns_of, labels_of
from cxr_keras.metrics.per_label import checked
from cxr_keras.utils.files import atomic_file, make_parent

THRESHOLD = 0.5


class MedMNISTMeasures(NamedTuple):
    """The two numbers that MedMNIST's evaluator gives."""

    auc: float
    acc: float


def medmnist_measures(truth: ArrayLike, probability: ArrayLike) -> MedMNISTMeasures:
    """MedMNIST's AUC and ACC.

    Args:
        truth: array-like of shape (n_samples, n_labels), 0 or 1.
        probability: array-like of the same shape, each in 0…1.

    Returns:
        Both; the AUC is NaN if that of any label is, because all images or none have the label.

    Raises:
        DataError: shapes differ, or a value is out of range, NaN or infinite.
    """
    from sklearn.metrics import roc_auc_score  # as MedMNIST does; a second, unless needed

    shape = np.shape(truth)
    found = checked(truth, probability, shape[1] if len(shape) == 2 else len(NAMES))
    present, score = found.truth, found.probability
    one_class = present.all(axis=0) | ~present.any(axis=0)
    if one_class.any():
        auc = float("nan")
    else:
        auc = float(np.mean([roc_auc_score(y, p) for y, p in zip(present.T, score.T, strict=True)]))
    return MedMNISTMeasures(auc, float(((score > THRESHOLD) == present).mean()))


def result_name(measures: MedMNISTMeasures, *, size: int, run: str, split: str = "test") -> str:
    """The file name by which MedMNIST's evaluator knows what a result is of.

    Args:
        measures: what `medmnist_measures` gave.
        size: pixels a side of ChestMNIST's images.
        run: any name; what its evaluator could not read back becomes "-".
        split: "train", "val" or "test".
    """
    data = file_name(size).removesuffix(".npz")
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", run)
    return f"{data}_{split}_[AUC]{measures.auc:.3f}_[ACC]{measures.acc:.3f}@{plain}.csv"


def medmnist_sentence(predictions: pd.DataFrame, folder: Path, *, root: Path, run: str) -> str:
    """Write MedMNIST's result where there is one, and say it; empty where there is none.

    Args:
        predictions: of images of ChestMNIST.
        folder: where the file goes.
        root: ChestMNIST's archive, or its folder.
        run: a name for the result.
    """
    labels, images = labels_of(predictions), list(predictions[IMAGE])
    truth, probability = columns_of(predictions, labels)
    if not set(NAMES) <= set(labels):
        return ""
    archive = only_archive(root)
    if not _is_whole([place_of(image) for image in images], archive):
        return (
            "No result for MedMNIST: it wants every image of one of its splits. Train with "
            "--split-method official, or evaluate with --data and --split test."
        )
    size = size_of_archive(archive)
    file = write_medmnist_result(
        folder, images, truth, probability, labels=labels, size=size, run=run
    )
    found = medmnist_measures(*(part[:, _places(labels)] for part in (truth, probability)))
    return f"MedMNIST's measures: AUC {found.auc:.3f}, ACC {found.acc:.3f}; its file is {file}."


def _places(labels: Sequence[str]) -> list[int]:
    return [list(labels).index(name) for name in NAMES]


def _is_whole(places: Sequence[tuple[str, int]], archive: Path) -> bool:
    """Whether these are all images of one split, each once."""
    splits, rows = {split for split, _ in places}, sorted(row for _, row in places)
    if len(splits) != 1:
        return False
    return rows == list(range(shape_of(archive, f"{splits.pop()}_images")[0]))


def write_medmnist_result(
    folder: Path,
    images: Sequence[str],
    truth: ArrayLike,
    probability: ArrayLike,
    *,
    labels: Sequence[str],
    size: int,
    run: str,
) -> Path:
    """Write a result for MedMNIST's evaluator.

    Args:
        folder: where to; made if missing.
        images: names of all images of one split, in any order.
        truth: array-like of shape (n_images, n_labels), 0 or 1.
        probability: array-like of the same shape, each in 0…1.
        labels: names of the columns; ChestMNIST's 14 among them, in any order.
        size: pixels a side of ChestMNIST's images.
        run: a name for the result.

    Returns:
        The file.

    Raises:
        DataError: a label is missing, the images are not all of one split, or a value is none that
            `medmnist_measures` takes.
    """
    absent = [name for name in NAMES if name not in labels]
    if absent:
        raise DataError(
            f"MedMNIST's result needs ChestMNIST's {len(NAMES)} labels; there is no "
            f"{', '.join(absent)}. Measure a network that was trained on them."
        )
    splits, rows = zip(*map(place_of, images), strict=True) if len(images) else ((), ())
    if len(set(splits)) != 1 or sorted(rows) != list(range(len(rows))):
        raise DataError(
            "MedMNIST's result is of every image of one split, once. Received: "
            f"{len(images):,} images of {' and '.join(sorted(set(splits))) or 'none'}. Measure "
            "with --split-method official and every image."
        )
    columns = _places(labels)
    known, score = np.asarray(truth)[:, columns], np.asarray(probability)[:, columns]
    measures = medmnist_measures(known, score)
    target = folder / result_name(measures, size=size, run=run, split=splits[0])
    make_parent(target)
    with atomic_file(target) as temporary:
        table = pd.DataFrame(score, index=rows).sort_index()
        table.to_csv(temporary, header=False, lineterminator="\n")
    return target
