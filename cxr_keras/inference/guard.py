"""The guard: is this an image of the kind that a network was trained on?

A network answers for any picture. What it computes on the way, its maps at up to three depths, is
usual for images like those of its training, and unusual for limbs, photographs, and chests that
lie on their side. How unusual is measured by the Mahalanobis distance (Lee et al., "A Simple
Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018,
https://arxiv.org/abs/1807.03888) of their means over a grid of 3 × 3 places, with the covariance
shrunken as Chen et al. do ("Shrinkage Algorithms for MMSE Covariance Estimation", IEEE TSP 2010,
https://arxiv.org/abs/0907.4698).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO

import numpy as np

PLACES = 3  # rows and columns of the grid
DEPTHS = 3
AXES = 64  # directions in which a covariance is kept; in all others its mean
FEWEST = 30  # images of validation, or there is no guard: a percentile of fewer means little
MOST = 1000  # images of training that are looked at
UNLIKE = 0.01  # the familiarity below which an image is unlike training
_LEVELS = np.linspace(0, 1, 101)
_TAIL = 4.0  # how fast familiarity goes to 0 beyond the limit, for an order among the strange


@dataclass(frozen=True)
class Depth:
    """What is usual at one depth.

    Attributes:
        mean: float32 (d,), of the features of training images.
        axes: float16 (k, d), directions of the largest variances.
        variances: float32 (k,), shrunken, along them.
        rest: the shrunken variance in every other direction.
        centre, spread: mean and standard deviation of the distances of validation images.
    """

    mean: np.ndarray
    axes: np.ndarray
    variances: np.ndarray
    rest: float
    centre: float = 0.0
    spread: float = 1.0

    @cached_property
    def _directions(self) -> np.ndarray:
        return np.ascontiguousarray(self.axes.T, "float32")

    def distances(self, features: np.ndarray) -> np.ndarray:
        """The Mahalanobis distances of features (n, d), each in spreads from the centre: (n,)."""
        apart = features - self.mean
        along = apart @ self._directions
        beside = np.maximum((apart**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        squared = (along**2 / self.variances).sum(axis=1) + beside / self.rest
        return (np.sqrt(squared) - self.centre) / self.spread


@dataclass(frozen=True)
class Guard:
    """What a network's training images look like to it.

    Attributes:
        depths: from the shallowest to the deepest.
        quantiles: float64 (101,), of the scores of validation images; the 99th percentile is the
            limit.
    """

    depths: tuple[Depth, ...]
    quantiles: np.ndarray

    @property
    def limit(self) -> float:
        """The score above which an image is unlike training."""
        return float(self.quantiles[99])

    def scores(self, features: Sequence[np.ndarray]) -> np.ndarray:
        """How strange images are: the mean distance over the depths, (n,).

        Args:
            features: of each depth, (n, d), see `pooled`.
        """
        pairs = zip(self.depths, features, strict=True)
        return np.mean([depth.distances(found) for depth, found in pairs], axis=0)

    def familiarity(self, scores: np.ndarray) -> np.ndarray:
        """Which share of validation images is at least so strange, 0…1; below 0.01 an order only.

        Args:
            scores: (n,), see `scores`.
        """
        usual = np.maximum(np.interp(scores, self.quantiles, 1 - _LEVELS), UNLIKE)
        scale = max(abs(self.limit), 1e-6)
        beyond = UNLIKE * np.exp(-np.maximum(scores - self.limit, 0) / scale / _TAIL)
        return np.where(scores > self.limit, np.minimum(beyond, UNLIKE * (1 - 1e-9)), usual)

    def to_bytes(self) -> bytes:
        """The guard as a member of a model file."""
        arrays: dict[str, np.ndarray] = {"quantiles": self.quantiles}
        for number, depth in enumerate(self.depths):
            arrays |= {
                f"mean{number}": depth.mean,
                f"axes{number}": depth.axes,
                f"variances{number}": depth.variances,
                f"numbers{number}": np.array([depth.rest, depth.centre, depth.spread]),
            }
        buffer = BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Guard:
        """The guard that `to_bytes` wrote.

        Raises:
            ValueError, KeyError, OSError: the bytes are none.
        """
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            count = sum(name.startswith("mean") for name in arrays.files)
            depths = []
            for number in range(count):
                mean, axes, variances = (
                    arrays[f"{name}{number}"] for name in ("mean", "axes", "variances")
                )
                depths.append(Depth(mean, axes, variances, *map(float, arrays[f"numbers{number}"])))
            return cls(tuple(depths), arrays["quantiles"])


def pooled(maps: np.ndarray) -> np.ndarray:
    """Maps (n, h, w, c) → their means over a grid of at most 3 × 3 places, (n, places · c)."""
    count, height, width, channels = maps.shape
    rows, columns = _shares(height), _shares(width)
    places = np.einsum("ph,qw->pqhw", rows, columns).reshape(-1, height * width)
    means = places @ np.asarray(maps, "float32").reshape(count, height * width, channels)
    return np.asarray(means.reshape(count, -1))


def _shares(length: int) -> np.ndarray:
    """What each of `length` pixels counts in the mean of each place, float32 (places, length)."""
    places = min(PLACES, length)
    shares = np.zeros((places, length), "float32")
    for place in range(places):
        start, end = place * length // places, (place + 1) * length // places
        shares[place, start:end] = 1 / (end - start)
    return shares


def fit_guard(train: Iterable[Sequence[np.ndarray]], val: Iterable[Sequence[np.ndarray]]) -> Guard:
    """What is usual, from training images, and where its limit is, from those of validation.

    Args:
        train: batches of features, each of all depths; see `pooled`.
        val: the same.
    """
    usual = [_usual(np.concatenate(parts)) for parts in zip(*train, strict=True)]
    # of validation images the distances alone are kept: there may be many
    apart = [[d.distances(f) for d, f in zip(usual, part, strict=True)] for part in val]
    each = [np.concatenate(parts) for parts in zip(*apart, strict=True)]
    depths, scores = [], []
    for depth, distances in zip(usual, each, strict=True):
        spread = max(float(distances.std()), 1e-6)
        depths.append(
            Depth(
                depth.mean, depth.axes, depth.variances, depth.rest, float(distances.mean()), spread
            )
        )
        scores.append((distances - distances.mean()) / spread)
    return Guard(tuple(depths), np.quantile(np.mean(scores, axis=0), _LEVELS))


def _usual(features: np.ndarray) -> Depth:
    """Mean and shrunken covariance of features (n, d), along its largest axes."""
    count, size = features.shape
    mean = features.mean(axis=0)
    apart = (features - mean).astype("float64")
    # eigenvalues of the covariance from the smaller of the two products
    gram = apart @ apart.T / count if count < size else apart.T @ apart / count
    values, vectors = np.linalg.eigh(gram)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    kept = min(AXES, int((values > values[0] * 1e-10).sum()) if values[0] > 0 else 0)
    axes = vectors[:, :kept].T
    if count < size:
        axes = axes @ apart / np.sqrt(np.maximum(values[:kept], 1e-300) * count)[:, np.newaxis]
    share, average = _shrinkage(values, count, size), values.sum() / size
    shrunken = (1 - share) * values[:kept] + share * average
    rest = average
    if size > kept:
        rest = (1 - share) * values[kept:].sum() / (size - kept) + share * average
    floor = max(average * 1e-6, 1e-12)
    return Depth(
        mean.astype("float32"),
        axes.astype("float16"),
        np.maximum(shrunken, floor).astype("float32"),
        max(float(rest), floor),
    )


def _shrinkage(values: np.ndarray, count: int, size: int) -> float:
    """The share of a sphere in the covariance, as scikit-learn's `OAS` simplifies Chen's (23)."""
    trace, squares = values.sum(), (values**2).sum()
    below = (count + 1) * (squares - trace**2 / size)
    return 1.0 if below <= 0 else float(min(1.0, (squares + trace**2) / below))
