"""AUROC and average precision of weighted images are scikit-learn's."""

import numpy as np
import pytest
from helpers.bootstrap_cases import random_case, scikit_learn

from cxr_keras.metrics import weighted


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_weighted_measures_against_scikit_learn(decimals):
    truth, score, codes = random_case(decimals, n=200, decimals=decimals)
    weights = np.random.default_rng(1).integers(0, 4, (12, 21)).astype(float)
    weights[:, 0] = 0  # nobody
    score[:, 3] = 0.5  # constant
    for t, s in zip(truth.T, score.T, strict=True):
        ranking = weighted.rank_images(t.astype(bool), s, codes + 1)
        expected = [scikit_learn(t, s, w[codes + 1]) for w in weights]
        np.testing.assert_allclose(
            weighted.auroc_and_ap(ranking, weights.T).T, expected, rtol=0, atol=1e-12
        )
