"""`--boxes`: a loss that asks a network to look where radiologists drew boxes.

In a network that ends in average pooling and one layer of logits, those weights make of its last
maps one map a finding (Zhou et al., CVPR 2016, https://arxiv.org/abs/1512.04150), which is what
Grad-CAM draws. Its softmax over all places is how the network's attention is spread; the loss is
-log of the share that lies in the finding's boxes, and nothing where there is no box. The idea, to
learn from the few boxes that there are, is Li et al.'s (CVPR 2018,
https://arxiv.org/abs/1711.06373), whose network is another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from PIL import Image

from cxr_keras.data.boxes import Boxes, boxes_in_square, read_box_list
from cxr_keras.data.dataset import IMAGE
from cxr_keras.data.loader import RadiographLoader
from cxr_keras.data.preparation import PreparedSplit
from cxr_keras.errors import DataError, ModelError
from cxr_keras.framing import Framing
from cxr_keras.models.blocks import LOGITS
from cxr_keras.training.config import TrainConfig
from cxr_keras.utils.console import notice

PIXELS, MASKS = "pixels", "boxes"
_NOWHERE = -1e9  # log of no attention


def with_attention(
    logits: keras.Model, batches: RadiographLoader, config: TrainConfig
) -> tuple[keras.Model, BoxedLoader]:
    """What trains with the boxes of `config.boxes`: the same weights, and batches with masks.

    Args:
        logits: pixels → logits; the layers are shared.
        batches: of the training split, the only one whose boxes are read.
        config: of the run.

    Raises:
        ModelError: the network does not end in average pooling and one layer of logits.
    """
    features, head = _last_maps(logits)
    framing = Framing(config.size, config.fit)
    boxes = _training_boxes(batches.split, config)
    grid = int(features.shape[1])
    masks = keras.Input((grid, grid, head.units), name=MASKS)
    looked = BoxLoss(head, config.box_weight, dtype="float32", name="box_loss")(
        [logits.output, features, masks]
    )
    model = keras.Model({PIXELS: logits.input, MASKS: masks}, looked, name=logits.name)
    return model, BoxedLoader(batches, boxes, framing, grid)


class BoxLoss(layers.Layer):
    """Hands logits through, and adds the loss of attention outside the boxes.

    Args:
        head: the layer of logits, whose kernel (channels, labels) weighs the maps.
        weight: of this loss beside the network's own.
    """

    def __init__(self, head: layers.Dense, weight: float, **options: Any):
        super().__init__(**options)
        self._kernel_of = lambda: head.kernel  # a layer of its own would be tracked twice
        self.weight = weight

    def call(self, inputs: list[Any]) -> Any:
        """Logits (B, labels), maps (B, h, w, channels) and masks (B, h, w, labels) → the logits."""
        logits, features, masks = inputs
        self.add_loss(self.weight * outside(features, self._kernel_of(), masks))
        return logits


def outside(features: Any, kernel: Any, masks: Any) -> Any:
    """Mean over the images of Σ over findings with boxes of -log of the attention in the boxes.

    Args:
        features: (B, h, w, channels).
        kernel: (channels, labels).
        masks: (B, h, w, labels) in 0…1: how much of each place is in the boxes; 0 all over where
            there is none.
    """
    maps = ops.matmul(ops.cast(features, "float32"), ops.cast(kernel, "float32"))
    within = ops.log(ops.maximum(masks, 1e-6)) + ops.where(masks > 0, 0.0, _NOWHERE)
    whole = ops.logsumexp(maps, axis=(1, 2))
    inside = ops.logsumexp(maps + within, axis=(1, 2))
    boxed = ops.max(masks, axis=(1, 2)) > 0
    return ops.mean(ops.sum(ops.where(boxed, whole - inside, 0.0), axis=1))


class BoxedLoader(keras.utils.PyDataset):
    """The batches of another loader, each with the masks of its images' boxes.

    Masks are moved as the augmenter moves their images, and are then float32
    (B, grid, grid, labels): how much of each place of the last maps a box covers, over the most
    that it covers of any.
    """

    def __init__(self, batches: RadiographLoader, boxes: Boxes, framing: Framing, grid: int):
        super().__init__()
        self.batches = batches
        self._framing, self._grid = framing, grid
        names = batches.split.rows[IMAGE].to_numpy()
        self._boxes = [boxes.get(str(name), {}) for name in names]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        pixels, truth = self.batches[index]
        masks = self.masks(self.batches.places(index))
        return {PIXELS: pixels, MASKS: masks}, truth

    def start_epoch(self, epoch: int) -> None:
        """See `RadiographLoader.start_epoch`."""
        self.batches.start_epoch(epoch)

    def masks(self, places: np.ndarray) -> np.ndarray:
        """Of the images at `places` of the split, in this epoch."""
        labels = self.batches.split.labels
        found = np.zeros((len(places), self._grid, self._grid, len(labels)), dtype="float32")
        pairs = [
            (row, label) for row, place in enumerate(places) for label in self._boxes[int(place)]
        ]
        if not pairs:
            return found
        images = np.array([int(places[row]) for row, _ in pairs])
        filled = np.stack(
            [self._filled(self._boxes[int(places[row])][name]) for row, name in pairs]
        )
        if self.batches.augmenter:
            filled = self.batches.augmenter.moved(filled, images, self.batches.epoch)
        before, after = self._framing.margins
        end = self._framing.stored - after
        for (row, name), mask in zip(pairs, filled, strict=True):
            seen = Image.fromarray(mask[before:end, before:end, 0])
            share = np.asarray(seen.resize((self._grid, self._grid), Image.Resampling.BOX))
            if share.max() > 0:
                found[row, :, :, labels.index(name)] = share / share.max()
        return found

    def _filled(self, boxes: list[tuple[float, float, float, float]]) -> np.ndarray:
        side = self._framing.stored
        mask = np.zeros((side, side, 1), dtype="float32")
        for box in boxes:
            left, top, right, bottom = (round(end) for end in box)
            mask[top : max(bottom, top + 1), left : max(right, left + 1)] = 1
        return mask


Batches = RadiographLoader | BoxedLoader


def check_boxes(network: keras.Model, split: PreparedSplit, config: TrainConfig) -> None:
    """Refuse boxes that cannot be learnt from, before anything is done; says how many there are.

    Args:
        network: that is to be trained.
        split: the training split.
        config: of the run.

    Raises:
        ModelError: the network does not end in average pooling and one layer of logits.
        DataError: there is no such file, it is no list of boxes, or of none of the images.
    """
    if not config.boxes:
        return
    _last_maps(network)
    if isinstance(config.data, tuple):
        raise DataError("--boxes goes with one data set, and several were given. Leave one out.")
    boxes = _training_boxes(split, config)
    if not boxes:
        raise DataError(
            f"None of the {len(split):,} training images has a box in {config.boxes}. Name the "
            "list of the data that you train on, or leave --boxes out."
        )
    count = sum(len(labels) for labels in boxes.values())
    notice(f"Boxes of {count:,} findings in {len(boxes):,} of {len(split):,} training images.")


def _training_boxes(split: PreparedSplit, config: TrainConfig) -> Boxes:
    listed = read_box_list(Path(str(config.boxes)))
    framing = Framing(config.size, config.fit)
    return boxes_in_square(listed, split.rows, framing, split.labels)[0]


def _last_maps(model: keras.Model) -> tuple[keras.KerasTensor, layers.Dense]:
    """The maps before the average pooling, and the layer of logits after it."""
    head = model.get_layer(LOGITS)
    before = head.input._keras_history.operation
    while isinstance(before, layers.Dropout):
        before = before.input._keras_history.operation
    if not isinstance(before, layers.GlobalAveragePooling2D):
        raise ModelError(
            f"{model.name} does not end in average pooling and one layer of logits, so its maps "
            "cannot be held against boxes. Leave --boxes out, or take a ResNet, DenseNet or "
            "EfficientNet."
        )
    maps: keras.KerasTensor = before.input
    return maps, head
