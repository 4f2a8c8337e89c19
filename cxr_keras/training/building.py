"""What a training begins with: its whole configuration, its network and its images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

from cxr_keras.data.dataset import Dataset
from cxr_keras.data.labels import LabelSet
from cxr_keras.data.preparation import Prepared, prepare_dataset
from cxr_keras.data.source import read_data
from cxr_keras.data.splits import describe_sizes, shared_patients
from cxr_keras.errors import ModelError
from cxr_keras.models.dropout import set_dropout
from cxr_keras.models.freezing import count_trainable, freeze
from cxr_keras.models.precision import FLOAT32, best_precision
from cxr_keras.models.registry import RANDOM, build_model, get_spec
from cxr_keras.models.user_built import framing_of, with_logits
from cxr_keras.training.config import TrainConfig, configured
from cxr_keras.training.options import AUTO
from cxr_keras.training.own_start import OwnStart
from cxr_keras.training.recipes import REPORT
from cxr_keras.utils.console import notice


def complete_config(model: Any, settings: Mapping[str, Any]) -> TrainConfig:
    """The configuration, with what only the network and this machine know filled in."""
    spec = get_spec(model) if isinstance(model, str) else None
    config = configured(
        spec.name if spec else model.name, spec.recipe if spec else REPORT, settings
    )
    if config.precision == AUTO:  # a built model has its own
        precision = best_precision() if spec else FLOAT32
        config = dataclasses.replace(config, precision=precision)
    random = spec is None or (config.weights or spec.default_weights) == RANDOM
    if random and settings.get("fine_tune") is None:  # the recipe's is of pretrained weights
        config = dataclasses.replace(config, fine_tune=None)
    if spec is None:  # its input says what it sees
        framing = framing_of(model, size=settings.get("size"), fit=settings.get("fit"))
        config = dataclasses.replace(config, size=framing.size, fit=framing.fit)
    return config


def build_network(
    model: str | keras.Model, config: TrainConfig, start: OwnStart | None, labels: LabelSet
) -> keras.Model:
    """The network as training takes it; says where its weights come from and how many train.

    Args:
        model: a registered network, or a built one.
        config: of `complete_config`.
        start: the own model file whose weights it takes.
        labels: what it is to predict.
    """
    if isinstance(model, str):
        network = _by_name(config, start, labels)
    else:
        network = _as_given(model, config, labels)
    set_dropout(network, config.dropout)
    return network


def read_images(config: TrainConfig) -> Dataset:
    """The data of a run as a table; says what is wrong or missing in it."""
    dataset = read_data(config.data, config.reading)
    for sentence in dataset.notices:
        notice(sentence)
    return dataset


def prepare_images(config: TrainConfig, dataset: Dataset) -> Prepared:
    """The images of a run, chosen, split and decoded; says how many each split has."""
    prepared, sentences = prepare_dataset(
        dataset,
        reading=config.reading,
        per_class=config.per_class,
        split_method=config.split_method,
        seed=config.data_seed,
        size=config.size,
        fit=config.fit,
        val_share=config.val_share,
        test_share=config.test_share,
    )
    for sentence in sentences:
        notice(sentence)
    _say_sizes(prepared)
    return prepared


def _by_name(config: TrainConfig, start: OwnStart | None, labels: LabelSet) -> keras.Model:
    """The network with its weights, the right layers frozen; says how many parameters train."""
    spec = get_spec(config.model)
    weights = config.weights or spec.default_weights
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        network = build_model(
            config.model,
            RANDOM if start else weights,
            outputs=len(labels),
            size=config.size,
            fit=config.fit,
        )
    finally:
        keras.config.set_dtype_policy(before)
    if start:
        start.put_into(network, labels.names)
    pretrained = weights != RANDOM
    count = freeze(network, spec, pretrained=pretrained, fine_tune=config.fine_tune)
    origin = f"weights from {weights}" if pretrained else "random weights"
    notice(f"{config.model}: {origin}, {count}.")
    return network


def _as_given(model: keras.Model, config: TrainConfig, labels: LabelSet) -> keras.Model:
    """A network that the user built, with a layer of logits."""
    for name in ("weights", "fine_tune"):
        if getattr(config, name) is not None:
            raise ModelError(
                f"{name} chooses the weights of a network that is built by its name; a built "
                f"model has its own. Leave {name} out, or give a name in place of the model."
            )
    network = with_logits(model, len(labels))
    images = f"images of {config.size} px, {config.fit}"
    notice(f"{config.model}: a built model for {images}, {count_trainable(network)}.")
    return network


def _say_sizes(prepared: Prepared) -> None:
    shared = shared_patients(prepared.manifest)
    text = describe_sizes(prepared.manifest)
    notice(f"{len(prepared.manifest):,} images, {prepared.split_method} split: {text}.")
    if any(shared.values()):
        pairs = ", ".join(f"{number} {pair}" for pair, number in shared.items())
        notice(
            f"This split shares patients ({pairs}), which flatters the result; "
            "--split-method patient does not."
        )
