"""Ages, sexes and views as groups."""

import pandas as pd


def test_ages_fall_into_bands_and_nonsense_is_unknown():
    from cxr_keras.data.demographics import groups_of

    ages = pd.DataFrame({"Patient Age": [0, 17, 17.5, 18, 39, 40, 64, 65, 120, 414, None, "x"]})
    assert groups_of(ages)["age"].tolist() == [
        *["0–17"] * 3, *["18–39"] * 2, *["40–64"] * 2, *["65 and over"] * 2, *["unknown"] * 3,
    ]  # fmt: skip
    assert groups_of(pd.DataFrame({"x": [1]})).empty
