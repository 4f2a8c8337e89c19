import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr_keras.errors import CxrError
from cxr_keras.training.loss_functions import (
    AsymmetricLoss,
    FocalLoss,
    WeightedBinaryCrossentropy,
    positive_weights,
)
from cxr_keras.training.losses import LOSSES, get_loss

TRUTH = np.array([[1, 0, 1], [0, 0, 1]], "float32")
LOGITS = np.array([[0.3, -1.2, 2.0], [4.0, 0.0, -3.0]], "float32")


def value(loss, truth=TRUTH, logits=LOGITS):
    return float(keras.ops.convert_to_numpy(loss(truth, logits)))


def by_hand(term):
    """The mean of `term(y, p)` over all labels, in float64."""
    pairs = zip(TRUTH.ravel().astype(float), LOGITS.ravel().astype(float), strict=True)
    return np.mean([term(y, 1 / (1 + np.exp(-z))) for y, z in pairs])


def test_bce_under_both_of_the_reports_names():
    expected = by_hand(lambda y, p: -y * np.log(p) - (1 - y) * np.log(1 - p))
    for name in ("bce", "bce_logits"):
        assert value(get_loss(name, TRUTH)) == pytest.approx(expected, rel=1e-5)


def test_weighted_bce_counts_positives_by_their_weight():
    loss = WeightedBinaryCrossentropy([2.0, 3.0, 5.0])
    weights = iter([2.0, 3.0, 5.0] * 2)
    expected = by_hand(lambda y, p: -next(weights) * y * np.log(p) - (1 - y) * np.log(1 - p))
    assert value(loss) == pytest.approx(expected, rel=1e-5)


def test_weighted_bce_is_pytorchs_pos_weight():
    import torch

    weights = torch.tensor([2.0, 3.0, 5.0])
    reference = torch.nn.BCEWithLogitsLoss(pos_weight=weights)
    expected = float(reference(torch.tensor(LOGITS), torch.tensor(TRUTH)))
    loss = WeightedBinaryCrossentropy(weights.tolist())
    assert value(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (0.5, 0.75)])
def test_focal_by_hand(gamma, alpha):
    expected = by_hand(
        lambda y, p: (
            -alpha * y * (1 - p) ** gamma * np.log(p)
            - (1 - alpha) * (1 - y) * p**gamma * np.log(1 - p)
        )
    )
    assert value(FocalLoss(gamma, alpha)) == pytest.approx(expected, rel=1e-5)


def test_focal_without_focus_is_half_the_cross_entropy():
    assert value(FocalLoss(0.0, 0.5)) == pytest.approx(0.5 * value(get_loss("bce", TRUTH)))


def test_asymmetric_by_hand():
    def term(y, p):
        q = max(p - 0.05, 0.0)
        return -y * (1 - p) * np.log(p) - (1 - y) * q**4 * np.log(1 - q)

    assert value(AsymmetricLoss()) == pytest.approx(by_hand(term), rel=1e-5)


def test_asymmetric_without_asymmetry_is_the_cross_entropy():
    loss = AsymmetricLoss(0.0, 0.0, 0.0)
    assert value(loss) == pytest.approx(value(get_loss("bce", TRUTH)), rel=1e-5)


def test_positive_weights_by_hand():
    truth = np.array([[1, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 1]])
    assert positive_weights(truth) == [3.0, 1.0, 0.01]
    assert positive_weights(np.eye(500, 2))[0] == 100.0


def gradient(loss, truth, logits):
    import torch

    tensor = torch.tensor(logits, requires_grad=True)
    loss(torch.tensor(truth), tensor).backward()
    return tensor.grad.numpy()


@pytest.mark.parametrize("name", LOSSES)
def test_a_saturated_wrong_answer_still_has_a_gradient(name):
    """What decides whether a network gets out of "no" at all."""
    grad = gradient(get_loss(name, TRUTH), np.ones((1, 3), "float32"), -np.full((1, 3), 40.0, "f"))
    assert (grad < -0.001).all()
    assert np.isfinite(grad).all()


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(LOSSES)), st.floats(-90, 90), st.sampled_from([0.0, 1.0]))
def test_losses_are_finite_never_negative_and_point_the_right_way(name, logit, y):
    truth, logits = np.full((1, 3), y, "float32"), np.full((1, 3), logit, "float32")
    loss = get_loss(name, TRUTH)
    assert 0 <= value(loss, truth, logits) < np.inf
    grad = gradient(loss, truth, logits)
    assert np.isfinite(grad).all()
    assert (grad <= 0).all() if y else (grad >= 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_survives_its_configuration(name):
    loss = get_loss(name, TRUTH)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss)
    assert value(again) == value(loss)


def test_an_unknown_loss_lists_the_known():
    with pytest.raises(CxrError, match="Choose one of: bce, bce_logits, weighted_bce"):
        get_loss("hinge", TRUTH)
