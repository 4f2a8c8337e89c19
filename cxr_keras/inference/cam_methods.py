"""How a heat map is made of the maps of a layer and the gradients of a finding's logit.

Each method is a few lines on the maps A of one layer and the gradients G of a finding's logit:

gradcam    channels weighted by their mean gradient; Selvaraju et al., ICCV 2017,
           https://arxiv.org/abs/1610.02391
gradcam++  positive gradients count, weighted place by place; Chattopadhay et al., WACV 2018,
           https://arxiv.org/abs/1710.11063
layercam   each place by its own positive gradient; Jiang et al., IEEE TIP 2021
hirescam   A times G, place by place; Draelos & Carin 2020, https://arxiv.org/abs/2011.08891
eigencam   the first principal component of A, the same for every finding; Muhammad & Yeasin, IJCNN
           2020, https://arxiv.org/abs/2008.00299
occlusion  how much the logit falls where a window is covered; Zeiler & Fergus, ECCV 2014,
           https://arxiv.org/abs/1311.2901. Slow, and needs no gradient.
integrated-gradients  of the pixels, on the way from the image's mean grey; Sundararajan et al.,
           ICML 2017, https://arxiv.org/abs/1703.01365
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from cxr_keras.errors import ModelError


def _gradcam(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    return np.asarray((gradients.mean(axis=(1, 2), keepdims=True) * maps).sum(axis=-1))


def _gradcam_plus(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    squares, cubes = gradients**2, gradients**3
    below = 2 * squares + maps.sum(axis=(1, 2), keepdims=True) * cubes
    share = squares / np.where(below == 0, 1, below)
    weights = (share * np.maximum(gradients, 0)).sum(axis=(1, 2), keepdims=True)
    return np.asarray((weights * maps).sum(axis=-1))


def _layercam(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    return np.asarray((np.maximum(gradients, 0) * maps).sum(axis=-1))


def _hirescam(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    return np.asarray((gradients * maps).sum(axis=-1))


def _eigencam(maps: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    found = []
    for one in maps:
        places = one.reshape(-1, one.shape[-1])
        _, _, axes = np.linalg.svd(places - places.mean(axis=0), full_matrices=False)
        along = places @ axes[0]
        along = along if abs(along.max()) >= abs(along.min()) else -along
        found.append(along.reshape(one.shape[:2]))
    return np.stack(found)


CAMS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "gradcam": _gradcam,
    "gradcam++": _gradcam_plus,
    "layercam": _layercam,
    "hirescam": _hirescam,
    "eigencam": _eigencam,
}


def gradients_of(head: keras.Model, features: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """How the logit of one label each changes with what a network is given, in one backward pass.

    Keras has no gradient of its own: each backend's is asked for.

    Args:
        head: a network, or the end of one, that gives logits (n, n_labels).
        features: its inputs, float32 (n, …).
        labels: (n,), the label of each.

    Returns:
        float32 (n, …).

    Raises:
        ModelError: the backend gives no gradient.
    """
    chosen = np.eye(head.output_shape[-1], dtype="float32")[np.asarray(labels)]
    backend = keras.backend.backend()
    found: Any
    if backend == "torch":
        import torch

        given = keras.ops.convert_to_tensor(features).detach().requires_grad_(True)
        logits = head(given, training=False)
        wanted = keras.ops.cast(keras.ops.convert_to_tensor(chosen), logits.dtype)
        found = torch.autograd.grad(logits, given, wanted)[0]
    elif backend == "jax":
        import jax

        logits, pull_back = jax.vjp(lambda x: head(x, training=False), jax.numpy.asarray(features))
        found = pull_back(jax.numpy.asarray(chosen, logits.dtype))[0]
    elif backend == "tensorflow":
        import tensorflow as tf

        given = tf.convert_to_tensor(features)
        with tf.GradientTape() as tape:
            tape.watch(given)
            logits = head(given, training=False)
        found = tape.gradient(logits, given, output_gradients=tf.cast(chosen, logits.dtype))
    else:
        raise ModelError(
            f"Heat maps need a gradient, which KERAS_BACKEND={backend} does not give. Leave them "
            "out, or set it to torch, jax or tensorflow."
        )
    return numbers(keras.ops.stop_gradient(found))


def numbers(tensor: Any) -> np.ndarray:
    """A backend's tensor as float32."""
    return np.asarray(keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32")))
