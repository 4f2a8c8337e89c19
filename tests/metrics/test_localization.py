"""Heat maps against boxes, measured on maps whose answers are plain to see."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cxr_keras.metrics.localization import (
    AVERAGE,
    MEASURES,
    centre_prior,
    detected_box,
    measure_map,
    summary,
)


def blob(left, top, right, bottom, side=20):
    heat = np.zeros((side, side))
    heat[top:bottom, left:right] = 0.8
    heat[top, left] = 1.0
    return heat


def slow_parts(lit):
    """The sets of pixels that touch by their sides."""
    left, parts = {(int(r), int(c)) for r, c in np.argwhere(lit)}, []
    while left:
        part, fringe = set(), [left.pop()]
        while fringe:
            r, c = fringe.pop()
            part.add((r, c))
            beside = {(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)} & left
            left -= beside
            fringe += beside
        parts.append(part)
    return parts


def pixels_of(box):
    left, top, right, bottom = box
    return {(r, c) for r in range(int(top), int(bottom)) for c in range(int(left), int(right))}


def slow_measures(heat, boxes):
    """The measures of a map and of boxes of whole pixels, by counting pixels."""
    part = max(slow_parts(heat >= heat.max() / 2), key=len)
    rows, columns = zip(*part, strict=True)
    drawn = (min(columns), min(rows), max(columns) + 1, max(rows) + 1)
    own, theirs = pixels_of(drawn), [pixels_of(box) for box in boxes]
    iou = max(len(own & box) / len(own | box) for box in theirs)
    iobb = max(len(own & box) / len(own) for box in theirs)
    middle = ((drawn[0] + drawn[2]) / 2, (drawn[1] + drawn[3]) / 2)
    inside = [a <= middle[0] <= c and b <= middle[1] <= d for a, b, c, d in boxes]
    peak = tuple(int(i) for i in np.argwhere(heat == heat.max())[0])
    found = {"pointing": peak in set().union(*theirs), "mean_iou": iou, "centre": any(inside)}
    found["energy"] = sum(heat[pixel] for pixel in set().union(*theirs)) / heat.sum()
    for limit in (0.1, 0.25, 0.3, 0.5):
        found |= {f"iou_{limit}": iou > limit, f"iobb_{limit}": iobb > limit}
    return drawn, {name: float(value) for name, value in found.items()}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_against_counting_pixels(seed):
    rng = np.random.default_rng(seed)
    heat = rng.choice([0.0, 0.1, 0.3, 0.7, 0.9], (7, 9), p=[0.1, 0.2, 0.2, 0.3, 0.2])
    heat[rng.integers(7) :] *= 0.3
    heat[rng.integers(7), rng.integers(9)] = 1
    heat *= rng.choice([0.2, 1, 30])
    *_, second, largest = sorted([0, *map(len, slow_parts(heat >= heat.max() / 2))])
    assume(largest > second)
    boxes = []
    for _ in range(rng.integers(1, 4)):
        left, right = sorted(rng.choice(10, 2, replace=False))
        top, bottom = sorted(rng.choice(8, 2, replace=False))
        boxes.append((float(left), float(top), float(right), float(bottom)))
    box, expected = slow_measures(heat, boxes)
    assert detected_box(heat) == box
    assert measure_map(heat, boxes) == pytest.approx(expected)
    assert set(MEASURES) == set(expected)


def test_the_peak_is_the_middle_of_its_pixel():
    heat = np.zeros((6, 6))
    heat[3, 2] = 1
    boxes = {
        (2.4, 3.4, 6, 6): 1,  # column, row: 2.5, 3.5
        (0, 0, 2.5, 3.5): 1,  # an edge belongs to its box
        (2.6, 3, 6, 6): 0,
        (2, 3.6, 6, 6): 0,
        (0, 0, 2.4, 6): 0,
        (0, 0, 6, 3.4): 0,
    }
    for box, pointed in boxes.items():
        found = measure_map(heat, [box])
        assert (found["pointing"], found["centre"]) == (pointed, pointed), box


def test_the_detected_box_is_around_the_largest_part_above_half_the_maximum():
    heat = blob(3, 4, 9, 12) + 0.9 * blob(14, 14, 16, 16)
    heat[0, 0] = 0.49
    assert detected_box(heat) == (3, 4, 9, 12)
    assert detected_box(np.zeros((5, 5))) is None


def test_a_map_that_is_the_box():
    found = measure_map(blob(3, 4, 9, 12), [(3, 4, 9, 12)])
    assert found == pytest.approx(dict.fromkeys(MEASURES, 1.0))


def test_a_map_that_covers_a_quarter_of_the_box_and_lies_in_it():
    found = measure_map(blob(4, 4, 8, 8), [(4, 4, 12, 12)])
    assert found["mean_iou"] == pytest.approx(16 / 64)
    assert (found["iou_0.1"], found["iou_0.25"], found["iou_0.5"]) == (1, 0, 0)
    assert all(found[name] == 1 for name in ("iobb_0.5", "pointing", "energy", "centre"))


def test_a_map_that_hangs_over():
    found = measure_map(blob(0, 0, 10, 10), [(5, 5, 15, 15)])
    assert found["mean_iou"] == pytest.approx(25 / 175)
    assert (found["iobb_0.1"], found["iobb_0.25"]) == (1, 0)  # 25 of 100, and not above
    assert (found["pointing"], found["centre"]) == (0, 1)
    assert found["energy"] == pytest.approx(25 * 0.8 / (99 * 0.8 + 1))


def test_of_several_boxes_the_best_counts_and_energy_counts_once():
    boxes = [(0, 0, 2, 2), (4, 4, 8, 8), (4, 4, 8, 9)]
    found = measure_map(blob(4, 4, 8, 8), boxes)
    assert found["mean_iou"] == 1
    assert found["energy"] == pytest.approx(1)


def test_parts_of_pixels_count_as_parts():
    heat = np.ones((4, 4))
    assert measure_map(heat, [(0.5, 0, 2, 4)])["energy"] == pytest.approx(1.5 * 4 / 16)


def test_an_empty_map_misses_everything():
    assert measure_map(np.zeros((6, 6)), [(0, 0, 6, 6)]) == dict.fromkeys(MEASURES, 0.0)


def test_the_centre_prior_is_highest_in_the_middle():
    prior = centre_prior(9)
    assert np.unravel_index(prior.argmax(), prior.shape) == (4, 4)
    np.testing.assert_allclose(prior, prior[::-1, ::-1])


def test_the_centre_prior_is_a_bell_of_a_quarter_of_the_side():
    prior = centre_prior(4)  # the pixels' middles lie 3/8 and 1/8 of the side from the centre
    away = np.array([-1.5, -0.5, 0.5, 1.5])
    expected = np.exp(-(away[:, None] ** 2 + away**2) / 2)
    assert prior == pytest.approx(expected, rel=1e-6)
    assert prior.dtype == "float32"


def made(maps, seed=0):
    rng = np.random.default_rng(seed)
    rows = {"map": "gradcam", "label": rng.choice(["A", "B"], maps, p=[0.7, 0.3])}
    rows["patient"] = rng.integers(0, maps // 3, maps)
    return pd.DataFrame(rows | {name: rng.random(maps) for name in MEASURES})


def test_means_by_finding_and_their_plain_average():
    found = made(90)
    table = summary(found, resamples=50).set_index("label")
    for label in ("A", "B"):
        some = found[found["label"] == label]
        assert table.loc[label, "pointing"] == pytest.approx(some["pointing"].mean())
        assert table.loc[label, "patients"] == some["patient"].nunique()
    both = (table.loc["A", "energy"] + table.loc["B", "energy"]) / 2
    assert table.loc[AVERAGE, "energy"] == pytest.approx(both)


def test_intervals_are_those_of_patients_drawn_one_by_one():
    found = made(90)
    table = summary(found, resamples=4000).set_index("label")
    rng = np.random.default_rng(5)
    people, drawn = found["patient"].unique(), []
    of = {one: found[found["patient"] == one] for one in people}
    for _ in range(800):
        chosen = rng.choice(people, len(people))
        again = pd.concat([of[one] for one in chosen])
        drawn.append(again.groupby("label")["pointing"].mean())
    low, high = np.percentile([one["A"] for one in drawn], [2.5, 97.5])
    assert table.loc["A", "pointing_low"] == pytest.approx(low, abs=0.025)
    assert table.loc["A", "pointing_high"] == pytest.approx(high, abs=0.025)
    averages = [one.mean() for one in drawn]
    low, high = np.percentile(averages, [2.5, 97.5])
    assert table.loc[AVERAGE, "pointing_low"] == pytest.approx(low, abs=0.025)


def test_no_intervals_where_none_are_asked_for():
    table = summary(made(30), resamples=0)
    assert table["pointing_low"].isna().all()
    assert table["pointing"].notna().all()


KINDS, FINDINGS = ("gradcam", "a later kind"), ("A", "B", "rare")


def slow_means(maps):
    """Of each kind the means of each finding and their average, (8, measures), NaN left out."""
    rows = []
    for kind in KINDS:
        own = [maps[(maps["map"] == kind) & (maps["label"] == name)] for name in FINDINGS]
        means = pd.DataFrame([some[list(MEASURES)].mean() for some in own])
        rows += [means, means.mean().to_frame().T]
    return pd.concat(rows).to_numpy()


def test_a_summary_against_maps_truly_repeated():
    found = pd.concat([made(24), made(24, seed=1)], ignore_index=True)
    found["map"] = np.repeat(KINDS, 24)
    found.loc[[3, 30], ["label", "patient"]] = ["rare", 99]  # some resamples have none of it
    table = summary(found, resamples=40)
    people = found["patient"].unique()
    even = np.full(len(people), 1 / len(people))
    drawn = np.random.default_rng(0).multinomial(len(people), even, 40)
    assert (drawn[:, list(people).index(99)] == 0).any()
    again = []
    for times in drawn:
        counts = found["patient"].map(dict(zip(people, times, strict=True)))
        again.append(slow_means(found.loc[found.index.repeat(counts)]))
    low, high = np.nanpercentile(again, [2.5, 97.5], axis=0)
    for i, name in enumerate(MEASURES):
        np.testing.assert_allclose(table[name], slow_means(found)[:, i], rtol=1e-12)
        np.testing.assert_allclose(table[f"{name}_low"], low[:, i], rtol=1e-12)
        np.testing.assert_allclose(table[f"{name}_high"], high[:, i], rtol=1e-12)
    rows = [(kind, name) for kind in KINDS for name in (*FINDINGS, "average")]
    assert list(zip(table["map"], table["label"], strict=True)) == rows
    for (kind, name), maps, patients in zip(rows, table["maps"], table["patients"], strict=True):
        own = found[(found["map"] == kind) & ((found["label"] == name) | (name == "average"))]
        assert (maps, patients) == (len(own), own["patient"].nunique())


def test_a_summary_does_not_depend_on_what_the_rows_are_called():
    maps = made(24)
    named = maps.set_index(pd.Index(np.arange(24)[::-1] * 3))
    pd.testing.assert_frame_equal(summary(named, resamples=40), summary(maps, resamples=40))
