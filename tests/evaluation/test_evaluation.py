"""`evaluate` on runs, and what it refuses."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest
from helpers.model_files import read_member, replace_card, rewrite

from cxr_keras import assess, evaluate, train
from cxr_keras.data.demographics import groups_of
from cxr_keras.data.labels import LABELS
from cxr_keras.errors import CxrError
from cxr_keras.evaluation.predictions import columns_of, read_predictions
from cxr_keras.metrics.subgroups import MIN_PATIENTS
from cxr_keras.runs import model_file

TABLE = "Data_Entry_2017_v2020.csv"


def many_predictions(n):
    """Predictions of two labels for `n` images of n/2 patients; LATERAL are nine of nine."""
    rng = np.random.default_rng(0)
    truth = rng.random((n, 2)) < 0.4
    probability = np.clip(0.3 * truth + 0.7 * rng.random((n, 2)), 0, 1)
    lateral = np.arange(n) < 9
    table = {
        "Image Index": [f"{i}.png" for i in range(n)],
        "Patient ID": np.where(
            lateral, "p" + np.arange(n).astype(str).astype(object), np.arange(n) // 2
        ),
        "View Position": np.where(lateral, "LATERAL", rng.choice(["PA", "AP"], n)),
        "Patient Gender": rng.choice(["M", "F"], n),
        "Patient Age": rng.integers(20, 60, n),
    }
    for i, label in enumerate(("Edema", "Mass")):
        table |= {f"prob_{label}": probability[:, i], f"true_{label}": truth[:, i].astype(int)}
    return pd.DataFrame(table).astype({"Patient ID": str})


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


def test_another_threshold_goes_into_a_folder_of_its_own(copy):
    before = (copy / "metrics.csv").read_bytes()
    result = evaluate(copy, thresholds=0.5, resamples=0)
    assert result.folder == copy / "evaluation-test-at-0.5"
    assert set(result.metrics["threshold"].dropna()) == {0.5}
    assert (copy / "metrics.csv").read_bytes() == before
    with pytest.raises(CxrError, match=r"'calibrated' or a number in 0…1\. Received: 'best'"):
        evaluate(copy, thresholds="best")


@pytest.mark.slow
def test_data_read_in_another_way_leave_the_run_s_own_tables(phantoms, tiny_model, tmp_path):
    """Some views of the test split are not the test split."""
    data = shutil.copytree(phantoms, tmp_path / "data")
    rows = pd.read_csv(data / "Data_Entry_2017_v2020.csv")
    names = rows["Image Index"].tolist()
    (data / "train_val_list.txt").write_text("\n".join(names[:28]))
    (data / "test_list.txt").write_text("\n".join(names[28:]))
    run = train(tiny_model, data, epochs=1, split_method="official", folder=tmp_path, name="r")
    before = {file.name: file.read_bytes() for file in run.folder.glob("*.csv")}
    result = evaluate(run.folder, views="PA", resamples=0)
    assert result.folder == run.folder / "evaluation-test-views-PA"
    assert 0 < len(result.predictions) < len(run.evaluation.predictions)
    assert {file.name: file.read_bytes() for file in run.folder.glob("*.csv")} == before


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


def test_subgroups_are_the_table_of_their_images():
    """With intervals over their own patients; too few patients are not measured."""
    predictions = many_predictions(120)
    subgroups = assess(predictions, thresholds=0.4, resamples=60).subgroups
    assert set(subgroups["group"]) == {"view", "sex", "age"}
    for (group, value), rows in subgroups.groupby(["group", "value"]):
        inside = predictions[groups_of(predictions)[group] == value]
        people = inside["Patient ID"].nunique()
        expected = assess(inside, thresholds=0.4, resamples=60).metrics
        expected = expected.set_index("label").loc[rows["label"]]
        rows = rows.set_index("label")
        assert set(rows["images"]) == {len(inside)}
        assert set(rows["patients"]) == {people}
        measured = people >= MIN_PATIENTS
        for name in ("support", "recall", "f1", "auroc", "auroc_low", "f1_high", "precision_low"):
            if measured or name == "support":
                np.testing.assert_allclose(rows[name], expected[name], rtol=1e-12, err_msg=value)
            else:
                assert rows.loc[["Edema", "Mass"], name].isna().all()
    few = subgroups[subgroups["patients"] < MIN_PATIENTS]
    assert set(few["value"]) == {"LATERAL"}
    sizes = subgroups.drop_duplicates(["group", "value"]).groupby("group")["images"].sum()
    assert set(sizes) == {len(predictions)}


def test_the_table_of_subgroups_has_dashes_where_patients_are_few():
    from cxr_keras.cli.tables import metrics_table, subgroup_overview

    found = assess(many_predictions(120), thresholds=0.4, resamples=60)
    lines = {line.split()[1]: line for line in subgroup_overview(found).splitlines() if line}
    assert lines["LATERAL"].split()[2:] == ["9", "9", "6", "–", "–", "–", "–", "–", "0"]
    assert len(re.findall(r"0\.\d{3} +\.\d\d–\.\d\d", lines["PA"])) == 4
    text = metrics_table(found.metrics)
    assert len(re.findall(r"0\.\d{3} +\.\d\d–\.\d\d", text.splitlines()[2])) == 4
    assert max(map(len, f"{subgroup_overview(found)}\n{text}".splitlines())) <= 122


def test_thresholds_and_base_rates_name_every_label():
    table = many_predictions(20)
    with pytest.raises(CxrError, match="The thresholds lack Mass, which the predictions have"):
        assess(table, thresholds={"Edema": 0.5}, resamples=0)
    with pytest.raises(CxrError, match="The base_rates lack Edema, Mass"):
        assess(table, base_rates={"Hernia": 0.5}, resamples=0)


def test_predictions_without_patients_are_said_to_have_intervals_over_images(tmp_path, capsys):
    from cxr_keras import compare

    table = many_predictions(40)
    with_patients = assess(table, resamples=20)
    assert "intervals are over images" not in capsys.readouterr().err
    nameless = table.drop(columns="Patient ID")
    assess(nameless, resamples=0)
    assert capsys.readouterr().err == ""
    found = assess(nameless, resamples=20)
    said = capsys.readouterr().err
    assert "the intervals are over images, and may be too narrow" in said
    assert not found.metrics["auroc_low"].equals(with_patients.metrics["auroc_low"])
    nameless.to_csv(tmp_path / "a.csv")
    compare(tmp_path / "a.csv", tmp_path / "a.csv", resamples=5)
    assert "the intervals are over images, and may be too narrow" in capsys.readouterr().err


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
