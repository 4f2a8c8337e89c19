"""Augmentation: what it does to an image, and that (seed, epoch, image) decide all of it."""

import numpy as np
import pytest

from cxr_keras.data.augmentation import STRENGTHS, Augmenter
from cxr_keras.data.options import AUGMENTATIONS

SIDE = 64


def images(count=6, seed=0):
    rng = np.random.default_rng(seed)
    smooth = rng.uniform(40, 215, (count, 8, 8, 1)).repeat(8, axis=1).repeat(8, axis=2)
    return smooth.astype("uint8")


def labels(count=6):
    return np.random.default_rng(1).integers(0, 2, (count, 15)).astype("float32")


def augmenter(strength="strong", *, flip=True, mixup=0.0, seed=3):
    return Augmenter(strength, flip=flip, mixup=mixup, seed=seed)


def test_every_choice_has_its_strength():
    assert tuple(STRENGTHS) == AUGMENTATIONS


@pytest.mark.parametrize("strength", AUGMENTATIONS)
def test_images_keep_their_shape_and_range(strength):
    pixels, truth = augmenter(strength)(images(), labels(), np.arange(6), 0)
    assert pixels.dtype == np.float32
    assert pixels.shape == (6, SIDE, SIDE, 1)
    assert pixels.min() >= 0
    assert pixels.max() <= 255
    np.testing.assert_array_equal(truth, labels())


def test_none_changes_nothing():
    none = augmenter("none", flip=False)
    assert not none.changes
    np.testing.assert_array_equal(none(images(), labels(), np.arange(6), 0)[0], images())


def test_an_image_is_changed_alike_in_whatever_batch():
    pixels, truth, places = images(), labels(), np.arange(6)
    whole = augmenter()(pixels, truth, places, 4)[0]
    order = np.array([5, 2, 0])
    part = augmenter()(pixels[order], truth[order], places[order], 4)[0]
    np.testing.assert_allclose(part, whole[order], atol=1e-3)


@pytest.mark.parametrize("other", [{"epoch": 5}, {"seed": 4}, {"first": 10}])
def test_epoch_seed_and_image_each_decide(other):
    once = augmenter()(images(), labels(), np.arange(6), 4)[0]
    places = np.arange(6) + other.get("first", 0)
    again = augmenter(seed=other.get("seed", 3))(images(), labels(), places, other.get("epoch", 4))
    assert not np.allclose(once, again[0], atol=1)


def test_flip_alone_mirrors_some_images_and_leaves_the_others():
    pixels = images(40)
    flipped = augmenter("none")(pixels, labels(40), np.arange(40), 0)[0]
    mirrored = [np.allclose(a, b[:, ::-1], atol=0.01) for a, b in zip(flipped, pixels, strict=True)]
    same = [np.allclose(a, b, atol=0.01) for a, b in zip(flipped, pixels, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 10 < sum(mirrored) < 30


def test_without_flip_left_stays_left():
    pixels = np.zeros((30, SIDE, SIDE, 1), "uint8")
    pixels[:, :, : SIDE // 2] = 200
    moved = augmenter("light", flip=False)(pixels, labels(30), np.arange(30), 0)[0]
    assert (moved[:, :, :16].mean(axis=(1, 2, 3)) > moved[:, :, -16:].mean(axis=(1, 2, 3))).all()


def test_mixup_mixes_images_and_labels_by_the_same_share():
    pixels, truth = images(), labels()
    mixed, mixed_truth = augmenter("none", flip=False, mixup=0.4)(pixels, truth, np.arange(6), 0)
    for i in range(6):
        own, other = pixels[i].astype(float), pixels[i - 1].astype(float)
        share = ((mixed[i] - other) * (own - other)).sum() / ((own - other) ** 2).sum()
        assert 0.5 <= share <= 1
        expected = share * truth[i] + (1 - share) * truth[i - 1]
        np.testing.assert_allclose(mixed_truth[i], expected, atol=1e-3)
