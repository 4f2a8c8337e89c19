"""Train, validation and test: into which split each chosen image goes. Pure pandas and numpy.

The report's split: 20% of its 4,427 images for test, 20% of the rest for validation, which is
2,832 / 709 / 886. The shares can be chosen; a network that is to be used and not published may do
without a test split.

Copies are images of the same pixels under several names. They never end up in two splits, whatever
the method: a network would be tested on what it has learnt by heart.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_keras.data.dataset import FINDING_LABELS, IMAGE, PATIENT, TRAIN_VAL, Dataset
from cxr_keras.data.labels import LABELS
from cxr_keras.data.multi_hot import encode_cells
from cxr_keras.data.options import SPLIT_METHODS, VAL_SHARE, SplitMethod, split_shares
from cxr_keras.data.selection import CHOSEN_FOR
from cxr_keras.errors import DataError

DIGEST = "digest"
TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = (TRAIN, VAL, TEST)


@dataclass(frozen=True)
class _Shares:
    """Which share of the images is test (None: NIH's list), and of those that are not, val."""

    val: float
    test: float | None

    def count_test(self, images: int) -> int:
        """How many of all images are test."""
        return _share_of(self.test or 0.0, images)

    def count_val(self, images: int) -> int:
        """How many of the images that are not test are validation."""
        return _share_of(self.val, images)


def split_images(
    chosen: pd.DataFrame,
    dataset: Dataset,
    *,
    method: SplitMethod,
    seed: int,
    val_share: float = VAL_SHARE,
    test_share: float | None = None,
) -> tuple[pd.DataFrame, list[str]]:
    """Put each chosen image into train, val or test.

    Args:
        chosen: what `selection.choose_images` gave, with "digest" (of the pixels) where the images
            are at hand.
        dataset: for its official lists.
        method: one of `SPLIT_METHODS`: "paper" (by image; a patient may have images in several
            splits), "patient" (the same shares; all images of a patient in one split) or
            "official" (the data set's own lists; validation cut from train_val by patient where
            there is no list of it). Copies follow the
            first of them with "paper"; their patients count as one with "patient"; with "official"
            those of test images are left out of train and val, those of val images out of train.
        seed: of the split.
        val_share: of the images that are not test, rounded up.
        test_share: of the chosen images, rounded up; 0 for no test split. By default 0.2; not for
            the official split.

    Returns:
        The rows with a "split" column, and notices.

    Raises:
        DataError: an unknown method, a share out of its range, no official lists, or a split
            without an image (test may be without one where its share is 0).
    """
    if method not in SPLIT_METHODS:
        allowed = ", ".join(SPLIT_METHODS)
        raise DataError(f"Unknown split method {method!r}. Choose one of: {allowed}.")
    shares = _Shares(*split_shares(val_share, test_share, method))
    rng = np.random.default_rng([seed, 1000])
    chosen, notices = SPLITTERS[method](chosen, dataset, shares, rng)
    sizes = chosen["split"].value_counts()
    wanted = (TRAIN, VAL) if shares.test == 0 else SPLITS
    empty = [name for name in wanted if not sizes.get(name)]
    if empty:
        sentence = (
            f"The {method} split of {len(chosen):,} images leaves {' and '.join(empty)} without "
            "an image. Use more images, other shares, or another --split-method."
        )
        raise DataError(" ".join([sentence, *notices]))
    _check_promises(chosen, dataset, method, shares)
    return chosen, notices


def _check_promises(
    split: pd.DataFrame, dataset: Dataset, method: SplitMethod, shares: _Shares
) -> None:
    """Stop if a split is not what its method promises; a bug here would void every result."""
    broken = []
    if split[IMAGE].duplicated().any():
        broken.append("an image is in two splits")
    if shared_images(split):
        broken.append("an image is in two splits under two names")
    shared = shared_patients(split)
    if method == "patient" and any(shared.values()):
        broken.append("a patient is in two splits")
    if method == "official":
        if shared[f"{TRAIN}/{VAL}"] and VAL not in dataset.lists:
            broken.append("a patient is in train and val")
        right = split[IMAGE].isin(dataset.lists["test"]) == (split["split"] == TEST)
        if not right.all():
            broken.append("an image is not where the data set's lists put it")
    tests = int((split["split"] == TEST).sum())
    if method == "paper" and abs(tests - shares.count_test(len(split))) > _count_copies(split):
        broken.append(f"the test split has another size than {shares.test:.0%}")
    if shares.test == 0 and tests:
        broken.append("there is a test split, and none was asked for")
    if broken:
        raise DataError(
            f"The {method} split is wrong: {'; '.join(broken)}. This is a bug; please "
            "report it with the data folder's label table."
        )


def split_digest(manifest: pd.DataFrame) -> str:
    """A digest of which image is in which split, whatever the pixels and labels."""
    rows = manifest.sort_values(IMAGE)
    text = "\n".join(rows[IMAGE] + " " + rows["split"])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def shared_patients(manifest: pd.DataFrame) -> dict[str, int]:
    """How many patients each pair of splits shares, such as {"train/test": 12}."""
    patients = {name: set(manifest.loc[manifest["split"] == name, PATIENT]) for name in SPLITS}
    pairs = ((TRAIN, VAL), (TRAIN, TEST), (VAL, TEST))
    return {f"{a}/{b}": len(patients[a] & patients[b]) for a, b in pairs}


def shared_images(manifest: pd.DataFrame) -> int:
    """How many images (by "digest") are in more than one split, under different names."""
    return int(_copied(manifest).groupby(DIGEST)["split"].nunique().gt(1).sum())


def describe_sizes(manifest: pd.DataFrame) -> str:
    """The sizes of the splits for people: "2,832 train / 709 val / 886 test", or "… / no test"."""
    sizes = manifest["split"].value_counts()
    known = [f"{sizes[name]:,} {name}" if name in sizes else f"no {name}" for name in SPLITS]
    return " / ".join(known)


def label_counts(manifest: pd.DataFrame, labels: Sequence[str] = LABELS) -> pd.DataFrame:
    """Images of each label in each split: a row a label, columns train, val, test, all."""
    truth = pd.DataFrame(encode_cells(manifest[FINDING_LABELS], labels), columns=list(labels))
    counts = truth.groupby(manifest["split"].to_numpy()).sum().T
    counts = counts.reindex(columns=list(SPLITS), fill_value=0).astype(int)
    counts["all"] = counts.sum(axis=1)
    return counts.rename_axis("label").reset_index()


def _by_image(
    chosen: pd.DataFrame, dataset: Dataset, shares: _Shares, rng: np.random.Generator
) -> tuple[pd.DataFrame, list[str]]:
    strata = chosen[CHOSEN_FOR].to_numpy()
    split = np.full(len(chosen), TRAIN, dtype=object)
    everything = np.arange(len(chosen))
    split[_stratified(strata, everything, shares.count_test(len(chosen)), rng)] = TEST
    rest = np.flatnonzero(split == TRAIN)
    split[_stratified(strata, rest, shares.count_val(len(rest)), rng)] = VAL
    chosen = chosen.assign(split=split)
    copied = _copied(chosen)
    first = copied.groupby(DIGEST)["split"].transform("first")
    moved = int((copied["split"] != first).sum())
    chosen.loc[copied.index, "split"] = first
    return chosen, _about_copies(chosen, f"{moved:,} of them moved to the split of the first")


def _by_patient(
    chosen: pd.DataFrame, dataset: Dataset, shares: _Shares, rng: np.random.Generator
) -> tuple[pd.DataFrame, list[str]]:
    test = shares.count_test(len(chosen))
    val = shares.count_val(len(chosen) - test)
    sizes = {TRAIN: len(chosen) - test - val, VAL: val, TEST: test}
    notices = _about_copies(chosen, "the patients of each count as one, in one split")
    return chosen.assign(split=_deal_patients(chosen, dataset.labels.names, sizes, rng)), notices


def _by_official_lists(
    chosen: pd.DataFrame, dataset: Dataset, shares: _Shares, rng: np.random.Generator
) -> tuple[pd.DataFrame, list[str]]:
    lists = dataset.lists
    parts = [lists[name] for name in (TRAIN_VAL, TRAIN, VAL) if name in lists]
    rest_of = frozenset().union(*parts)
    if not parts or TEST not in lists:
        raise DataError(
            f"{dataset.root} has no official split: NIH's needs train_val_list.txt and "
            "test_list.txt there, other data sets a split of their own. Use --split-method patient."
        )
    in_test = chosen[IMAGE].isin(lists[TEST])
    in_train = chosen[IMAGE].isin(rest_of) & ~in_test
    neither = int((~in_test & ~in_train).sum())
    left_out = _copies_of(chosen[in_test | in_train], in_test)
    test, rest = chosen[in_test], chosen[in_train].drop(index=left_out)
    if VAL in lists:  # the data set's own
        dealt = rest.assign(split=np.where(rest[IMAGE].isin(lists[VAL]), VAL, TRAIN))
        twice = _copies_of(dealt, dealt["split"] == VAL)
        dealt, left_out = dealt.drop(index=twice), left_out.union(twice)
    else:
        val = shares.count_val(len(rest))
        sizes = {TRAIN: len(rest) - val, VAL: val}
        dealt = rest.assign(split=_deal_patients(rest, dataset.labels.names, sizes, rng))
    notices = [f"{neither:,} images are on neither official list: left out."] if neither else []
    notices += _about_copies(
        chosen,
        f"{len(left_out):,} of them, in train or val with a copy in test, or in train with one in "
        "val, are left out",
    )
    both = pd.concat([dealt, test.assign(split=TEST)]).sort_values(IMAGE, ignore_index=True)
    return both, notices


def _copied(rows: pd.DataFrame) -> pd.DataFrame:
    """Images that stand under several names, by the digest of their pixels."""
    if DIGEST not in rows:
        return rows.iloc[:0].assign(**{DIGEST: ""})
    known = rows[rows[DIGEST] != ""]
    return known[known[DIGEST].duplicated(keep=False)]


def _copies_of(rows: pd.DataFrame, kept: pd.Series) -> pd.Index:
    """The images that are copies, under other names, of some that are kept."""
    copied = _copied(rows)
    stays = kept[copied.index]
    return copied.index[copied[DIGEST].isin(copied.loc[stays, DIGEST]) & ~stays]


def _count_copies(rows: pd.DataFrame) -> int:
    """How many images are copies of another that comes before them."""
    return int(_copied(rows)[DIGEST].duplicated().sum())


def _about_copies(rows: pd.DataFrame, what: str) -> list[str]:
    copies = _count_copies(rows)
    return [f"{copies:,} images are copies of others under other names: {what}."] if copies else []


def _linked_patients(rows: pd.DataFrame) -> pd.Series:
    """The patient of each image; patients who share one under two names count as the first."""
    leader: dict[str, str] = {}

    def first(patient: str) -> str:
        while patient in leader:
            patient = leader[patient]
        return patient

    for _, patients in _copied(rows).groupby(DIGEST)[PATIENT]:
        linked = sorted({first(patient) for patient in patients})
        leader.update(dict.fromkeys(linked[1:], linked[0]))
    return rows[PATIENT].map(first)


Splitter = Callable[
    [pd.DataFrame, Dataset, _Shares, np.random.Generator], tuple[pd.DataFrame, list[str]]
]
SPLITTERS: dict[SplitMethod, Splitter] = {
    "paper": _by_image,
    "patient": _by_patient,
    "official": _by_official_lists,
}


def _share_of(share: float, images: int) -> int:
    """⌈share × images⌉, without what floating point adds: 0.07 × 100 is 7."""
    return math.ceil(round(share * images, 9))


def _stratified(
    strata: np.ndarray, rows: np.ndarray, wanted: int, rng: np.random.Generator
) -> np.ndarray:
    """`wanted` of `rows`, each stratum giving its share by the largest remainder."""
    names, place = np.unique(strata[rows].astype(str), return_inverse=True)
    exact = np.bincount(place, minlength=len(names)) * (wanted / max(len(rows), 1))
    quota = np.floor(exact).astype(int)
    remainder = np.argsort(-(exact - quota), kind="stable")
    quota[remainder[: wanted - quota.sum()]] += 1
    picks = [rng.permutation(rows[place == i])[: quota[i]] for i in range(len(names))]
    return np.concatenate(picks) if picks else np.zeros(0, dtype=int)


def _deal_patients(
    rows: pd.DataFrame, labels: Sequence[str], sizes: dict[str, int], rng: np.random.Generator
) -> np.ndarray:
    """Deal whole patients, most images first, to the split that lacks their labels most.

    Iterative stratification after Sechidis et al. 2011 (https://doi.org/10.1007/978-3-642-23808-6_10),
    with patients in place of single samples.
    """
    names = list(sizes)
    codes, patients = pd.factorize(_linked_patients(rows), sort=True)
    counts = np.zeros((len(patients), len(labels) + 1))
    np.add.at(counts[:, :-1], codes, encode_cells(rows[FINDING_LABELS], labels))
    counts[:, -1] = np.bincount(codes, minlength=len(patients))
    share = np.array([sizes[name] for name in names], dtype=float) / max(len(rows), 1)
    target = share[:, None] * counts.sum(axis=0)
    missing = target.copy()
    dealt = np.zeros(len(patients), dtype=int)
    for patient in sorted(rng.permutation(len(patients)), key=lambda p: -counts[p, -1]):
        need = (missing / np.maximum(target, 1e-9)) @ counts[patient]
        # a split that is full takes nobody while another has room
        need[missing[:, -1] < counts[patient, -1] - 0.5] -= 1e6
        dealt[patient] = int(np.argmax(need + 1e-9 * missing[:, -1]))
        missing[dealt[patient]] -= counts[patient]
    return np.array(names, dtype=object)[dealt[codes]]
