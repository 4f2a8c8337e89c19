"""What every network shares: the grey input stem, PyTorch-like layers, the sigmoid head."""

from __future__ import annotations

from collections.abc import Iterator

import keras
from keras import layers

from cxr_keras.framing import DEFAULT_FRAMING, Framing

CENTRE_CROP = "centre_crop"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Keras's defaults (0.99, 1e-3) let the running statistics lag for hundreds of steps; these are
# PyTorch's, whose momentum of 0.1 weighs the new batch and Keras's 0.9 the old average.
BATCH_NORM_MOMENTUM = 0.9
BATCH_NORM_EPSILON = 1e-5

LOGITS = "logits"
PROBABILITIES = "probabilities"


def input_stem(
    framing: Framing = DEFAULT_FRAMING, *, grey: bool = False
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Raw grey pixels → what a network takes, as layers of the graph.

    Args:
        framing: how large the square is, and how much of it the network sees.
        grey: one channel of (pixel − 127) / 128, for networks whose three channels would be equal.

    Returns:
        The input, (N, stored, stored, 1) grey values in 0…255, and (N, size, size, 3): its centre
        (by default 224 of 256 pixels; all of it where nothing is to be cropped),
        repeated into three channels, with ImageNet's mean and standard deviation taken out. Where
        `grey`, (N, size, size, 1).
    """
    pixels = centre = keras.Input((framing.stored, framing.stored, 1), name="pixels")
    if any(framing.margins):
        centre = layers.Cropping2D((framing.margins, framing.margins), name=CENTRE_CROP)(pixels)
    if grey:
        normalisation = layers.Rescaling(1 / 128, -127 / 128, name="imagenet_normalisation")
        return pixels, normalisation(centre)
    rgb = layers.Concatenate(name="grey_to_rgb")([centre, centre, centre])
    scale = [1.0 / (255.0 * std) for std in IMAGENET_STD]
    offset = [-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    return pixels, layers.Rescaling(scale, offset, name="imagenet_normalisation")(rgb)


def sigmoid_head(features: keras.KerasTensor, outputs: int) -> keras.KerasTensor:
    """Features (N, D) → (N, outputs) probabilities, in float32 whatever the network's precision.

    The logits are a layer of their own: training takes its loss on them, because Keras clips
    probabilities inside binary cross-entropy and a saturated sigmoid then has no gradient.
    """
    logits = layers.Dense(
        outputs, kernel_initializer=torch_uniform(), dtype="float32", name=LOGITS
    )(features)
    return layers.Activation("sigmoid", dtype="float32", name=PROBABILITIES)(logits)


def torch_uniform() -> keras.initializers.Initializer:
    """PyTorch's default for kernels, U(±1/√fan_in); Keras's Glorot starts larger."""
    return keras.initializers.VarianceScaling(1.0 / 3.0, mode="fan_in", distribution="uniform")


def torch_uniform_depthwise() -> keras.initializers.Initializer:
    """The same for depthwise kernels (height, width, channels, 1), of which each sees one channel.

    Keras counts all channels into their fan-in; height · width is what it calls their fan-out.
    """
    return keras.initializers.VarianceScaling(1.0 / 3.0, mode="fan_out", distribution="uniform")


def convolution(
    x: keras.KerasTensor,
    filters: int,
    size: int,
    *,
    name: str,
    stride: int = 1,
    pad: int = 0,
    use_bias: bool = True,
) -> keras.KerasTensor:
    """A 2-D convolution that pads as PyTorch does: `pad` zeros on every side.

    Keras's "same" at stride 2 pads unevenly, so the padding is a layer of its own there.
    """
    same = stride == 1 and size % 2 == 1 and pad == size // 2
    if pad and not same:
        x = layers.ZeroPadding2D(pad, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters,
        size,
        strides=stride,
        padding="same" if same else "valid",
        use_bias=use_bias,
        kernel_initializer=torch_uniform(),
        name=name,
    )(x)


def batch_norm(
    x: keras.KerasTensor, *, name: str, epsilon: float = BATCH_NORM_EPSILON
) -> keras.KerasTensor:
    """Batch normalisation with PyTorch's momentum and, unless told otherwise, its epsilon."""
    return layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, epsilon=epsilon, name=name)(x)


def dense_relu(x: keras.KerasTensor, units: int, *, name: str) -> keras.KerasTensor:
    """A fully connected layer with ReLU."""
    x = layers.Dense(units, kernel_initializer=torch_uniform(), name=name)(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def all_layers(model: keras.Model) -> Iterator[keras.Layer]:
    """The layers of a network, those of networks within it too."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from all_layers(layer)
        else:
            yield layer
