"""The per-label table of each subgroup, and the overview of them."""

import numpy as np
import pandas as pd
import pytest

from cxr_keras.metrics.bootstrap import Resampling
from cxr_keras.metrics.interval_table import interval_table
from cxr_keras.metrics.per_label import MEASURES
from cxr_keras.metrics.subgroups import overview, subgroup_table

NAMED = {"labels": ["Mass", "Edema", "Normal"], "normal": "Normal", "thresholds": [0.5, 0.4, 0.6]}
AVERAGE = "average of 2 findings"
BOUNDS = [f"{name}_{end}" for name in ("auroc", "ap") for end in ("low", "high")]
BOUNDS += [f"{name}_{end}" for name in ("precision", "recall", "f1") for end in ("low", "high")]


@pytest.fixture
def case():
    """Sixty images: 20 PA, 10 of which show AP's ten patients, too, 20 AP, 20 LATERAL of nine."""
    rng = np.random.default_rng(0)
    truth = (rng.random((60, 3)) < 0.4).astype(float)
    truth[40:, 1] = np.nan
    views = np.repeat(["PA", "AP", "LATERAL"], 20)
    patients = [*range(20), *np.arange(20) // 2, *(100 + np.arange(20) % 9)]
    groups = pd.DataFrame({"view": views, "sex": np.tile(["M", "F"], 30)})
    return groups, truth, np.round(rng.random((60, 3)), 2), pd.Series(patients)


def test_each_subgroup_is_measured_alone_if_it_has_ten_patients(case):
    groups, *arrays = case
    steps = []
    resampling = Resampling(20, seed=4, progress=steps.append)
    table = subgroup_table(groups, *arrays, **NAMED, resampling=resampling)
    assert list(table.columns[:5]) == ["group", "value", "images", "patients", "label"]
    ways = table[["group", "value", "images", "patients"]].drop_duplicates().to_numpy().tolist()
    assert ways == [
        ["view", "AP", 20, 10],
        ["view", "LATERAL", 20, 9],
        ["view", "PA", 20, 20],
        ["sex", "F", 30, 24],
        ["sex", "M", 30, 24],
    ]
    assert table.index.is_unique
    assert sum(steps) == 5 * 20  # as many as were announced, measured or not
    for name, value, *_ in ways:
        rows = table[table["value"] == value].iloc[:, 4:].reset_index(drop=True)
        inside = (groups[name] == value).to_numpy()
        own = interval_table(*(array[inside] for array in arrays), **NAMED, resampling=resampling)
        if value != "LATERAL":
            pd.testing.assert_frame_equal(rows, own)
            continue
        assert rows[["label", "support", "known"]].equals(own[["label", "support", "known"]])
        averaged = rows["label"].str.endswith(": labels averaged")
        assert rows.loc[~averaged, list(MEASURES)].isna().all(axis=None)
        assert rows.loc[averaged, list(MEASURES)].eq(0).all(axis=None)
        assert rows[BOUNDS].isna().all(axis=None)


@pytest.mark.parametrize("resampling", [None, Resampling(20)])
def test_the_overview_has_a_row_for_each_subgroup(case, resampling):
    table = subgroup_table(*case, **NAMED, resampling=resampling)
    found = overview(table, AVERAGE)
    measures = ["precision", "recall", "f1", "auroc", "ap"]
    bounds = BOUNDS if resampling else []
    columns = {"group", "value", "images", "patients", "support", *measures, *bounds, "labels"}
    assert set(found.columns) == columns
    assert list(found.columns[:5]) == ["group", "value", "images", "patients", "support"]
    assert found.columns[-1] == "labels"
    assert found["value"].tolist() == ["AP", "LATERAL", "PA", "F", "M"]
    assert found["labels"].tolist() == [2, 0, 2, 2, 2]
    assert found["labels"].dtype.kind == "i"
    assert found.index.tolist() == list(range(5))
    averages = table[table["label"] == AVERAGE].reset_index(drop=True)
    pd.testing.assert_frame_equal(found.drop(columns="labels"), averages[found.columns[:-1]])


def test_a_subgroup_in_which_a_label_has_one_class_averages_fewer(case):
    groups, truth, *rest = case
    truth[:20, 0] = 1
    table = subgroup_table(groups, truth, *rest, **NAMED)
    assert overview(table, AVERAGE)["labels"].tolist() == [2, 0, 1, 2, 2]


def test_without_subgroups_there_is_nothing_to_show(case):
    groups, *arrays = case
    table = subgroup_table(groups[[]], *arrays, **NAMED)
    assert table.empty
    assert overview(table, AVERAGE).empty
