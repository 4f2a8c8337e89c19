"""How far probabilities can be believed, and the scaling that corrects them. Pure numpy, scipy.

Shapes are (n_samples, n_labels). Truth is 1, 0 or NaN (unknown): each label is measured and fitted
on the images of which it is known. Platt, "Probabilistic Outputs for Support Vector Machines", 1999
(slope and shift); Naeini et al., "Obtaining Well Calibrated Probabilities Using Bayesian Binning",
2015 (calibration error); Guo et al., "On Calibration of Modern Neural Networks", 2017,
https://arxiv.org/abs/1706.04599 (temperature); Saerens, Latinne & Decaestecker, "Adjusting the
Outputs of a Classifier to New a Priori Probabilities", 2002,
https://doi.org/10.1162/089976602753284446 (another prevalence).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit

from cxr_keras.errors import DataError
from cxr_keras.metrics.options import MIN_POSITIVES, SCALING_METHODS, ScalingMethod
from cxr_keras.metrics.per_label import Checked, binary_cross_entropy, checked, per_known

ALL_LABELS = "all labels"
CLIP, CLIP_FLOAT64 = 1e-7, 1e-15  # how near to 0 and 1 log odds are told apart
MIN_SLOPE, MAX_SLOPE = 0.05, 5.0  # separable data know no other limit; steeper rounds to 1
RIDGE = 1e-6  # on a Platt slope's distance from 1: constant scores leave it open


@dataclass(frozen=True)
class Scaling:
    """Probabilities → sigmoid(slope · logit(p) + shift), with one slope and one shift per label.

    A slope is above 0, so that the order of the images never changes; for "temperature" it is
    1 / temperature. A shift is 0 but for "platt". "none" changes nothing.
    """

    method: str
    slope: tuple[float, ...]
    shift: tuple[float, ...]

    def __post_init__(self) -> None:
        if (
            self.method not in SCALING_METHODS
            or not self.slope
            or len(self.slope) != len(self.shift)
        ):
            raise ValueError(f"an unknown method, or not one slope and shift per label: {self}")
        if not all(map(math.isfinite, self.slope + self.shift)) or min(self.slope) <= 0:
            raise ValueError(f"slopes must be finite and above 0, shifts finite: {self}")
        allowed = {"none": {(1, 0)}, "temperature": {(self.slope[0], 0)}}.get(self.method)
        if allowed and set(zip(self.slope, self.shift, strict=True)) != allowed:
            raise ValueError(f"{self.method!r} has no such slopes or shifts: {self}")

    def apply(self, probability: ArrayLike) -> np.ndarray:
        """Scale probabilities, shape (n_samples, n_labels); DataError where one is not in 0…1."""
        given, number = np.asarray(probability), len(self.slope)
        if given.ndim != 2 or given.shape[1] != number:
            raise DataError(f"Scaling takes (n_samples, {number}). Received: {given.shape}.")
        if not ((given >= 0) & (given <= 1)).all():
            raise DataError(
                "Probabilities must lie in 0…1; they hold NaN or other values. Give the network's "
                "outputs, not logits."
            )
        if self.method == "none":
            return given
        unchanged = (np.array(self.slope) == 1) & (np.array(self.shift) == 0)
        scaled = scale_logits(_logit(given), self.slope, self.shift)
        return np.where(unchanged, given, scaled)

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` reads it back."""
        return {"method": self.method, "slope": list(self.slope), "shift": list(self.shift)}

    @classmethod
    def from_dict(cls, content: Any) -> Scaling:
        """Read a scaling; ValueError where `content` describes none."""
        try:
            return cls(content["method"], tuple(content["slope"]), tuple(content["shift"]))
        except (TypeError, KeyError, OverflowError) as error:
            raise ValueError(f"no scaling: {content!r}") from error


def scale_logits(logits: ArrayLike, slope: ArrayLike, shift: ArrayLike) -> np.ndarray:
    """sigmoid(slope · logit + shift), (n_samples, n_labels), with one slope and shift per label."""
    return expit(np.asarray(slope) * np.asarray(logits) + np.asarray(shift))


def prevalence_shift(old: ArrayLike, new: ArrayLike) -> np.ndarray:
    """What moves log odds that are right where a label has the share `old` of the images to `new`.

    Bayes' rule: log odds of the new prevalence less those of the old one. It holds if the images
    with a label look the same in both places, and those without it, too, so that only how often
    the label occurs differs. Saerens et al. 2002.

    Args:
        old: shares of the images, above 0 and below 1, shape (n_labels,).
        new: the same elsewhere.

    Raises:
        DataError: a share is not above 0 and below 1.
    """
    shares = np.array([old, new], dtype=float)
    if not ((shares > 0) & (shares < 1)).all():
        raise DataError(f"A prevalence must be above 0 and below 1. Received: {shares.tolist()}.")
    moved: np.ndarray = logit(shares[1]) - logit(shares[0])
    return moved


def brier_score(truth: ArrayLike, probability: ArrayLike) -> np.ndarray:
    """Mean squared distance of probability and truth, shape (n_labels,); 0 is best.

    NaN for a label known of no image.
    """
    truth, known, probability = checked(truth, probability, np.atleast_2d(truth).shape[1])
    squares = (probability - truth) ** 2
    squares[~known] = 0
    return per_known(squares.sum(axis=0), known)


def expected_calibration_error(
    truth: ArrayLike, probability: ArrayLike, *, bins: int = 15
) -> np.ndarray:
    """Mean distance of mean probability and observed rate, shape (n_labels,); 0 is best.

    Over `bins` equally wide bins (low, high], 0 in the first, each weighing its share of images.
    NaN for a label known of no image.
    """
    arrays = checked(truth, probability, np.atleast_2d(truth).shape[1])
    _, predicted, observed = _binned(arrays, bins)
    return per_known(np.abs(predicted - observed).sum(axis=1), arrays.known)


def reliability_table(
    truth: ArrayLike, probability: ArrayLike, *, labels: Sequence[str], bins: int = 10
) -> pd.DataFrame:
    """Predicted against observed: one row per label and bin of probabilities that holds images.

    Columns label, bin_low, bin_high, images, mean_probability, observed_rate. The last rows pool
    the labels as "all labels": there each image counts once per label known of it.
    """
    sums = _binned(checked(truth, probability, len(labels)), bins)
    images, predicted, observed = (np.vstack([part, part.sum(axis=0)]) for part in sums)
    held = np.nonzero(images)
    columns = {
        "label": np.array([*labels, ALL_LABELS])[held[0]],
        "bin_low": held[1] / bins,
        "bin_high": (held[1] + 1) / bins,
        "images": images[held],
        "mean_probability": predicted[held] / images[held],
        "observed_rate": observed[held] / images[held],
    }
    return pd.DataFrame(columns)


def fit_scaling(
    truth: ArrayLike,
    probability: ArrayLike,
    *,
    labels: Sequence[str],
    method: ScalingMethod,
    min_positives: int = MIN_POSITIVES,
) -> tuple[Scaling, list[str]]:
    """Fit a scaling that minimises binary cross-entropy, never raising it on these data.

    "temperature" is one slope for all labels together; "platt" one slope and one shift per label,
    on the truth as it is (Platt smoothed it). A label with fewer than `min_positives` positives or
    negatives keeps its probabilities (for "temperature": all labels pooled).

    Returns:
        The scaling, and notices: a sentence for each kind of label that could not be fitted.

    Raises:
        DataError: an unknown method, shapes differ, or a value is out of range or infinite, or a
            probability NaN.
    """
    if method not in SCALING_METHODS:
        raise DataError(f"Unknown scaling {method!r}. Choose one of: {', '.join(SCALING_METHODS)}.")
    outputs = np.asarray(probability)  # in its own precision, for the clip
    arrays = checked(truth, probability, len(labels))
    fitted, scarce, turned = [], [], []
    for name, flags, given, score in _parts(arrays, _logit(outputs), labels, method):
        positives, fit = int(flags.sum()), (1.0, 0.0)
        if min(positives, flags.size - positives) < max(min_positives, 1):
            scarce.append(f"{name} {positives:,}")
        else:
            fit = _fit(flags, score, method)
        # the bound of the search: the best slope may be negative; a temperature alone also goes
        # there where all scores are too high or too low
        at_bound = fit[0] <= MIN_SLOPE * 1.001
        if at_bound and (method == "platt" or score[flags == 1].mean() < score[flags == 0].mean()):
            turned.append(name)
        after = binary_cross_entropy(flags, expit(fit[0] * score + fit[1]))
        fitted.append(fit if after < binary_cross_entropy(flags, given) else (1.0, 0.0))
    filled = fitted if method == "platt" else (fitted or [(1.0, 0.0)]) * len(labels)
    slope, shift = zip(*filled, strict=True)
    sentences = {
        f"Labels with fewer than {min_positives} positives or negatives keep their probabilities; "
        f"their positives: {', '.join(scarce)}.": scarce,
        "Higher scores do not go with more positives; the slope is held at "
        f"{MIN_SLOPE}, so that the order of images stays, for: {', '.join(turned)}.": turned,
    }
    return Scaling(method, slope, shift), [text for text, names in sentences.items() if names]


def _parts(
    arrays: Checked, logits: np.ndarray, labels: Sequence[str], method: str
) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """What is fitted by itself: its name, and its known truth, probabilities and logits, (n,)."""
    truth, known, probability = arrays
    if method == "temperature":
        kept = slice(None) if known.all() else known.ravel()  # a slice copies nothing
        flags, given, score = (array.ravel()[kept] for array in (truth, probability, logits))
        return [(ALL_LABELS, flags, given, score)]
    if method == "platt":
        return [
            (label, truth[seen, i], probability[seen, i], logits[seen, i])
            for i, (label, seen) in enumerate(zip(labels, known.T, strict=True))
        ]
    return []


def _fit(truth: np.ndarray, score: np.ndarray, method: str) -> tuple[float, float]:
    """Slope and shift for the logits (n,) of one label, or of all together."""
    from scipy.optimize import minimize, minimize_scalar  # takes long to import

    def loss(slope: float, shift: float = 0.0) -> float:
        z = slope * score + shift
        return float(np.mean(np.logaddexp(0, z) - truth * z))

    def platt(x: np.ndarray) -> tuple[float, list[float]]:
        error, far = expit(x[0] * score + x[1]) - truth, x[0] - 1
        gradient = [np.mean(error * score) + 2 * RIDGE * far, np.mean(error)]
        return loss(x[0], x[1]) + RIDGE * far**2, gradient

    if method == "temperature":
        limits = (math.log(MIN_SLOPE), math.log(MAX_SLOPE))
        power = minimize_scalar(lambda x: loss(math.exp(x)), bounds=limits, method="bounded").x
        return math.exp(power), 0.0
    bounds, options = [(MIN_SLOPE, MAX_SLOPE), (None, None)], {"ftol": 1e-15, "gtol": 1e-9}
    found = minimize(platt, [1, 0], jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return float(found.x[0]), float(found.x[1])


def _logit(probability: np.ndarray) -> np.ndarray:
    """Finite log odds; what the clip cuts off is added, so that the order of the cut stays."""
    clip = CLIP_FLOAT64 if probability.dtype == np.float64 else CLIP  # float32 ends there
    probability = probability.astype(float)
    clipped = np.clip(probability, clip, 1 - clip)
    return logit(clipped) + (probability - clipped)


def _binned(arrays: Checked, bins: int) -> list[np.ndarray]:
    """Known images, summed probability and positives of each bin, each (n_labels, bins)."""
    if bins < 1:
        raise DataError(f"The number of bins must be 1 or more. Received: {bins}.")
    truth, known, probability = arrays
    shape = (truth.shape[1], bins)
    place = np.searchsorted(np.arange(1, bins) / bins, probability) + bins * np.arange(shape[0])
    place[~known] = shape[0] * bins  # behind the last bin, and cut off
    weights = (None, probability.ravel(), truth.ravel())
    sums = [np.bincount(place.ravel(), w, shape[0] * bins + 1) for w in weights]
    return [part[:-1].reshape(shape) for part in sums]
