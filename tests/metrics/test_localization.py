"""Heat maps against boxes, measured on maps whose answers are plain to see."""

import numpy as np
import pandas as pd
import pytest

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
