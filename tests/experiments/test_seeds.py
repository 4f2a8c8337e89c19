"""experiments/benchmarks/seeds.py: a training of several seeds, their mean and spread."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers.places import ROOT

SCRIPT = ROOT / "experiments" / "benchmarks" / "seeds.py"


@pytest.mark.slow
def test_mean_and_spread_are_those_of_the_runs(phantoms, tmp_path):
    command = [sys.executable, SCRIPT, "resnet_custom", "--data", phantoms, "--epochs", 1]
    command += ["--seeds", "1,2", "--runs", tmp_path / "runs", "--out", tmp_path / "seeds.csv"]

    def table():
        result = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        assert "average of 14 findings" in result.stdout
        return pd.read_csv(tmp_path / "seeds.csv").set_index("label")

    first = table()
    for seed in (1, 2):
        run = tmp_path / "runs" / f"resnet_custom-ep1-lr0.0005-seed{seed}"
        own = pd.read_csv(run / "metrics.csv").set_index("label")["auroc"].dropna()
        np.testing.assert_allclose(first[f"seed_{seed}"], own, atol=1e-4)
    low, high = first["seed_1"], first["seed_2"]
    assert not low.equals(high)
    np.testing.assert_allclose(first["mean"], (low + high) / 2, atol=1e-4)
    np.testing.assert_allclose(first["sd"], (low - high).abs() / 2**0.5, atol=2e-4)
    pd.testing.assert_frame_equal(table(), first)  # nothing is trained again
