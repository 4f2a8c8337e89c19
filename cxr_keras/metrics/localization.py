"""Heat maps against boxes: does the map point at the finding, and how well does it cover it?

The measures of one map and the boxes of one finding in one image:

pointing   1 if the map's highest place lies in a box (Zhang et al., "Top-down Neural Attention by
           Excitation Backprop", ECCV 2016, https://arxiv.org/abs/1608.00507, without a margin)
energy     the share of the map that lies in the boxes (Wang et al., "Score-CAM", 2020,
           https://arxiv.org/abs/1910.01279)
iou, iobb  of the detected box and the best of the boxes: intersection over union, and over the
           detected box (Wang et al., "ChestX-ray8", CVPR 2017, https://arxiv.org/abs/1705.02315)
centre     1 if the detected box's centre lies in a box
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cxr_keras.metrics.options import RESAMPLES

LIMITS = (0.1, 0.25, 0.3, 0.5)  # of iou and iobb, above which a detection counts
SHARE = 0.5  # of the map's highest value: the detected box is around the largest part from there up
RULE = f"the box around the largest connected part from {SHARE:g} of the map's highest value up"
MEASURES = (
    "pointing",
    "energy",
    *(f"{kind}_{limit:g}" for kind in ("iou", "iobb") for limit in LIMITS),
    "mean_iou",
    "centre",
)
AVERAGE = "average"
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def detected_box(heat: np.ndarray) -> Box | None:
    """The box that a map draws, by `RULE`; None for an empty map.

    Args:
        heat: (rows, columns), none below 0.
    """
    from scipy import ndimage

    if not heat.max() > 0:
        return None
    parts, count = ndimage.label(heat >= SHARE * heat.max())
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    rows, columns = ndimage.find_objects(parts)[int(sizes.argmax())]
    return float(columns.start), float(rows.start), float(columns.stop), float(rows.stop)


def measure_map(heat: np.ndarray, boxes: Sequence[Box]) -> dict[str, float]:
    """`MEASURES` of one map, each 0…1; an empty map misses everything.

    Args:
        heat: (rows, columns), none below 0.
        boxes: of the finding in the image, at least one, in the map's pixels.
    """
    box = detected_box(heat)
    if box is None:
        return dict.fromkeys(MEASURES, 0.0)
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    peak = (column + 0.5, row + 0.5)
    shared = [_overlap(box, one) for one in boxes]
    area = _area(box)
    iou = max(s / (area + _area(one) - s) for s, one in zip(shared, boxes, strict=True))
    iobb = max(shared) / area
    centre = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    return {
        "pointing": float(any(_holds(one, peak) for one in boxes)),
        "energy": float((heat * _cover(heat.shape, boxes)).sum() / heat.sum()),
        **{f"iou_{limit:g}": float(iou > limit) for limit in LIMITS},
        **{f"iobb_{limit:g}": float(iobb > limit) for limit in LIMITS},
        "mean_iou": float(iou),
        "centre": float(any(_holds(one, centre) for one in boxes)),
    }


def centre_prior(side: int) -> np.ndarray:
    """A map that knows nothing but that findings lie near the middle: a bell, (side, side)."""
    away = (np.arange(side) + 0.5) / side - 0.5
    bell = np.exp(-((away / 0.25) ** 2) / 2)
    return np.outer(bell, bell).astype("float32")


def _cover(shape: tuple[int, ...], boxes: Sequence[Box]) -> np.ndarray:
    """Which share of each pixel lies in the boxes, (rows, columns)."""
    covered = np.zeros(shape)
    for left, top, right, bottom in boxes:
        rows, columns = (
            np.clip(
                np.minimum(end, np.arange(length) + 1) - np.maximum(start, np.arange(length)), 0, 1
            )
            for length, start, end in ((shape[0], top, bottom), (shape[1], left, right))
        )
        covered = np.maximum(covered, np.outer(rows, columns))
    return covered


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _overlap(a: Box, b: Box) -> float:
    return _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def _holds(box: Box, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] <= box[2] and box[1] <= point[1] <= box[3]


def summary(found: pd.DataFrame, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Means of the measures by kind of map and finding, with 95% intervals over patients.

    Args:
        found: a row a map: map, label, patient, and `MEASURES`.
        resamples: of the bootstrap, which draws patients; 0 for no intervals.
        seed: of the draws.

    Returns:
        map, label ("average" for the mean over the findings), maps, patients, and each measure with
        <measure>_low and <measure>_high.
    """
    found = found.reset_index(drop=True)  # places, whatever the rows are called
    codes, people = pd.factorize(found["patient"])
    weights = np.ones((1, len(people)))
    if resamples:
        even = np.full(len(people), 1 / len(people))
        drawn = np.random.default_rng(seed).multinomial(len(people), even, resamples)
        weights = np.concatenate([weights, drawn])
    rows = []
    for kind, group in found.groupby("map", sort=False):
        means = []
        for label, some in group.groupby("label", sort=True):
            whose = codes[some.index]
            counts = weights @ np.bincount(whose, minlength=len(people))
            sums = np.stack(
                [
                    weights @ np.bincount(whose, weights=some[name], minlength=len(people))
                    for name in MEASURES
                ],
                axis=1,
            )
            with np.errstate(invalid="ignore"):
                means.append(sums / counts[:, np.newaxis])  # NaN where no such patient was drawn
            rows.append(_row(kind, label, len(some), some["patient"].nunique(), means[-1]))
        average = np.nanmean(np.stack(means), axis=0)
        rows.append(_row(kind, AVERAGE, len(group), group["patient"].nunique(), average))
    return pd.DataFrame(rows)


def _row(
    kind: object, label: object, maps: int, patients: int, means: np.ndarray
) -> dict[str, Any]:
    row = {"map": kind, "label": label, "maps": maps, "patients": patients}
    for place, name in enumerate(MEASURES):
        row[name] = means[0, place]
        drawn = means[1:, place]
        ends = np.nanpercentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
        row[f"{name}_low"], row[f"{name}_high"] = ends
    return row
