"""What training runs: the whole network, or what follows its frozen part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import keras
import numpy as np

from cxr_keras.data import sampling
from cxr_keras.data.loader import RadiographLoader
from cxr_keras.data.preparation import Prepared, PreparedSplit
from cxr_keras.evaluation.evaluation import predict_side
from cxr_keras.models.blocks import LOGITS
from cxr_keras.training import frozen, lookahead
from cxr_keras.training.config import TrainConfig

VALIDATION_BATCH = 64  # at least: without gradients there is room, and weights are read less often


@dataclass(frozen=True)
class TrainedPart:
    """The part of a network that training runs, and what it is fed.

    Attributes:
        logits: what is trained; the loss is taken on logits (see `blocks.sigmoid_head`).
        batches: of the training split, inputs of `logits`.
        validation: batches of the validation split, inputs of `logits`.
        probabilities: from `sides` to sigmoids, for evaluation.
        sides: the splits, as pixels or stored features.
    """

    logits: keras.Model
    batches: RadiographLoader
    validation: RadiographLoader
    probabilities: keras.Model
    sides: Mapping[str, PreparedSplit]


def trained_part(network: keras.Model, config: TrainConfig, prepared: Prepared) -> TrainedPart:
    """Cut off what is frozen and run it: once per film, or ahead of training behind a dropout.

    With `config.feature_cache` off, the whole network is the trained part.
    """
    sides = {name: prepared.side(name) for name in sampling.SPLITS}
    logits = network.get_layer(LOGITS).output
    parts = frozen.cut(network) if config.feature_cache else None
    if parts is None:
        return _as_it_is(keras.Model(network.input, logits), network, sides, config)
    features = frozen.stored_features(parts, prepared)
    sides = {name: frozen.with_features(side, features) for name, side in sides.items()}
    part = _as_it_is(parts.rest(logits), parts.rest(network.output), sides, config)
    behind = lookahead.cut_dropout(network, parts)
    if behind is None:
        return part
    train, val, batch = sides[sampling.TRAIN], sides[sampling.VAL], part.validation.batch_size
    ahead = predict_side(behind.prefix, val)  # without dropout they are the same in every epoch
    fixed = frozen.FeatureSplit(val.rows, ahead, np.arange(len(val)), val.truth)
    return replace(
        part,
        logits=behind.rest(logits),
        batches=lookahead.LookaheadLoader(
            train, config.batch_size, behind.prefix, seed=config.seed
        ),
        validation=RadiographLoader(fixed, batch),
    )


def _as_it_is(
    logits: keras.Model,
    probabilities: keras.Model,
    sides: Mapping[str, PreparedSplit],
    config: TrainConfig,
) -> TrainedPart:
    batches = RadiographLoader(sides[sampling.TRAIN], config.batch_size, seed=config.seed)
    validation_batch = max(config.batch_size, VALIDATION_BATCH)
    validation = RadiographLoader(sides[sampling.VAL], validation_batch)
    return TrainedPart(logits, batches, validation, probabilities, sides)
