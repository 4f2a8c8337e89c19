"""Training where the truth of some labels is not known: they count for nothing, everywhere."""

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from cxr_keras import predict, train
from cxr_keras.data.augmentation import Augmenter
from cxr_keras.data.dataset import Dataset
from cxr_keras.data.loader import RadiographLoader
from cxr_keras.data.preparation import PreparedSplit
from cxr_keras.errors import CxrError
from cxr_keras.runs import model_file
from cxr_keras.training.epoch_metrics import EpochMetrics
from cxr_keras.training.loss_functions import positive_weights
from cxr_keras.training.losses import LOSSES, get_loss
from cxr_keras.training.validation import check_monitor, macro_averages

NAN = float("nan")


def cross_entropy(y, p, weight):
    return -y * np.log(p) - (1 - y) * np.log(1 - p)


def weighted(y, p, weight):
    return -weight * y * np.log(p) - (1 - y) * np.log(1 - p)


def focal(y, p, weight):
    return -0.75 * y * (1 - p) ** 2 * np.log(p) - 0.25 * (1 - y) * p**2 * np.log(1 - p)


def asymmetric(y, p, weight):
    q = max(p - 0.05, 0.0)
    return -y * (1 - p) * np.log(p) - (1 - y) * q**4 * np.log(1 - q)


TERMS = {
    "bce": cross_entropy,
    "bce_logits": cross_entropy,
    "weighted_bce": weighted,
    "focal": focal,
    "asymmetric": asymmetric,
}


def batch(seed, unknown, shape=(7, 4)):
    """Truth, a share of it NaN, and logits, some of them far out."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(shape) < 0.4).astype("float32")
    truth[rng.random(shape) < unknown] = np.nan
    return truth, rng.normal(0, 3, shape).astype("float32")


def weights_by_counting(truth):
    found = []
    for column in truth.T:
        yes, no = sum(column == 1), sum(column == 0)
        found.append(min(max(no / yes, 0.01), 100) if yes else 1.0)
    return found


def loss_and_gradient(loss, truth, logits):
    tensor = torch.tensor(logits, requires_grad=True)
    value = loss(torch.tensor(truth), tensor)
    value.backward()
    return float(value.detach()), tensor.grad.numpy()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("unknown", [0.3, 0.9])
def test_a_loss_is_the_mean_over_the_known_entries(name, unknown):
    truth, logits = batch(1, unknown)
    weights = weights_by_counting(truth)
    terms = [
        TERMS[name](float(y), 1 / (1 + np.exp(-float(z))), weights[label])
        for row in zip(truth, logits, strict=True)
        for label, (y, z) in enumerate(zip(*row, strict=True))
        if not np.isnan(y)
    ]
    assert 0 < len(terms) < truth.size
    value, gradient = loss_and_gradient(get_loss(name, truth, masked=True), truth, logits)
    assert value == pytest.approx(sum(terms) / len(terms), rel=1e-5)
    assert np.isfinite(gradient).all()
    assert (gradient[np.isnan(truth)] == 0).all()
    assert (gradient[~np.isnan(truth)] != 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_what_the_network_says_of_an_unknown_label_changes_nothing(name):
    truth, logits = batch(2, 0.4)
    loss = get_loss(name, truth, masked=True)
    other = np.where(np.isnan(truth), -logits * 9, logits).astype("float32")
    value, gradient = loss_and_gradient(loss, truth, logits)
    changed, changed_gradient = loss_and_gradient(loss, truth, other)
    assert changed == value
    np.testing.assert_array_equal(changed_gradient, gradient)


@pytest.mark.parametrize("name", LOSSES)
def test_where_all_is_known_it_is_the_plain_loss(name):
    truth, logits = batch(3, 0)
    plain = loss_and_gradient(get_loss(name, truth), truth, logits)
    masked = loss_and_gradient(get_loss(name, truth, masked=True), truth, logits)
    assert masked[0] == pytest.approx(plain[0], rel=1e-6)
    np.testing.assert_allclose(masked[1], plain[1], rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_of_which_nothing_is_known_costs_nothing(name):
    truth, logits = batch(4, 1)
    loss = get_loss(name, batch(4, 0.5)[0], masked=True)
    value, gradient = loss_and_gradient(loss, truth, logits * 30)
    assert value == pytest.approx(0, abs=1e-30)
    assert (gradient == 0).all()


def test_positive_weights_are_counted_where_a_label_is_known():
    truth = np.array([[1, 0, 1, NAN], [0, NAN, NAN, NAN], [0, 0, 1, NAN], [NAN, 0, 1, NAN]])
    assert positive_weights(truth) == [2.0, 1.0, 0.01, 1.0]
    for seed in range(5):
        truth = batch(seed, 0.5, (60, 6))[0]
        assert positive_weights(truth) == pytest.approx(weights_by_counting(truth))


def test_the_measures_of_an_epoch_count_known_entries_only():
    """Each label against Keras's own measures of the images of which it is known."""
    import keras

    parts = [batch(seed, 0.4, (30, 3)) for seed in (5, 6)]
    found = EpochMetrics(labels=3)
    for truth, logits in parts:
        found.update_state(truth, logits)
    precision, recall, areas = keras.metrics.Precision(), keras.metrics.Recall(), []
    truth, logits = (np.concatenate(part) for part in zip(*parts, strict=True))
    for y, z in zip(truth.T, logits.T, strict=True):
        area = keras.metrics.AUC(num_thresholds=201)
        for metric in (precision, recall, area):
            metric.update_state(y[~np.isnan(y)], keras.ops.sigmoid(z[~np.isnan(y)]))
        areas.append(float(area.result()))
    result = {name: float(value) for name, value in found.result().items()}
    assert result["precision"] == pytest.approx(float(precision.result()))
    assert result["recall"] == pytest.approx(float(recall.result()))
    assert result["auc"] == pytest.approx(np.mean(areas), abs=1e-6)


def test_macro_averages_are_of_the_findings_that_are_known_to_differ():
    from sklearn.metrics import average_precision_score, roc_auc_score

    truth, logits = batch(7, 0.4, (50, 6))
    truth[:, 1] = np.nan
    truth[truth[:, 2] == 0, 2] = np.nan  # known of one class only
    findings = np.array([True, True, True, True, False, True])
    known = [(y[~np.isnan(y)], z[~np.isnan(y)]) for y, z in zip(truth.T, logits.T, strict=True)]
    found = macro_averages(truth, logits, findings)
    for name, measure in (("val_auroc", roc_auc_score), ("val_ap", average_precision_score)):
        assert found[name] == pytest.approx(np.mean([measure(*known[i]) for i in (0, 3, 5)]))
    nothing = macro_averages(np.full_like(truth, np.nan), logits, findings)
    assert np.isnan(list(nothing.values())).all()


@pytest.mark.parametrize("monitor", ["val_auroc", "val_ap"])
def test_an_epoch_is_chosen_by_a_finding_that_is_known_to_differ(monitor):
    findings = np.array([True, True, False])
    differs = np.array([[1, NAN, 1], [0, 1, 0], [NAN, 1, NAN]])
    check_monitor(monitor, differs, findings)
    one_class = np.array([[1, NAN, 1], [NAN, 0, 0], [1, NAN, NAN]])
    with pytest.raises(CxrError, match=rf"{monitor} needs a finding that some of the 3 validation"):
        check_monitor(monitor, one_class, findings)
    check_monitor("val_loss", one_class, findings)


@pytest.fixture
def split():
    """Forty images, each of one grey that is its number; of three labels much is unknown."""
    rng = np.random.default_rng(8)
    truth = (rng.random((40, 3)) < [0.5, 0.1, 0.2]).astype("float32")
    truth[rng.random((40, 3)) < 0.3] = np.nan
    truth[0] = np.nan
    truth[1] = [0, 1, np.nan]
    pixels = np.repeat(np.arange(40, dtype="uint8"), 64).reshape(40, 8, 8)
    return PreparedSplit(pd.DataFrame(index=range(40)), pixels, np.arange(40), truth, tuple("abc"))


def read_epoch(loader):
    """The number of each image that was read, and the truth that came with it."""
    batches = [loader[place] for place in range(len(loader))]
    pixels, truth = (np.concatenate(part) for part in zip(*batches, strict=True))
    return pixels[:, 0, 0, 0].astype(int), truth


def test_smoothing_leaves_the_unknown_unknown(split):
    _, truth = read_epoch(RadiographLoader(split, 16, smoothing=0.2))
    for smooth, plain in zip(truth.ravel(), split.truth.ravel(), strict=True):
        if np.isnan(plain):
            assert np.isnan(smooth)
        else:
            assert smooth == pytest.approx({0: 0.1, 1: 0.9}[plain])


def test_the_balanced_sampler_draws_by_what_is_known(split):
    loader = RadiographLoader(split, 40, seed=3, sampler="balanced")
    drawn = np.zeros(40)
    for epoch in range(250):
        loader.start_epoch(epoch)
        numbers, truth = read_epoch(loader)
        np.testing.assert_array_equal(truth, split.truth[numbers])
        np.add.at(drawn, numbers, 1)
    chances = []
    for row in split.truth:
        asked = [40 / sum(split.truth[:, k] == 1) for k in range(3) if row[k] == 1]
        chances.append(max(asked, default=1.0))
    expected = 250 * 40 * np.array(chances) / sum(chances)
    assert drawn == pytest.approx(expected, abs=5 * np.sqrt(expected.max()))
    assert chances[0] == 1  # nothing is known of it
    assert drawn[0] < drawn[1]


def test_mixup_knows_a_label_only_where_both_images_do():
    truth = np.array([[1, NAN, 0], [NAN, 1, 0], [0, 1, NAN], [1, 1, 1]], "float32")
    images = np.arange(4)
    augmenter = Augmenter("none", flip=False, mixup=0.4, seed=1)
    _, mixed = augmenter(np.zeros((4, 8, 8, 1), "uint8"), truth, images, 0)
    for row in range(4):
        for label in range(3):
            pair = truth[row, label], truth[row - 1, label]  # the image before it, in a ring
            if np.isnan(pair).any():
                assert np.isnan(mixed[row, label])
            else:
                assert min(pair) <= mixed[row, label] <= max(pair)
    assert np.isnan(mixed).sum() == 6


LABELS = ["Normal", "Upper", "Left"]


@pytest.fixture
def half_known():
    """A table of forty images with three labels, of each of which a third is not known."""
    rng = np.random.default_rng(9)
    table = pd.DataFrame({"image": [f"{n:02d}" for n in range(40)], "patient": range(40)})
    for name in LABELS:
        table[name] = np.where(rng.random(40) < 0.3, np.nan, rng.integers(0, 2, 40))
    return table


def noise(name):
    return np.random.default_rng(int(name)).integers(0, 255, (80, 64), "uint8")


@pytest.mark.parametrize("network", ["tiny", pytest.param("resnet_custom", marks=pytest.mark.slow)])
def test_a_training_on_what_is_half_known(network, half_known, tiny_model, tmp_path):
    data = Dataset.from_table(half_known, noise, labels=LABELS)
    name = tiny_model if network == "tiny" else network
    run = train(name, data, epochs=1, size=64, loss="focal", mixup=0.2, folder=tmp_path)
    assert np.isfinite(run.history[["loss", "val_loss", "val_auroc"]]).all(axis=None)
    tested = pd.read_csv(run.folder / "predictions.csv", dtype={"Image Index": str})
    truth = half_known.set_index("image").loc[tested["Image Index"]]
    metrics = pd.read_csv(run.folder / "metrics.csv").set_index("label")
    for label in LABELS:
        assert metrics.loc[label, "known"] == truth[label].notna().sum()
        assert metrics.loc[label, "support"] == (truth[label] == 1).sum()
        np.testing.assert_array_equal(tested[f"true_{label}"], truth[label])
    assert metrics.loc[LABELS, "known"].min() < len(tested)
    card = model_file.read_card(run.folder)
    assert card.labels == tuple(LABELS)
    assert card.normal == "Normal"
    Image.fromarray(noise("07")).save(tmp_path / "07.png")
    predict(run.folder, tmp_path / "07.png", csv_file=tmp_path / "p.csv")
    columns = list(pd.read_csv(tmp_path / "p.csv").columns)
    probabilities = ["prob_Normal", "prob_Upper", "prob_Left"]
    assert columns == ["path", "findings", *probabilities, "warnings", "error"]
