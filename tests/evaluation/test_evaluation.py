"""`evaluate` on runs and on predictions alone, and what it refuses."""

import shutil

import numpy as np
import pandas as pd
import pytest
from helpers.model_files import read_member, replace_card, rewrite

from cxr_keras import assess, evaluate
from cxr_keras.data.labels import LABELS
from cxr_keras.errors import CxrError
from cxr_keras.evaluation.evaluation import evaluate_predictions
from cxr_keras.evaluation.predictions import columns_of, read_predictions
from cxr_keras.runs import model_file

TABLE = "Data_Entry_2017_v2020.csv"


def predictions_of(run):
    return pd.read_csv(run.folder / "predictions.csv", dtype={"Patient ID": str})


def test_evaluate_gives_the_same_tables_again(run, tmp_path):
    result = evaluate(run.folder, out=tmp_path)
    for file in tmp_path.glob("*.csv"):
        assert file.read_bytes() == (run.folder / file.name).read_bytes(), file.name
    assert len(list(tmp_path.glob("*.csv"))) == 6
    assert result.assessment.thresholds == run.info["thresholds"]


def test_thresholds_come_from_the_validation_split_alone(run):
    from cxr_keras.metrics.thresholds import choose_thresholds

    validation = read_predictions(run.folder / "predictions_val.csv")
    chosen, _ = choose_thresholds(*columns_of(validation, LABELS), labels=LABELS)
    card = model_file.read_card(run.folder)
    np.testing.assert_allclose(chosen, card.thresholds, atol=1e-6)


def test_another_threshold_goes_into_a_folder_of_its_own(run):
    before = (run.folder / "metrics.csv").read_bytes()
    result = evaluate(run.folder, thresholds=0.5, resamples=0)
    assert result.folder == run.folder / "evaluation-test-at-0.5"
    assert set(result.metrics["threshold"].dropna()) == {0.5}
    assert (run.folder / "metrics.csv").read_bytes() == before
    with pytest.raises(CxrError, match=r"'calibrated' or a number in 0…1\. Received: 'best'"):
        evaluate(run.folder, thresholds="best")
    shutil.rmtree(result.folder)


def test_images_it_was_trained_on_are_refused_unless_forced(run, capsys, tmp_path):
    size = run.info["data"]["sizes"]["train"]
    with pytest.raises(CxrError, match=rf"trained on {size} of these {size} images.*--force"):
        evaluate(run.folder, split="train", out=tmp_path)
    assert not list(tmp_path.iterdir())
    result = evaluate(run.folder, split="train", out=tmp_path, force=True, resamples=0)
    assert result.assessment.images == size
    assert f"trained on {size} of these {size} images: the numbers flatter" in (
        capsys.readouterr().err
    )


def test_renamed_copies_of_training_and_validation_images_are_known(
    run, phantoms, tmp_path, capsys
):
    """By their pixels, not their names, and in a data folder that the card does not know."""
    copy = tmp_path / "copy"
    shutil.copytree(phantoms / "images", copy / "images")
    table = pd.read_csv(phantoms / TABLE, dtype=str, index_col=False)
    for path in list((copy / "images").iterdir()):
        path.rename(path.with_name("z" + path.name))
    table["Image Index"] = "z" + table["Image Index"]
    table.to_csv(copy / TABLE, index=False)
    with pytest.raises(CxrError, match="The network was trained on"):
        evaluate(run.folder, copy, split="all", out=tmp_path / "out")
    evaluate(run.folder, copy, split="all", out=tmp_path / "out", force=True, resamples=0)
    size = run.info["data"]["sizes"]["val"]
    assert f"{size} of these 40 images chose this network's epoch" in capsys.readouterr().err


def test_predictions_alone_give_the_same_tables(run, phantoms, tmp_path):
    evaluate_predictions(run.folder / "predictions.csv", phantoms / TABLE, out=tmp_path)
    at_half = evaluate(run.folder, thresholds=0.5, out=tmp_path / "run")
    ours = pd.read_csv(tmp_path / "metrics.csv")
    measured = at_half.metrics[at_half.metrics["label"].isin(ours["label"])]
    pd.testing.assert_frame_equal(
        ours.set_index("label"), measured.set_index("label"), check_dtype=False, atol=1e-6
    )


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


def test_the_baselines_say_what_is_free(run):
    table = run.metrics.set_index("label")
    always_no = table.loc['baseline: always "no"']
    truth = predictions_of(run)[[f"true_{label}" for label in LABELS]]
    share = truth.mean().drop("true_No Finding")
    assert always_no["accuracy"] == pytest.approx(1 - share.mean())
    assert always_no["recall"] == 0
    assert np.isnan(always_no["precision"])
    assert always_no["auroc"] == 0.5
    images = pd.read_csv(run.folder / "samplewise.csv").set_index("measure")['always "no"']
    assert images["exact match ratio"] == 0
    assert images["Hamming loss"] == pytest.approx(truth.mean().mean(), rel=1e-5)
    rates = table.loc["baseline: base rates"]
    assert rates["loss"] < always_no["loss"]


def test_subgroups_are_the_table_of_their_images(run):
    subgroups = pd.read_csv(run.folder / "subgroups.csv")
    assert set(subgroups["group"]) == {"view", "sex", "age"}
    predictions = predictions_of(run)
    for group, column, value in (("view", "View Position", "AP"), ("sex", "Patient Gender", "F")):
        inside = predictions[predictions[column] == value]
        rows = subgroups[(subgroups["group"] == group) & (subgroups["value"] == value)]
        expected = assess(inside, thresholds=run.info["thresholds"], resamples=0)
        for name in ("support", "recall", "auroc", "f1"):
            np.testing.assert_allclose(
                rows[name].iloc[:15], expected.metrics[name].iloc[:15].astype(float), rtol=1e-5
            )
    sizes = subgroups.drop_duplicates(["group", "value"]).groupby("group")["images"].sum()
    assert set(sizes) == {len(predictions)}


def test_ages_fall_into_bands_and_nonsense_is_unknown():
    from cxr_keras.data.demographics import groups_of

    ages = pd.DataFrame({"Patient Age": [0, 17, 17.5, 18, 39, 40, 64, 65, 120, 414, None, "x"]})
    assert groups_of(ages)["age"].tolist() == [
        *["0–17"] * 3, *["18–39"] * 2, *["40–64"] * 2, *["65 and over"] * 2, *["unknown"] * 3,
    ]  # fmt: skip
    assert groups_of(pd.DataFrame({"x": [1]})).empty


def test_a_file_on_its_own_gets_a_folder_of_its_own(run, phantoms, tmp_path):
    mine = tmp_path / "predictions.csv"
    mine.write_text("mine")
    shutil.copy(run.folder / "model.keras", tmp_path / "x.keras")
    assert evaluate(tmp_path / "x.keras", phantoms, resamples=0).folder == tmp_path / "x"
    assert mine.read_text() == "mine"


def test_a_file_that_does_not_say_what_it_was_trained_on_is_called_out(run, tmp_path, capsys):
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    rewrite(copy, {model_file.TRAINED_ON: None})
    evaluate(copy, resamples=0)
    assert "does not say which images it was trained on" in capsys.readouterr().err


def test_images_of_another_decoding_are_not_taken_for_unknown_ones(run, tmp_path, capsys):
    """Their digests cannot be compared, which is said, and not that none is among these."""
    copy = shutil.copytree(run.folder, tmp_path / "copy")
    for member in (model_file.TRAINED_ON, model_file.TUNED_ON):
        text = read_member(copy, member)
        rewrite(copy, {member: text.replace("decoding 1", "decoding 99", 1)})
    assert model_file.count_listed(copy, model_file.TRAINED_ON, []) is None
    evaluate(copy, split="val", resamples=0, out=tmp_path / "out")
    said = capsys.readouterr().err
    assert "does not say which images it was trained on" in said
    assert "A validation split chose this network's epoch and thresholds" in said


def test_a_file_on_its_own_does_not_say_where_its_data_are(run, tmp_path):
    shutil.copy(run.folder / "model.keras", tmp_path / "x.keras")
    with pytest.raises(CxrError, match=r"was trained on phantoms, .* with --data") as caught:
        evaluate(tmp_path / "x.keras", resamples=0)
    assert len(str(caught.value).splitlines()) == 1
    # beside another run's run.json it is still on its own
    shutil.copy(run.folder / "run.json", tmp_path)
    with pytest.raises(CxrError, match="with --data"):
        evaluate(tmp_path / "x.keras", resamples=0)


def test_columns_follow_the_cards_labels(run, tmp_path):
    """A network whose outputs are in another order is measured by its own card."""
    import dataclasses

    copy = shutil.copytree(run.folder, tmp_path / "copy")
    card = model_file.read_card(copy)
    turned = dataclasses.replace(card, labels=card.labels[::-1], thresholds=card.thresholds[::-1])
    replace_card(copy, turned)
    result = evaluate(copy, resamples=0, out=tmp_path / "out")
    table = predictions_of(run)
    first = result.predictions.set_index("Image Index").loc[table["Image Index"]]
    np.testing.assert_allclose(first["prob_Pneumothorax"], table["prob_Atelectasis"], atol=1e-6)
    assert (first["true_Atelectasis"].to_numpy() == table["true_Atelectasis"].to_numpy()).all()


def test_what_predict_wrote_can_be_measured(run, phantoms, tmp_path):
    from cxr_keras import predict

    (tmp_path / "bad.png").write_bytes(b"junk")
    images = [phantoms / "images", tmp_path / "bad.png"]
    rows = predict(run.folder, images, csv_file=tmp_path / "f.csv")
    result = evaluate_predictions(tmp_path / "f.csv", phantoms / TABLE, resamples=0)
    assert result.assessment.images == len(rows) - 1
    assert result.folder == tmp_path / "f-evaluation"
