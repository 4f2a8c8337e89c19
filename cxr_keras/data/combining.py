"""Several data sets as one, and which labels of a data set are taken.

The names of different data sets are matched by `readers.harmonised`, an explicit table. The first
data set's spelling stands. Where a data set does not know a label of another, it is unknown for all
of its images, and nothing is learnt from them about it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import (
    FINDING_LABELS,
    IMAGE,
    PATIENT,
    UNKNOWN_LABELS,
    Dataset,
    cells_of,
    truth_of,
)
from cxr_keras.data.labels import LabelSet
from cxr_keras.data.options import SHARED, UNION
from cxr_keras.data.readers.harmonised import matching
from cxr_keras.errors import DataError


def choose_labels(dataset: Dataset, wanted: Sequence[str] | None) -> Dataset:
    """The data set with these labels only, in this order; whole for None, "shared" or "all".

    Raises:
        DataError: it does not know one of them.
    """
    if wanted is None or tuple(wanted) in ((SHARED,), (UNION,)):
        return dataset
    labels = _chosen(dataset.labels, wanted, f"{dataset.root} has no label", "It has")
    return relabelled(dataset, labels, {name: name for name in labels.names})


def combine(datasets: Sequence[Dataset], wanted: Sequence[str] | None) -> Dataset:
    """Several data sets as one.

    Images and patients are named after their data set, so that no two are mistaken for one.

    Args:
        datasets: two or more.
        wanted: "shared" (or None), "all", or names of labels.

    Raises:
        DataError: the data sets share patients under other names, or no label; or the images of
            some are files and those of others come from a function.
    """
    _refuse_shared_patients(datasets)
    labels = _labels_of(datasets, wanted)
    tables, lists, notices = [], [], []
    for dataset, name in zip(datasets, _names(datasets), strict=True):
        match = matching(labels.names, dataset.labels.names)  # theirs → ours
        own = relabelled(dataset, labels, {ours: theirs for theirs, ours in match.items()})
        tables.append(
            own.table.assign(
                **{
                    IMAGE: f"{name}/" + own.table[IMAGE].astype(str),
                    PATIENT: f"{dataset.name or name}/" + own.table[PATIENT].astype(str),
                }
            )
        )
        lists.append({k: {f"{name}/{image}" for image in v} for k, v in dataset.lists.items()})
        notices += [f"{name}: {sentence}" for sentence in dataset.notices]
    table = pd.concat(tables, ignore_index=True).sort_values(IMAGE, ignore_index=True)
    if UNKNOWN_LABELS in table.columns:
        table[UNKNOWN_LABELS] = table[UNKNOWN_LABELS].fillna("")
    common = set.intersection(*(set(own) for own in lists))
    if any(set(own) != common for own in lists):
        common = set()  # the official splits of the data sets do not go together
    return replace(
        datasets[0],
        table=table,
        lists={k: frozenset().union(*(own[k] for own in lists)) for k in sorted(common)},
        notices=tuple(notices),
        labels=labels,
        pixels=_pixels_of(datasets),
        in_python=any(dataset.in_python for dataset in datasets),
        others=tuple(root for dataset in datasets[1:] for root in dataset.roots),
        name="+".join(_names(datasets)),
    )


def relabelled(dataset: Dataset, labels: LabelSet, source: dict[str, str]) -> Dataset:
    """The data set in terms of other labels.

    Args:
        dataset: what is relabelled.
        labels: the new ones.
        source: of each new label that the data set knows, its own name there; the others are
            unknown for all of its images.
    """
    truth = np.full((len(dataset.table), len(labels)), np.nan, dtype="float32")
    known = [i for i, name in enumerate(labels.names) if name in source]
    truth[:, known] = truth_of(dataset.table, [source[labels.names[i]] for i in known])
    table = dataset.table.drop(columns=[FINDING_LABELS, UNKNOWN_LABELS], errors="ignore")
    return replace(dataset, table=table.assign(**cells_of(truth, labels.names)), labels=labels)


def _labels_of(datasets: Sequence[Dataset], wanted: Sequence[str] | None) -> LabelSet:
    """The labels of the whole, in the first data set's spelling and order."""
    names = list(datasets[0].labels.names)
    if wanted is None or tuple(wanted) == (SHARED,):
        for dataset in datasets[1:]:
            known = set(matching(names, dataset.labels.names).values())
            names = [name for name in names if name in known]
        if not names:
            sets = "; ".join(f"{d.root}: {', '.join(d.labels.names)}" for d in datasets)
            raise DataError(f"The data sets share no label ({sets}). Give --labels {UNION}.")
    else:
        for dataset in datasets[1:]:
            same = matching(names, dataset.labels.names)
            names += [name for name in dataset.labels.names if name not in same]
    normal = next((d.labels.normal for d in datasets if d.labels.normal in names), None)
    labels = LabelSet(tuple(names), normal)
    if wanted is None or tuple(wanted) in ((SHARED,), (UNION,)):
        return labels
    return _chosen(labels, wanted, "None of the data sets has the label", "They have")


def _chosen(labels: LabelSet, wanted: Sequence[str], lacks: str, has: str) -> LabelSet:
    """Some of `labels`, by their own names or another data set's; a refusal begins with `lacks`."""
    found = {n: labels.canonical(n) or matching(labels.names, [n]).get(n) for n in wanted}
    unknown = [name for name, label in found.items() if label is None]
    if unknown:
        raise DataError(
            f"{lacks} {', '.join(map(repr, unknown))}. {has}: {', '.join(labels.names)}."
        )
    names = tuple(label for label in found.values() if label is not None)
    normal = labels.normal if labels.normal in names else None
    return LabelSet(names, normal, {k: v for k, v in labels.aliases.items() if v in names})


def _names(datasets: Sequence[Dataset]) -> list[str]:
    """A name for each data set, different from the others'."""
    names = [dataset.name or dataset.root.name for dataset in datasets]
    counts = {name: names.count(name) for name in names}
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(f"{name}{seen[name]}" if counts[name] > 1 else name)
    return result


def _pixels_of(datasets: Sequence[Dataset]) -> Callable[[str], np.ndarray] | None:
    """Image's name in the whole → its pixels; None where they are files."""
    reads: dict[str, tuple[Callable[[str], np.ndarray], str]] = {}
    files = []
    for dataset, name in zip(datasets, _names(datasets), strict=True):
        if dataset.pixels is None:
            files.append(dataset)
        else:
            reads |= {f"{name}/{own}": (dataset.pixels, own) for own in dataset.table[IMAGE]}
    if reads and files:
        raise DataError(
            f"The images of {files[0].root} are files and those of another data set come from a "
            "function, so the two cannot be joined. Give all of them as files, or as functions."
        )

    def pixels(image: str) -> np.ndarray:
        read, own = reads[image]
        return read(own)

    return pixels if reads else None


def _refuse_shared_patients(datasets: Sequence[Dataset]) -> None:
    for dataset in datasets:
        for other in datasets:
            if other.name in dataset.shares_patients_with:
                raise DataError(
                    f"The patients of {dataset.root} ({dataset.name}) are patients of {other.root} "
                    f"({other.name}) under other names, so they cannot be kept apart. Train on one "
                    "of the two."
                )
