"""`compare`: two runs on the same images."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from cxr_keras import compare
from cxr_keras.errors import CxrError
from cxr_keras.evaluation import comparison


def write(path, seed, signal, n=150, **columns):
    """Predictions of two labels for `n` images of n/2 patients, better with more signal."""
    truth = np.random.default_rng(0).random((n, 2)) < 0.4
    noise = np.random.default_rng(seed).normal(size=(n, 2))
    probability = 1 / (1 + np.exp(-(signal * truth + noise)))
    table = pd.DataFrame(
        {
            "Image Index": [f"{i:04d}.png" for i in range(n)],
            "Patient ID": [str(i // 2) for i in range(n)],
            **{f"prob_{name}": probability[:, i] for i, name in enumerate(("Mass", "Edema"))},
            **{f"true_{name}": truth[:, i].astype(int) for i, name in enumerate(("Mass", "Edema"))},
        }
    ).assign(**columns)
    table.to_csv(path, index=False)
    return path


def test_the_better_run_is_told_apart_and_the_same_is_not(tmp_path):
    weak, strong = write(tmp_path / "a.csv", 1, 0.3), write(tmp_path / "b.csv", 2, 3.0)
    table = compare(weak, strong, resamples=300).set_index("label")
    assert (table["auroc_difference"] > 0.1).all()
    assert (table["auroc_low"] > 0).all()
    assert (table["auroc_p"] < 0.01).all()
    back = compare(strong, weak, resamples=300).set_index("label")
    np.testing.assert_allclose(back["auroc_difference"], -table["auroc_difference"])
    same = compare(weak, weak, resamples=50)
    assert (same["auroc_difference"] == 0).all()
    assert (same["auroc_p"] == 1).all()


def test_only_shared_images_and_labels_count_whatever_their_order(tmp_path, capsys):
    a, b = write(tmp_path / "a.csv", 1, 1.0), write(tmp_path / "b.csv", 2, 1.0)
    whole = compare(a, b, resamples=50)
    table = pd.read_csv(b, dtype={"Patient ID": str}).iloc[20:].sample(frac=1, random_state=0)
    table.drop(columns=["prob_Edema", "true_Edema"]).to_csv(tmp_path / "c.csv", index=False)
    part = compare(a, tmp_path / "c.csv", resamples=50)
    assert list(part["label"]) == ["Mass", "average of 1 findings"]
    assert "20 images are in one of the two only: left out. 130 stay." in capsys.readouterr().err
    assert set(whole["label"]) == {"Mass", "Edema", "average of 2 findings"}


def test_truth_that_neither_run_knows_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "read_predictions", pd.read_csv)  # which lets NaN through
    true = (np.random.default_rng(1).random(150) < 0.4).astype(float)
    true[40:] = np.nan
    a, b = (write(tmp_path / f"{seed}.csv", seed, 1.0, true_Mass=true) for seed in (1, 2))
    table = compare(a, b, resamples=20).set_index("label")
    score = pd.read_csv(b)["prob_Mass"][:40]
    assert table.loc["Mass", "auroc_b"] == pytest.approx(roc_auc_score(true[:40], score))
    other = write(tmp_path / "c.csv", 2, 1.0, true_Mass=np.nan_to_num(true))
    with pytest.raises(CxrError, match="disagree about the truth of 110 images"):
        compare(a, other)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"true_Mass": 1}, "disagree about the truth of .* images"),
        ({"Image Index": "x.png"}, "has an image twice"),
        ({"prob_Mass": 2.0}, "prob_Mass must be a number in 0…1"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, columns, says):
    a = write(tmp_path / "a.csv", 1, 1.0)
    with pytest.raises(CxrError, match=says):
        compare(a, write(tmp_path / "b.csv", 2, 1.0, **columns))
    table = pd.read_csv(a)
    table.assign(**{"Image Index": "x" + table["Image Index"]}).to_csv(tmp_path / "c.csv")
    with pytest.raises(CxrError, match="have no image in common"):
        compare(a, tmp_path / "c.csv")
