"""`--boxes`: attention is asked to lie in boxes; masks move with their images."""

import keras
import numpy as np
import pytest
from helpers.refusals import refusal

from cxr_keras import load_model, train
from cxr_keras.data.augmentation import Augmenter
from cxr_keras.data.boxes import boxes_in_square, read_boxes
from cxr_keras.data.loader import RadiographLoader
from cxr_keras.data.preparation import prepare
from cxr_keras.data.splits import TRAIN
from cxr_keras.framing import Framing
from cxr_keras.training.attention import MASKS, PIXELS, BoxedLoader, outside

TINY = {"epochs": 2, "size": 64, "fit": "whole", "per_class": "all", "batch_size": 16}


def slow_outside(features, kernel, masks):
    total = 0.0
    for image, mask in zip(features, masks, strict=True):
        for label in range(kernel.shape[1]):
            if mask[..., label].any():
                scores = np.exp(image @ kernel[:, label])
                total -= np.log((scores / scores.sum() * mask[..., label]).sum())
    return total / len(features)


def test_the_loss_is_minus_log_of_the_attention_in_the_boxes():
    rng = np.random.default_rng(0)
    features, kernel = rng.normal(size=(3, 4, 4, 5)), rng.normal(size=(5, 6))
    masks = np.zeros((3, 4, 4, 6))
    masks[0, 1:3, 2:, 1], masks[0, 0, 0, 4], masks[2, 3, :2, 0] = 1.0, 1.0, 0.25
    given = [keras.ops.convert_to_tensor(x.astype("float32")) for x in (features, kernel, masks)]
    found = float(keras.ops.convert_to_numpy(outside(*given)))
    assert found == pytest.approx(slow_outside(features, kernel, masks), rel=1e-4)
    nothing = keras.ops.zeros_like(given[2])
    assert float(keras.ops.convert_to_numpy(outside(given[0], given[1], nothing))) == 0


@pytest.fixture(scope="module")
def prepared(phantoms):
    return prepare(phantoms, size=64, fit="whole", per_class="all")


def test_a_mask_is_where_its_image_went(prepared, phantoms):
    """White rectangles drawn as images and as boxes end in the same places."""
    split, framing = prepared.split(TRAIN), Framing(64, "whole")
    boxes = {
        str(name): {split.labels[0]: [(8.0 + n % 16, 16.0, 40.0, 24.0 + n % 32)]}
        for n, name in enumerate(split.rows["Image Index"])
    }
    augmenter = Augmenter("light", flip=True, mixup=0.0, seed=3)
    batches = RadiographLoader(split, 8, seed=1, augmenter=augmenter)
    loader = BoxedLoader(batches, boxes, framing, 64)
    for epoch in (0, 1):
        loader.start_epoch(epoch)
        masks, places = loader[0][0][MASKS], batches.places(0)
        drawn = np.zeros((8, 64, 64, 1), dtype="uint8")
        for image, place in zip(drawn, places, strict=True):
            left, top, right, bottom = boxes[str(split.rows["Image Index"].iloc[place])][
                split.labels[0]
            ][0]
            image[int(top) : int(bottom), int(left) : int(right)] = 200
        moved, _ = augmenter(drawn, split.truth[places], places, epoch)
        bright = moved[..., 0] > (moved.max(axis=(1, 2)) + moved.min(axis=(1, 2)))[..., None] / 2
        overlap = (bright & (masks[..., 0] > 0.5)).sum() / (bright | (masks[..., 0] > 0.5)).sum()
        assert overlap > 0.98
    assert masks[..., 1:].max() == 0


def test_pixels_and_order_are_those_of_a_training_without_boxes(prepared, phantoms):
    split = prepared.split(TRAIN)
    boxes, _ = boxes_in_square(read_boxes(phantoms), split.rows, Framing(64, "whole"), split.labels)
    batches = RadiographLoader(split, 16, seed=5)
    (given, truth), (pixels, usual) = (
        BoxedLoader(batches, boxes, Framing(64, "whole"), 4)[0],
        batches[0],
    )
    np.testing.assert_array_equal(given[PIXELS], pixels)
    np.testing.assert_array_equal(truth, usual)
    boxed = given[MASKS].max(axis=(1, 2)) > 0
    assert boxed.any()
    assert not (boxed & (truth == 0)).any()  # a phantom's box is of a finding that it has


@pytest.mark.slow
def test_a_run_with_boxes_resumes_and_loads_as_any_other(phantoms, tmp_path):
    boxes = phantoms / "BBox_List_2017.csv"
    options = TINY | {"boxes": boxes, "augment": "light", "ema": 0.9, "folder": tmp_path}
    whole = train("resnet_custom", phantoms, name="whole", checkpoint_every=1, **options)
    assert whole.info["settings"]["boxes"] == str(boxes)
    model = load_model(whole.folder)
    assert [tensor.name for tensor in model.inputs] == ["pixels"]
    without = train("resnet_custom", phantoms, name="without", **(options | {"boxes": None}))
    assert whole.history["loss"][0] > without.history["loss"][0]
    assert not np.allclose(model.get_weights()[-2], load_model(without.folder).get_weights()[-2])


def test_what_does_not_go_with_boxes(phantoms, make_folder, tmp_path):
    boxes = phantoms / "BBox_List_2017.csv"
    said = refusal(train, "resnet_custom", phantoms, boxes=boxes, mixup=0.2, folder=tmp_path)
    assert "--mixup 0" in said
    options = TINY | {"folder": tmp_path}
    said = refusal(train, "alexnet_custom", phantoms, boxes=boxes, **options)
    assert "does not end in average pooling" in said
    missing = tmp_path / "none.csv"
    assert "no list of boxes" in refusal(train, "resnet_custom", phantoms, boxes=missing, **options)
    missing.write_text("a,b\n1,2\n")
    assert "no list of boxes" in refusal(train, "resnet_custom", phantoms, boxes=missing, **options)
    missing.write_text("h\nother.png,Mass,1,2,3,4\n")
    assert "None of the" in refusal(train, "resnet_custom", phantoms, boxes=missing, **options)
