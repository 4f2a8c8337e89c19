"""Torch's own kernels for what Keras does in more steps and copies.

On the torch backend Keras composes batch normalisation of a dozen elementwise operations, each
with a tensor to keep for the gradient, and copies every convolution's and pooling's input from
channels-last to channels-first memory and back. Torch has one kernel for each, and runs them on
channels-last memory as it lies. And around each layer's `call` Keras checks shapes, casts and opens
scopes, 0.2 ms a layer, which is most of the time that one image takes; a network that does not
train goes without. The layers, their weights and their configuration stay Keras's: only the
instances' `call` is replaced, and put back. They are used on CPUs and CUDA GPUs;
`CXR_KERAS_KERNELS=off` in the environment turns them off.

What breaks if Keras changes: a layer that computes something else under the same settings, or
that is no longer run through its `call` attribute. Then numbers differ from Keras's own, or the
speed is lost; the tests compare each kernel with the layer it stands for. To leave the checks out
takes three names that are Keras's own; where one of them is gone, the checks stay.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import keras

from cxr_keras.errors import CxrError
from cxr_keras.models.blocks import all_layers

SWITCH = "CXR_KERAS_KERNELS"


def kernels_enabled() -> bool:
    """Whether torch's kernels are used: on its CPU and CUDA devices, unless switched off.

    Raises:
        CxrError: the switch says neither "on" nor "off".
    """
    wanted = os.environ.get(SWITCH, "on")
    if wanted not in ("on", "off"):
        raise CxrError(f"${SWITCH} is on or off. Received: {wanted!r}.")
    if wanted == "off" or keras.backend.backend() != "torch":
        return False
    return keras.ops.convert_to_tensor(0).device.type in ("cpu", "cuda")


@contextmanager
def native_kernels(
    model: keras.Model, batch_sum: Callable[[Any], Any] | None = None
) -> Iterator[None]:
    """Within the body, `model` runs on torch's kernels, training and not.

    Its numbers are Keras's up to float rounding, running statistics included. A layer that no
    kernel fits is left as it is; other backends are left alone.

    Args:
        model: the network.
        batch_sum: sums a tensor over the processes of a training, so that batch normalisation
            takes the statistics of the whole batch; None for those of this process alone.
    """
    replaced = []
    if kernels_enabled() or batch_sum is not None:
        for layer in all_layers(model):
            if "call" in vars(layer):  # validation within fit
                continue
            call = _synchronized(layer, batch_sum) if batch_sum else None
            if call is None and kernels_enabled():
                call = _kernel_for(layer)
            if call is not None:
                layer.call = partial(call, layer)
                replaced.append(layer)
        for network in _networks(model) if batch_sum is None and kernels_enabled() else ():
            if "call" not in vars(network) and _is_plain(network):
                network.call = partial(_without_checks, network)
                replaced.append(network)
    try:
        yield
    finally:
        for layer in replaced:
            del layer.call


def _kernel_for(layer: Any) -> Callable[..., Any] | None:
    """What computes `layer`, or None to leave it to Keras."""
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return None
    from cxr_keras.models import torch_layers  # imports torch, which other backends do without

    kind = type(layer)
    if kind is keras.layers.Conv2D and _plain_convolution(layer):
        return torch_layers.convolution
    if kind is keras.layers.DepthwiseConv2D and _plain_depthwise(layer):
        return torch_layers.depthwise_convolution
    if kind is keras.layers.MaxPooling2D and layer.padding == "valid":
        return torch_layers.max_pooling
    if kind is keras.layers.BatchNormalization and _plain_batch_norm(layer):
        return torch_layers.batch_norm
    return None


def _networks(model: keras.Model) -> Iterator[keras.Model]:
    """A network, and those within it."""
    yield model
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _networks(layer)


def _is_plain(model: keras.Model) -> bool:
    """Whether its layers need nothing of what Keras does around their calls: no casts, no masks."""
    masks = (keras.layers.Masking, keras.layers.Embedding)
    known = hasattr(model, "_run_through_graph") and hasattr(model, "_standardize_inputs")
    return (
        known
        and type(model).__name__ == "Functional"
        and all(
            type(layer).__module__.startswith("keras.")
            and layer.compute_dtype == layer.variable_dtype
            and not isinstance(layer, masks)
            and hasattr(layer, "_call_has_training_arg")
            for layer in (model, *model.layers)
        )
    )


def _without_checks(model: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    """`Functional.call`, which calls the layers' own computations where nothing is trained."""
    if training or mask is not None:
        return type(model).call(model, inputs, training=training, mask=mask)

    def computation(operation: Any) -> Callable[..., Any]:
        if not isinstance(operation, keras.Layer) or isinstance(operation, keras.Model):
            return operation
        if operation._call_has_training_arg:
            return partial(operation.call, training=False)
        return operation.call

    outputs = model._run_through_graph(model._standardize_inputs(inputs), computation)
    return outputs[0] if isinstance(outputs, list | tuple) and len(outputs) == 1 else outputs


def _synchronized(layer: Any, batch_sum: Callable[[Any], Any]) -> Callable[..., Any] | None:
    """What computes a batch normalisation over all processes; None for another layer."""
    if not isinstance(layer, keras.layers.BatchNormalization):
        return None
    from cxr_keras.models import torch_layers

    return partial(torch_layers.synchronized_batch_norm, batch_sum)


def _plain_convolution(layer: Any) -> bool:
    plain = layer.groups == 1 and set(layer.dilation_rate) == {1} and not layer.lora_enabled
    return plain and layer.activation is keras.activations.linear


def _plain_depthwise(layer: Any) -> bool:
    plain = layer.depth_multiplier == 1 and set(layer.dilation_rate) == {1}
    return plain and layer.activation is keras.activations.linear


def _plain_batch_norm(layer: Any) -> bool:
    return (
        layer.compute_dtype in ("float32", "bfloat16")  # torch, too, sums the halves in float32
        and layer.axis in (-1, 3)
        and len(layer.input.shape) == 4
        and layer.scale
        and layer.center
        and not layer.synchronized
        and not getattr(layer, "renorm", False)
    )
