"""Predictions measured without a network."""

import numpy as np
import pandas as pd
import pytest

from cxr_keras import evaluate
from cxr_keras.errors import CxrError
from cxr_keras.evaluation.predictions_file import evaluate_predictions

TABLE = "Data_Entry_2017_v2020.csv"


def predictions_of(run):
    return pd.read_csv(run.folder / "predictions.csv", dtype={"Patient ID": str})


@pytest.mark.slow
def test_predictions_alone_give_the_same_tables(run, phantoms, tmp_path):
    evaluate_predictions(run.folder / "predictions.csv", phantoms / TABLE, out=tmp_path)
    at_half = evaluate(run.folder, thresholds=0.5, out=tmp_path / "run")
    ours = pd.read_csv(tmp_path / "metrics.csv")
    measured = at_half.metrics[at_half.metrics["label"].isin(ours["label"])]
    pd.testing.assert_frame_equal(
        ours.set_index("label"), measured.set_index("label"), check_dtype=False, atol=1e-6
    )


@pytest.mark.slow
def test_any_labels_in_any_order_and_spelling(run, phantoms, tmp_path):
    whole = evaluate_predictions(
        run.folder / "predictions.csv", phantoms / TABLE, out=tmp_path / "whole"
    )
    table = predictions_of(run).sample(frac=1, random_state=1)
    part = table[["prob_Nodule", "Image Index", "prob_Edema", "prob_No Finding"]]
    part.columns = ["prob_nodule", "Image Index", "prob_EDEMA", "prob_No_Finding"]
    part.to_csv(tmp_path / "p.csv", index=False)
    result = evaluate_predictions(tmp_path / "p.csv", phantoms / TABLE, out=tmp_path / "part")
    assert result.assessment.labels == ("Nodule", "Edema", "No Finding")
    names = list(result.metrics["label"])
    assert names[3:] == [
        *("average of 2 findings", "average of 2 findings: labels averaged"),
        *("average of all 3", "average of all 3: labels averaged", 'baseline: always "no"'),
    ]
    columns = ["support", "auroc", "auroc_low", "auroc_high", "ap", "brier", "ece", "recall"]
    for label in result.assessment.labels:
        np.testing.assert_allclose(
            result.metrics.set_index("label").loc[label, columns].astype(float),
            whole.metrics.set_index("label").loc[label, columns].astype(float),
            rtol=1e-6,
        )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.drop(columns="Image Index"), "lacks the column Image Index"),
        (lambda t: t[["Image Index"]], "lacks the column prob_<label>"),
        (lambda t: t.rename(columns={"prob_Mass": "prob_Mess"}), "prob_Mess, which names none"),
        (lambda t: pd.concat([t, t.head(2)]), "has 2 images twice"),
        (lambda t: t.assign(prob_Mass=np.nan), "prob_Mass must be a number in 0…1; for 8 images"),
        (lambda t: t.assign(prob_Mass=np.inf), "prob_Mass must be .* Received: inf for 0"),
        (lambda t: t.assign(prob_Mass=1.5), "prob_Mass must be .* Received: 1.5 for"),
        (lambda t: t.assign(prob_Mass="50%"), "prob_Mass must be .* Received: 50% for"),
        (lambda t: t.assign(prob_mass=0.5), "has two columns for Mass"),
        (lambda t: t.assign(**{"Image Index": "x" + t["Image Index"]}), "No image of"),
    ],
)
def test_wrong_predictions_are_one_sentence(run, phantoms, tmp_path, change, says):
    change(predictions_of(run)).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(CxrError, match=says):
        evaluate_predictions(tmp_path / "p.csv", phantoms / TABLE)


@pytest.mark.slow
def test_what_predict_wrote_can_be_measured(run, phantoms, tmp_path):
    from cxr_keras import predict

    (tmp_path / "bad.png").write_bytes(b"junk")
    images = [phantoms / "images", tmp_path / "bad.png"]
    rows = predict(run.folder, images, csv_file=tmp_path / "f.csv")
    result = evaluate_predictions(tmp_path / "f.csv", phantoms / TABLE, resamples=0)
    assert result.assessment.images == len(rows) - 1
    assert result.folder == tmp_path / "f-evaluation"
