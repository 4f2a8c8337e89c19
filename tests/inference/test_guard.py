"""The guard: distances against slow references, and what it says of real files."""

import csv
import shutil

import numpy as np
import pytest
from helpers.refusals import refusal
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.covariance import OAS
from sklearn.metrics import roc_auc_score

from cxr_keras import calibrate, evaluate, predict, train
from cxr_keras.inference.guard import AXES, UNLIKE, Depth, Guard, fit_guard, pooled
from cxr_keras.inference.guarded import read_guard
from cxr_keras.runs import model_file


def cloud(images, size, seed=0):
    rng = np.random.default_rng(seed)
    shape = np.random.default_rng(7).normal(size=(size, size))
    return (rng.normal(size=(images, size)) @ shape).astype("float32")


def one_depth(train, val):
    return fit_guard([[train]], [[val]])


@pytest.mark.parametrize(("images", "size"), [(200, 40), (30, 50), (64, 64), (500, 3)])
def test_distances_are_those_of_scikit_learns_shrunken_covariance(images, size):
    features, others = cloud(images, size), cloud(50, size, seed=1)
    guard = one_depth(features, others)
    reference = np.sqrt(OAS().fit(features.astype("float64")).mahalanobis(others))
    expected = (reference - reference.mean()) / reference.std()
    assert size <= AXES
    np.testing.assert_allclose(guard.scores([others]), expected, atol=0.02)  # axes are float16


def test_beyond_the_largest_axes_every_direction_has_the_mean_variance():
    features, others = cloud(300, 100), cloud(40, 100, seed=1)
    fitted = OAS().fit(features.astype("float64"))
    values, vectors = np.linalg.eigh(fitted.covariance_)
    values[:-AXES] = values[:-AXES].mean()
    along = (others - features.mean(axis=0)) @ vectors
    reference = np.sqrt((along**2 / values).sum(axis=1))
    expected = (reference - reference.mean()) / reference.std()
    np.testing.assert_allclose(one_depth(features, others).scores([others]), expected, atol=0.02)


def test_a_score_is_the_mean_over_the_depths():
    parts = [cloud(100, size) for size in (5, 9)]
    val = [cloud(60, size, seed=1) for size in (5, 9)]
    both = fit_guard([[part[:50] for part in parts], [part[50:] for part in parts]], [val])
    each = [one_depth(part, seen).scores([seen]) for part, seen in zip(parts, val, strict=True)]
    np.testing.assert_allclose(both.scores(val), np.mean(each, axis=0), atol=1e-4)


def test_features_without_any_spread():
    same = np.ones((40, 6), "float32")
    guard = one_depth(same, same)
    assert np.isfinite(guard.scores([same * 2])).all()
    assert guard.familiarity(guard.scores([same * 2]))[0] < UNLIKE


@given(
    st.lists(st.floats(-50, 1e6), min_size=2, max_size=30),
    # scores have seven digits; between steps of 1e-310 numpy's interpolation overflows
    st.lists(st.floats(-5, 50).map(lambda x: round(x, 9)), min_size=1, max_size=80),
)
def test_familiarity_falls_with_the_score_and_is_small_beyond_the_limit(scores, validation):
    guard = Guard((), np.quantile(validation, np.linspace(0, 1, 101)))
    scores = np.sort(scores)
    familiar = guard.familiarity(scores)
    assert ((familiar >= 0) & (familiar <= 1)).all()
    assert (np.diff(familiar) <= 1e-12).all()
    np.testing.assert_array_equal(familiar < UNLIKE, scores > guard.limit)


def test_familiarity_is_the_share_of_validation_images_that_are_stranger():
    validation = np.random.default_rng(0).normal(size=5000)
    guard = Guard((), np.quantile(validation, np.linspace(0, 1, 101)))
    for score in (-1.5, 0.0, 1.0, 2.0):
        share = (validation > score).mean()
        assert guard.familiarity(np.array([score]))[0] == pytest.approx(share, abs=0.005)


@pytest.mark.parametrize("shape", [(2, 7, 5, 3), (1, 3, 3, 2), (3, 2, 1, 4), (1, 24, 25, 2)])
def test_maps_are_averaged_over_a_grid(shape):
    maps = np.random.default_rng(0).normal(size=shape)
    rows, columns = min(3, shape[1]), min(3, shape[2])
    expected = [
        maps[
            :,
            i * shape[1] // rows : (i + 1) * shape[1] // rows,
            j * shape[2] // columns : (j + 1) * shape[2] // columns,
        ].mean(axis=(1, 2))
        for i in range(rows)
        for j in range(columns)
    ]
    np.testing.assert_allclose(pooled(maps), np.concatenate(expected, axis=1), atol=1e-5)


def test_a_guard_comes_back_from_its_bytes():
    features = [cloud(80, size) for size in (6, 90)]
    guard = fit_guard([features], [features])
    again = Guard.from_bytes(guard.to_bytes())
    assert all(isinstance(depth, Depth) for depth in again.depths)
    np.testing.assert_array_equal(again.scores(features), guard.scores(features))
    assert again.limit == guard.limit


def test_few_images_make_no_guard(run, phantoms):
    assert read_guard(model_file.find_model(run.folder)) is None
    rows = predict(run.folder, phantoms / "images")
    assert {(row.familiarity, row.unlike_training) for row in rows} == {(None, None)}
    text = refusal(predict, run.folder, phantoms / "images", fix_orientation=True)
    assert "has no guard" in text


@pytest.fixture(scope="module")
def guarded(tiny_model, cache, tmp_path_factory):
    """A network trained on enough phantoms to have a guard, and those phantoms."""
    from cxr_keras.data.phantom import write_phantoms

    folder = tmp_path_factory.mktemp("guarded")
    phantoms = write_phantoms(folder / "phantoms", count=160, seed=4)
    options = {"epochs": 1, "size": 64, "per_class": "all", "folder": str(folder)}
    options |= {"val_share": 0.3}
    return train(tiny_model, phantoms, **options).folder, phantoms


@pytest.fixture(scope="module")
def films(guarded, tmp_path_factory):
    """Test images of the network: as they are, and turned, inverted, and noise."""
    folder = tmp_path_factory.mktemp("films")
    rows = list(csv.DictReader((guarded[0] / "predictions.csv").open()))
    names = [row["Image Index"] for row in rows]
    kinds = {
        "upright": lambda pixels: pixels,
        "upside_down": lambda pixels: pixels[::-1, ::-1],
        "inverted": lambda pixels: 255 - pixels,
        "noise": lambda pixels: np.random.default_rng(0).integers(0, 256, pixels.shape, "uint8"),
    }
    for kind, change in kinds.items():
        (folder / kind).mkdir()
        for name in names:
            pixels = np.asarray(Image.open(guarded[1] / "images" / name).convert("L"))
            changed = Image.fromarray(np.ascontiguousarray(change(pixels)))
            changed.save(folder / kind / name, compress_level=0)
    return folder


@pytest.mark.slow
def test_strange_images_are_told_from_usual_ones(guarded, films, tmp_path):
    folder, _ = guarded
    usual = [row.familiarity for row in predict(folder, films / "upright")]
    assert np.mean(np.array(usual) < UNLIKE) < 0.15
    for kind in ("upside_down", "inverted", "noise"):
        strange = [row.familiarity for row in predict(folder, films / kind)]
        truth = [0] * len(usual) + [1] * len(strange)
        assert roc_auc_score(truth, -np.array(usual + strange)) > 0.95, kind
    predict(folder, films / "noise", csv_file=tmp_path / "noise.csv")
    rows = list(csv.DictReader((tmp_path / "noise.csv").open()))
    assert {row["unlike_training"] for row in rows} == {"yes"}
    assert list(rows[0])[-4:] == ["familiarity", "unlike_training", "warnings", "error"]


@pytest.mark.slow
def test_an_image_that_lies_wrong_is_offered_the_right_way_round(guarded, films):
    folder, _ = guarded
    upright = predict(folder, films / "upright")
    said = predict(folder, films / "inverted")
    offered = [any("familiar if inverted" in w for w in row.warnings) for row in said]
    assert np.mean(offered) > 0.8
    fixed = predict(folder, films / "inverted", fix_orientation=True)
    for right, wrong, row in zip(upright, said, fixed, strict=True):
        if "predicted inverted" in row.warnings:
            assert row.probabilities == pytest.approx(right.probabilities, abs=1e-4)
            assert not row.unlike_training
        elif not row.warnings:
            assert row == wrong


@pytest.mark.slow
def test_evaluate_reports_it_and_calibrate_keeps_it(guarded, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(guarded[0], folder)
    before = model_file.read_guard(folder)
    found = evaluate(folder, guarded[1], resamples=0)
    assert any("Unlike the images of training" in sentence for sentence in found.about)
    assert found.predictions["familiarity"].between(0, 1).all()
    calibrate(folder, guarded[1], method="temperature", resamples=0)
    assert model_file.read_guard(folder) == before
    strange = [row.familiarity for row in predict(folder, guarded[1] / "images")]
    assert np.mean(np.array(strange) < UNLIKE) < 0.15


@pytest.mark.slow
def test_a_damaged_guard_is_a_sentence(guarded, tmp_path):
    model = model_file.load_model(guarded[0])
    card = model_file.read_card(guarded[0])
    file = tmp_path / "model.keras"
    whole = model_file.read_guard(guarded[0])
    for content in (b"nonsense", b"", whole[:100], whole[:-30]):
        model_file.save_model(model, card, file, guard=content)
        assert "holds a guard that cannot be read" in refusal(predict, file, guarded[1] / "images")
    other = fit_guard([[cloud(80, 7)]], [[cloud(80, 7)]])
    model_file.save_model(model, card, file, guard=other.to_bytes())
    assert "a guard of another network" in refusal(predict, file, guarded[1] / "images")
