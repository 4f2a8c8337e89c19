"""Does training without labels first help? SimSiam on the training images, then the recipe.

python experiments/recipes/pretraining.py MODEL --data ../shared/nih-128 [--epochs 8]

SimSiam (Chen and He, "Exploring Simple Siamese Representation Learning", CVPR 2021,
https://arxiv.org/abs/2011.10566) makes a network give like features for two augmented views of one
image. It needs no negative pairs, so that small batches do, and suits a convolutional network. The
images are those of the training split alone. Then MODEL is trained by the modern recipe, shortened
to `--train-epochs`, from those weights, and once from its usual ones; the two are compared on the
validation split, paired by patient: printed, and written beside itself. 40 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from cxr_keras import build_model, compare, train
from cxr_keras.data.augmentation import Augmenter
from cxr_keras.data.preparation import PreparedSplit, prepare
from cxr_keras.models.precision import best_precision
from cxr_keras.models.registry import get_spec
from cxr_keras.models.torch_kernels import native_kernels
from cxr_keras.utils.console import notice, print_notices
from cxr_keras.utils.files import write_table
from cxr_keras.utils.memory import keep_freed_memory

WIDTH, NARROW = 512, 128  # of the projection and of the predictor's middle
DATA = {"per_class": "all", "size": 128, "fit": "whole", "val_share": 0.2, "test_share": 0}


class Views(keras.utils.PyDataset):
    """Two augmented views of each image of a batch; there is nothing to predict."""

    def __init__(self, split: PreparedSplit, batch_size: int):
        super().__init__()
        self.split, self.batch_size, self.epoch = split, batch_size, 0
        self.augmenters = [Augmenter("strong", flip=True, mixup=0, seed=seed) for seed in (1, 2)]
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self.split) // self.batch_size

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        places = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        pixels, truth = self.split.batch(places), self.split.truth[places]
        first, second = (a(pixels, truth, places, self.epoch)[0] for a in self.augmenters)
        return (first, second), np.zeros((len(places), 1), "float32")

    def on_epoch_end(self) -> None:
        """Other views, in another order."""
        self.epoch += 1
        self.order = np.random.default_rng(self.epoch).permutation(len(self.split))


def siamese(network: keras.Model) -> keras.Model:
    """Two views → (B, 4, WIDTH): projection and prediction of the first, then of the second."""

    def dense(units: int, name: str, *, last: bool = False) -> list[layers.Layer]:
        found: list[layers.Layer] = [layers.Dense(units, use_bias=False, name=name)]
        found.append(layers.BatchNormalization(momentum=0.9, name=f"{name}_bn"))
        return found if last else [*found, layers.ReLU(name=f"{name}_relu")]

    encoder = keras.Model(network.input, network.get_layer("logits").input)
    projector = [*dense(WIDTH, "project1"), *dense(WIDTH, "project2", last=True)]
    predictor = [*dense(NARROW, "predict1"), layers.Dense(WIDTH, name="predict2")]
    views = [keras.Input(network.input_shape[1:], name=f"view{i}") for i in (1, 2)]
    outputs = []
    for view in views:
        x = encoder(view)
        for layer in projector:
            x = layer(x)
        outputs.append(x)
        for layer in predictor:
            x = layer(x)
        outputs.append(x)
    stacked = layers.Reshape((4, WIDTH), dtype="float32")(layers.Concatenate()(outputs))
    return keras.Model(views, stacked)


def unlike(_: Any, outputs: Any) -> Any:
    """1 − the mean cosine between one view's prediction and the other's projection, held still."""
    outputs = ops.normalize(outputs, axis=-1, order=2)
    first, predicted1, second, predicted2 = (outputs[:, i] for i in range(4))
    pairs = ((predicted1, second), (predicted2, first))
    return 1 - sum(ops.sum(p * ops.stop_gradient(z), axis=-1) for p, z in pairs) / 2


def pretrain(name: str, weights: str, data: Path, epochs: int, file: Path) -> None:
    """Train without labels, and save the network to `file`."""
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(best_precision())
    split = prepare(data, seed=42, **DATA).split("train")
    network = build_model(name, weights, size=DATA["size"], fit=DATA["fit"])
    batches = Views(split, 64)
    model = siamese(network)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, epochs * len(batches))
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.01), loss=unlike)
    with native_kernels(model):
        for epoch in range(epochs):
            history = model.fit(
                batches, initial_epoch=epoch, epochs=epoch + 1, verbose=0, shuffle=False
            )
            features = model.predict(batches[0][0], verbose=0)[:, 0]
            unit = features / np.linalg.norm(features, axis=1, keepdims=True)
            spread = unit.std(axis=0).mean() * WIDTH**0.5  # 1 for features that fill the space
            loss = history.history["loss"][0]
            notice(f"epoch {epoch + 1}/{epochs}  1 − cosine {loss:.4f}  spread {spread:.2f}")
    keras.config.set_dtype_policy("float32")
    network.save(file)


def main() -> None:
    """Pretrain, train twice, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True, help="a folder in NIH's layout")
    parser.add_argument("--epochs", type=int, default=8, help="without labels")
    parser.add_argument("--train-epochs", type=int, default=6, help="with labels")
    parser.add_argument("--runs", type=Path, default=Path("ablation"), help="the run folders")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    print_notices()
    keep_freed_memory()
    options.runs.mkdir(parents=True, exist_ok=True)
    usual = get_spec(options.model).default_weights
    file = options.runs / f"simsiam-{options.model}.keras"
    if not file.is_file():
        pretrain(options.model, usual, options.data, options.epochs, file)
    settings = {"recipe": "modern", "epochs": options.train_epochs, "fine_tune": "all", **DATA}
    runs = {}
    for what, weights in ((f"from {usual}", usual), ("pretrained", file)):
        folder = options.runs / f"{options.model}-{what.replace(' ', '-')}"
        if not (folder / "validation").is_dir():
            train(
                options.model,
                options.data,
                weights=weights,
                name=folder.name,
                folder=options.runs,
                resume=True,
                **settings,
            )
        runs[what] = folder
    table = compare(*runs.values())  # a: the usual weights, b: pretrained
    write_table(table.round(4), options.out)
    print(table.tail(2).to_string())


if __name__ == "__main__":
    main()
