"""`evaluate --truth`: a network, and the data set's own labels, against another table."""

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from helpers.chexpert import film, write_chexpert
from helpers.data_folders import write_csv
from helpers.refusals import refusal
from sklearn.metrics import f1_score, precision_score, recall_score

from cxr_keras import evaluate
from cxr_keras.cli import main
from cxr_keras.data.labels import LABELS
from cxr_keras.data.preparation import PreparedSplit, prepare
from cxr_keras.evaluation.evaluation import limits_of
from cxr_keras.evaluation.second_truth import own_labels_table, with_truth

EITHER = "Nodule or mass"
COLUMNS = ("Pneumothorax", "Airspace opacity", EITHER)


def radiologists(path, images, seed=5):
    """A table of YES and NO for these images; returns it as flags by image."""
    flags = np.random.default_rng(seed).random((len(images), len(COLUMNS))) < 0.5
    lines = [
        f"{image},{n},{','.join('YES' if flag else 'NO' for flag in row)}"
        for n, (image, row) in enumerate(zip(images, flags, strict=True))
    ]
    write_csv(path, f"Image Index,Patient ID,{','.join(COLUMNS)}", *lines)
    return pd.DataFrame(flags, columns=list(COLUMNS), index=list(images))


@pytest.fixture
def tested(run):
    """The run's predictions of its test split, by image."""
    return run.evaluation.predictions.set_index("Image Index")


def test_a_network_against_radiologists(run, tested, tmp_path):
    some = tested.index[1:]
    truth = radiologists(tmp_path / "experts.csv", [*some, "elsewhere.png"])
    result = evaluate(run.folder, truth=tmp_path / "experts.csv", resamples=0, out=tmp_path / "out")
    found = result.predictions.set_index("Image Index")
    assert list(found.index) == list(some)
    assert [n for n in found if n.startswith("prob_")] == ["prob_Pneumothorax", f"prob_{EITHER}"]
    own = tested.loc[some]
    np.testing.assert_allclose(found["prob_Pneumothorax"], own["prob_Pneumothorax"], atol=1e-6)
    higher = own[["prob_Nodule", "prob_Mass"]].max(axis=1)
    np.testing.assert_allclose(found[f"prob_{EITHER}"], higher, atol=1e-6)
    for name in ("Pneumothorax", EITHER):
        np.testing.assert_array_equal(found[f"true_{name}"], truth.loc[some, name])
    limits = run.info["thresholds"]
    used = result.metrics.set_index("label")["threshold"]
    assert used[EITHER] == pytest.approx(min(limits["Nodule"], limits["Mass"]), abs=1e-6)
    assert used["Pneumothorax"] == pytest.approx(limits["Pneumothorax"], abs=1e-6)
    said = " ".join(result.about)
    assert (
        f"Truth: experts.csv, which has {len(some)} of the {len(tested)} images and 2 labels that "
        f"the network predicts: Pneumothorax, {EITHER}."
    ) in said
    assert "the higher of the probabilities of Nodule and Mass, at the lower of their" in said


def test_a_label_that_means_any_of_two_is_predicted_at_the_lower_threshold():
    limits = {"Nodule": 0.6, "Edema": 0.1, "Mass": 0.2}
    either = {EITHER: ("Nodule", "Mass")}
    assert limits_of(limits, either) == limits | {EITHER: 0.2}
    assert limits_of(limits | {"Nodule": 0.1}, either)[EITHER] == 0.1
    assert limits_of(0.3, either) == 0.3


@pytest.mark.slow
def test_its_tables_lie_in_a_folder_of_their_own(copy, tested, tmp_path):
    before = (copy / "metrics.csv").read_bytes()
    radiologists(tmp_path / "experts.csv", tested.index)
    result = evaluate(copy, truth=tmp_path / "experts.csv", resamples=0)
    assert result.folder == copy / "evaluation-test-by-experts"
    assert (result.folder / "own_labels.csv").is_file()
    assert (copy / "metrics.csv").read_bytes() == before
    evaluate(copy, resamples=0, out=result.folder)
    assert not (result.folder / "own_labels.csv").exists()


@pytest.fixture(scope="module")
def images(phantoms):
    """All phantoms, with their own labels."""
    return prepare(phantoms).split("all")


def slow_table(own, truth):
    """Precision, recall and F1 of flags against flags."""
    measures = (precision_score, recall_score, f1_score)
    return [measure(truth, own, zero_division=np.nan) for measure in measures]


def test_the_data_sets_own_labels_against_the_same_truth(images, tmp_path):
    rows = images.rows.set_index("Image Index")["Finding Labels"].str.split("|")
    some = list(rows.index[3:])
    assert sum("Mass" in row and "Nodule" not in row for row in rows[some]) > 0
    truth = radiologists(tmp_path / "experts.csv", some)
    second = with_truth(images, tmp_path / "experts.csv", LABELS)
    patients = second.images.rows["Patient ID"]
    table = own_labels_table(second, patients, "No Finding", None).set_index("label")
    parts = {"Pneumothorax": {"Pneumothorax"}, EITHER: {"Nodule", "Mass"}}
    expected = {}
    for name, meant in parts.items():
        own = [bool(meant & set(rows[image])) for image in some]
        expected[name] = slow_table(own, truth[name])
        np.testing.assert_allclose(table.loc[name, ["precision", "recall", "f1"]], expected[name])
        assert table.loc[name, "known"] == len(some)
        assert table.loc[name, "support"] == truth[name].sum()
    means = np.mean(list(expected.values()), axis=0)
    found = table.loc["average of 2 findings", ["precision", "recall", "f1"]]
    np.testing.assert_allclose(found, means)


def test_its_own_table_agrees_with_itself(images, phantoms):
    second = with_truth(images, phantoms / "Data_Entry_2017_v2020.csv", LABELS)
    assert len(second.images) == 40
    np.testing.assert_array_equal(second.images.truth, images.truth)
    table = own_labels_table(second, second.images.rows["Patient ID"], "No Finding", None)
    present = table[:15].query("support > 0")
    assert len(present) > 5
    assert (present[["precision", "recall", "f1"]] == 1).all(axis=None)


def split_of(names, truth, labels):
    """A split of images of these names, without pixels."""
    rows = pd.DataFrame({"Image Index": names, "Patient ID": names})
    index = np.arange(len(names))
    return PreparedSplit(rows, np.zeros((len(names), 1, 1), "uint8"), index, truth, labels)


def test_what_the_data_set_does_not_know_of_an_image_is_not_measured(tmp_path):
    path = write_csv(tmp_path / "t.csv", "image,Mass,Edema", "a,1,1", "b,0,", "c,1,0", "d,0,1")
    own = np.array([[1, np.nan], [np.nan, 1], [0, np.nan], [0, np.nan]], "float32")
    second = with_truth(split_of(list("abcd"), own, ("Mass", "Edema")), path, ("Mass", "Edema"))
    table = own_labels_table(second, second.images.rows["Patient ID"], None, None)
    table = table.set_index("label")
    assert table.loc["Mass", ["known", "support", "precision", "recall"]].tolist() == [3, 2, 1, 0.5]
    assert table.loc["Edema", "known"] == 0
    nobody = split_of(list("abcd"), own[:, :1], ("Mass",))  # of other data: no Edema there
    second = with_truth(nobody, path, ("Mass", "Edema"))
    np.testing.assert_array_equal(np.isnan(second.own).all(axis=0), [False, True])
    assert second.images.labels == ("Mass", "Edema")
    rows = own_labels_table(second, second.images.rows["Patient ID"], None, None)["label"]
    assert "Edema" not in set(rows)


@pytest.mark.parametrize(
    ("names", "known", "expected"),
    [
        (["a.png", "B.png"], ["b", "x/A.jpg"], {"a.png": "x/A.jpg", "B.png": "b"}),
        # the names of two films are the same, their folders are not
        (["p1/front.png", "p2/front.png"], ["p2/front", "p1/front"], {0: 1, 1: 0}),
        (["set/p1/front.png", "set/p2/front.png"], ["p2/front.dcm", "p3/front.dcm"], {1: 0}),
        (["p1/front.png", "p2/front.png"], ["top/p2/front.png"], {1: 0}),
        (["p1/front.png", "p2/front.png"], ["front.png"], {}),
        (["p1/front.png"], ["p2/front.png", "p3/front.png"], {}),
        (["front.png"], ["p2/front.png", "p3/front.png"], {}),
        (["1.2.840.1", "1.2.840.2"], ["1.2.840.2"], {1: 0}),
        (["old/a.png"], ["new/a.png"], {0: 0}),
    ],
)
def test_which_row_of_the_table_is_an_images(names, known, expected, tmp_path):
    """Each row says Mass of itself alone, so that the truth tells which one was taken."""
    flags = np.eye(max(len(known), 2), dtype=int)[: len(known)]
    header = f"image,{','.join(f'L{n}' for n in range(flags.shape[1]))}"
    lines = [f"{name},{','.join(map(str, row))}" for name, row in zip(known, flags, strict=True)]
    path = write_csv(tmp_path / "t.csv", header, *lines)
    labels = tuple(f"L{n}" for n in range(flags.shape[1]))
    split = split_of(names, np.zeros((len(names), len(labels)), "float32"), labels)
    by_name = {
        names[place] if isinstance(place, int) else place: (
            known.index(row) if isinstance(row, str) else row
        )
        for place, row in expected.items()
    }
    if not by_name:
        assert "Check that the two belong together" in refusal(with_truth, split, path, labels)
        return
    chosen = with_truth(split, path, labels).images
    found = dict(zip(chosen.rows["Image Index"], chosen.truth.argmax(axis=1), strict=True))
    assert found == by_name


@pytest.fixture
def films(phantoms, tested, tmp_path):
    """The test images in CheXpert's layout, where many films are called view1_frontal.jpg.

    Every other one has Edema.
    """
    images = [phantoms / "images" / name for name in tested.index]
    own = [{"Edema": "1.0" if n % 2 else "0.0"} for n in range(len(images))]
    return write_chexpert(tmp_path / "chexpert", own, images)


def experts_on(count, path, *labels):
    """A table in which every other film has each of these labels."""
    rows = [f"CheXpert-v1.0/{film(n + 1)}" + f",{n % 2}" * len(labels) for n in range(count)]
    return write_csv(path, f"Path,{','.join(labels)}", *rows)


def test_films_of_one_name_in_many_folders_have_each_its_own_truth(run, films, tested, tmp_path):
    path = experts_on(len(tested), tmp_path / "experts.csv", "Edema", "Hernia")
    result = evaluate(run.folder, films, truth=path, resamples=0, out=tmp_path / "out")
    assert result.predictions["true_Edema"].tolist() == [n % 2 for n in range(len(tested))]
    table = result.own_labels.set_index("label")
    assert table.loc["Edema", ["precision", "recall", "f1"]].tolist() == [1, 1, 1]
    assert "Hernia" not in table.index  # CheXpert does not know it


@pytest.mark.slow
def test_a_truth_of_labels_that_the_data_set_has_not(run, films, tested, tmp_path):
    path = experts_on(len(tested), tmp_path / "experts.csv", "Hernia")
    result = evaluate(run.folder, films, truth=path, resamples=0, out=tmp_path / "out")
    assert result.predictions["true_Hernia"].sum() == len(tested) // 2
    assert result.own_labels is None
    assert not (tmp_path / "out" / "own_labels.csv").exists()


def test_tables_that_do_not_belong_to_the_images(run, tested, tmp_path):
    radiologists(tmp_path / "others.csv", ["x.png", "y.png"])
    said = refusal(evaluate, run.folder, truth=tmp_path / "others.csv", out=tmp_path / "out")
    assert said == (
        f"None of the {len(tested)} images is in {tmp_path / 'others.csv'}. Check that the two "
        "belong together; an image is found by its name."
    )
    gout = write_csv(tmp_path / "gout.csv", "image,Gout", *(f"{name},1" for name in tested.index))
    said = refusal(evaluate, run.folder, truth=gout, out=tmp_path / "out")
    assert said.startswith(f"{gout} has none of the network's labels (Atelectasis, ")
    assert said.endswith("It has: Gout.")
    assert not (tmp_path / "out").exists()


def test_the_command_shows_both(run, tested, tmp_path):
    radiologists(tmp_path / "experts.csv", tested.index)
    words = ["evaluate", run.folder, "--truth", tmp_path / "experts.csv"]
    words += ["--resamples", 20, "--out", tmp_path / "out"]
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.stderr
    before, after = done.stdout.split("The data set's own labels against the same truth:")
    for part in (before, after):
        assert "Pneumothorax" in part
        assert EITHER in part
        assert "average of 2 findings" in part
    written = pd.read_csv(tmp_path / "out" / "own_labels.csv")
    assert {"precision_low", "recall_high", "f1_low"} <= set(written)
    assert "auroc" not in written
    refused = CliRunner().invoke(main, ["evaluate", "--truth", str(tmp_path / "experts.csv")])
    assert refused.exit_code == 2
    assert "Give either RUN, or both --predictions and --truth." in refused.stderr


def test_a_table_of_truth_needs_no_file_of_an_image(tested, run, tmp_path):
    """It may lie above folders that hold files of the same name."""
    radiologists(tmp_path / "experts.csv", list(tested.index))
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / tested.index[0]).write_bytes(b"no image")
    result = evaluate(run.folder, truth=tmp_path / "experts.csv", resamples=0, out=tmp_path / "out")
    assert len(result.predictions) == len(tested)
