"""What the bootstrap refuses."""

import numpy as np
import pytest
from helpers.bootstrap_cases import NAMED, intervals, paired_differences, random_case

from cxr_keras.errors import DataError


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ({"probability": np.nan}, "NaN"),
        ({"probability": np.inf}, "NaN, infinite"),
        ({"probability": 1.5}, "0…1"),
        ({"truth": 2}, "Truth must be 0, 1 or NaN"),
        ({"truth": np.inf}, "Truth must be 0, 1 or NaN"),
        ({"patients": None}, "Name the patient of each image. Received: None or NaN for 1"),
        ({"patients": np.nan}, "None or NaN for 1"),
        ({"patients": [1]}, "Patients must be numbers or strings. Received: "),
    ],
)
def test_bad_values_are_refused(spoil, says):
    (which, value), *_ = spoil.items()
    truth, probability, patients = (array.tolist() for array in random_case(11))
    if which == "patients":
        patients[3] = value
    else:
        {"truth": truth, "probability": probability}[which][3][2] = value
    with pytest.raises(DataError, match=says):
        intervals(truth, probability, patients, **NAMED)
    good = random_case(11)[1]
    for pair in ((probability, good), (good, probability)):
        with pytest.raises(DataError, match=says):
            paired_differences(truth, *pair, patients, **NAMED)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, p, w: (t[:5], p, w), r"Received: \(5, 4\) and \(60, 4\)"),
        (lambda t, p, w: (t[:, :3], p[:, :3], w), r"\(n_samples, 4\)"),
        (lambda t, p, w: (t[:0], p[:0], w[:0]), "no sample"),
        (lambda t, p, w: (t, p, w[:7]), "Give one patient per image. Received: 7 for 60"),
        (lambda t, p, w: (t, p, []), "Received: 0 for 60"),
        (lambda t, p, w: (t, p, [object() for _ in w]), "Patients must be numbers or strings"),
    ],
)
def test_wrong_shapes_and_patients_are_refused(change, says):
    with pytest.raises(DataError, match=says):
        intervals(*change(*random_case(12)), **NAMED)


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"resamples": 0}, "Resamples must be 1 or more .* Received: 0"),
        ({"seed": -1}, "The seed must be 0 or more. Received: -1"),
        ({"level": 0}, "between 0 and 1 .* Received: 0"),
        ({"level": 1.0}, "between 0 and 1 .* Received: 1.0"),
        ({"level": 95}, "between 0 and 1 .* Received: 95"),
        ({"level": float("nan")}, "Received: nan"),
        ({"averages": {"mine": [0, 4]}}, r'"mine" must be over columns 0 to 3. Received: \[0, 4\]'),
        ({"averages": {"mine": [-1]}}, r"Received: \[-1\]"),
    ],
)
def test_wrong_options_are_refused(option, says):
    truth, probability, patients = random_case(13)
    with pytest.raises(DataError, match=says):
        intervals(truth, probability, patients, **(NAMED | option))
    with pytest.raises(DataError, match=says):
        paired_differences(truth, probability, probability, patients, **(NAMED | option))
