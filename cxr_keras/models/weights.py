"""PyTorch weights of torchvision's and other networks → Keras, by layer name.

Three steps, each usable alone: `imagenet_file` finds or fetches the file, `load_state_dict`
reads it, `port` copies it into a network. The 1000-way head is never copied.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from typing import Any
from urllib.error import URLError

import keras
import numpy as np

from cxr_keras.errors import ModelError
from cxr_keras.models.blocks import LOGITS
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice

BASE_URL = "https://download.pytorch.org/models/"
EXTRA = 'python -m pip install "cxr-keras[imagenet]"'
URL_VARIABLE = "CXR_KERAS_WEIGHTS_URL"  # another place that holds the same files

# torchvision's own files of DenseNet were written when a module was still called "norm.1";
# torchvision renames them as it reads, and so does `load_state_dict`.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)$")
_BATCH_COUNT = "num_batches_tracked"  # Keras's batch normalisation does not count
_SUFFIXES: dict[type, tuple[str, ...]] = {  # in the order of the Keras layer's weights
    keras.layers.Conv2D: ("weight", "bias"),
    keras.layers.Dense: ("weight", "bias"),
    keras.layers.DepthwiseConv2D: ("weight", "bias"),
    keras.layers.BatchNormalization: ("weight", "bias", "running_mean", "running_var"),
    keras.layers.LayerNormalization: ("weight", "bias"),
    keras.layers.EinsumDense: ("layer_scale",),
}
_KERNELS = (keras.layers.Conv2D, keras.layers.Dense, keras.layers.DepthwiseConv2D)
_NAMES_SHOWN = 5


@dataclass(frozen=True)
class Pretrained:
    """Where PyTorch's weights of a network are, and what they are called.

    Attributes:
        file: the file's name. Of torchvision's, the last eight hex digits begin its SHA-256.
        layers: Keras layer → prefix of PyTorch's parameters, such as
            "conv1" → "features.0". Every layer with weights but the head.
        head: prefix of the 1000-way head, which is left out.
        flattened: the dense layer after a flatten → (channels, height, width) before it:
            PyTorch flattens channels first, Keras channels last.
        package: the importable package that has the file in its folder `models`; None for
            torchvision's, which are fetched.
        summed: the first convolution of a network that takes grey images: its kernel is summed
            over PyTorch's three colours.
    """

    file: str
    layers: Mapping[str, str]
    head: str
    flattened: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)
    package: str | None = None
    summed: str | None = None

    @property
    def owner(self) -> str:
        """Who made the file, for people."""
        return self.package or "torchvision"

    @property
    def sha256_prefix(self) -> str:
        """The hex digits in the file's name, with which the SHA-256 of its content begins."""
        return Path(self.file).stem.rsplit("-", 1)[-1]

    @property
    def url(self) -> str:
        """Where the file is fetched from; $CXR_KERAS_WEIGHTS_URL replaces the folder."""
        base = os.environ.get(URL_VARIABLE) or BASE_URL
        return f"{base.rstrip('/')}/{self.file}"


def imagenet_file(pretrained: Pretrained) -> Path:
    """The checked file of ImageNet weights, from torch's own cache or fetched into it.

    Where a package has it, it is that package's file, and nothing is fetched. The cache is the
    one that torch.hub and torchvision use: `$TORCH_HOME/hub/checkpoints`.

    Raises:
        ModelError: its package is not installed, it can neither be found nor fetched, it cannot
            be written, or its SHA-256 is not the one in its name. The message names the address
            and the folder to put it in.
    """
    if pretrained.package:
        return _packaged_file(pretrained.file, pretrained.package)
    import torch

    target = Path(torch.hub.get_dir()) / "checkpoints" / pretrained.file
    if target.is_file():
        _check_sha256(target, pretrained)
        return target
    notice(f"Fetching {pretrained.url} into {target.parent}.")
    by_hand = f"put the file into {target.parent} yourself, or give --weights none"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(
            pretrained.url, str(target), pretrained.sha256_prefix, progress=sys.stderr.isatty()
        )
    except (URLError, HTTPException, ConnectionError, TimeoutError, SSLError, ValueError) as error:
        raise ModelError(f"{pretrained.url} cannot be fetched ({error}); {by_hand}.") from error
    except RuntimeError as error:  # torch's, of the hash
        raise ModelError(
            f"{pretrained.url} is not torchvision's file, or it was cut short ({error}); try "
            f"again, {by_hand}."
        ) from error
    except OSError as error:
        raise ModelError(
            f"{target} cannot be written ({error.strerror or error}). Make room on that disk, or "
            "set $TORCH_HOME to a folder that you can write."
        ) from error
    return target


def _packaged_file(name: str, package: str) -> Path:
    """A file in an installed package, which is found and not imported."""
    found = importlib.util.find_spec(package)
    file = Path(found.origin).parent / "models" / name if found and found.origin else None
    if file is None or not file.is_file():
        raise ModelError(
            f"{name} is in the package {package.replace('_', '-')}, which is not installed. "
            f"Run: {EXTRA}. Or give --weights none."
        )
    return file


def load_state_dict(path: PathLike) -> dict[str, Any]:
    """Read the tensors of a `.pth` file; nothing in the file is executed.

    Returns:
        PyTorch's parameter name → torch tensor on the CPU.

    Raises:
        ModelError: no such file, cut short, not a PyTorch file, or not a state dict.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        kind = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise ModelError(
            f"The weights file {path} {kind}. Give imagenet, none, or the path of a .pth file."
        )
    import torch

    try:
        content = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except Exception as error:  # torch raises anything from EOFError to UnpicklingError
        raise ModelError(_unreadable(path, error)) from error
    if not isinstance(content, dict) or not all(torch.is_tensor(v) for v in content.values()):
        raise ModelError(
            f"{path} is no state dict: expected tensors by parameter name, as written by "
            f"torch.save(model.state_dict(), path). Received: {_describe(content)}."
        )
    return {_OLD_DENSENET.sub(r"\1\2", name): tensor for name, tensor in content.items()}


def port(
    model: keras.Model,
    pretrained: Pretrained,
    state_dict: Mapping[str, Any],
    *,
    origin: PathLike = "The state dict",
) -> None:
    """Copy a PyTorch state dict into the body of `model`, in place; the head stays.

    Nothing is copied unless everything fits.

    Args:
        model: the network that `pretrained` describes.
        pretrained: the names of its layers in PyTorch.
        state_dict: parameter name → torch tensor, see `load_state_dict`.
        origin: what to call the state dict in an error.

    Raises:
        ModelError: a parameter is missing, of another shape, or has no place in the network.
    """
    wanted = dict(_parameters(model, pretrained))
    _check_names(model.name, wanted, pretrained, state_dict, origin)
    converted = [
        (variable, _to_keras(state_dict[name], layer, pretrained, name=name, origin=origin))
        for name, (layer, variable) in wanted.items()
    ]
    for variable, values in converted:
        variable.assign(values)


def _parameters(
    model: keras.Model, pretrained: Pretrained
) -> Iterator[tuple[str, tuple[keras.Layer, Any]]]:
    """PyTorch's name → Keras layer and variable, for every weight but the head's."""
    for layer in model.layers:
        if not layer.weights or layer.name == LOGITS:
            continue
        prefix = pretrained.layers[layer.name]
        suffixes = _SUFFIXES[type(layer)][: len(layer.weights)]  # no bias: the weight alone
        for suffix, variable in zip(suffixes, layer.weights, strict=True):
            yield f"{prefix}.{suffix}", (layer, variable)


def _check_names(
    network: str,
    wanted: Mapping[str, Any],
    pretrained: Pretrained,
    state_dict: Mapping[str, Any],
    origin: PathLike,
) -> None:
    missing = [name for name in wanted if name not in state_dict]
    unused = [
        name
        for name in state_dict
        if name not in wanted
        and not name.startswith(f"{pretrained.head}.")
        and not name.endswith(f".{_BATCH_COUNT}")
    ]
    if not missing and not unused:
        return
    faults = []
    if missing:
        faults.append(f"it lacks {_some(missing)}")
    if unused:
        faults.append(f"{network} has no place for {_some(unused)}")
    raise ModelError(
        f"{origin} does not hold {pretrained.owner}'s {network}: {'; '.join(faults)}. "
        f"Expected the parameters of {pretrained.file}."
    )


def _to_keras(
    tensor: Any, layer: keras.Layer, pretrained: Pretrained, *, name: str, origin: PathLike
) -> np.ndarray:
    """One tensor in Keras's order of axes, its shape checked in PyTorch's."""
    values = tensor.detach().float()
    kernel = name.endswith(".weight") and isinstance(layer, _KERNELS)
    summed = kernel and layer.name == pretrained.summed
    expected = _torch_shape(layer, colours=summed) if kernel else tuple(layer.weights[-1].shape)
    if isinstance(layer, keras.layers.EinsumDense):
        expected = (*expected, 1, 1)  # a scale for maps that are channels first
    if tuple(values.shape) != expected:
        raise ModelError(
            f"{origin} does not fit: {name} has the shape {tuple(values.shape)}, "
            f"expected {expected}."
        )
    if summed:
        values = values.sum(1, keepdim=True)
    if isinstance(layer, keras.layers.DepthwiseConv2D) and kernel:
        values = values.permute(2, 3, 0, 1)  # (out, 1, height, width) → (height, width, out, 1)
    elif kernel and values.ndim == 4:
        values = values.permute(2, 3, 1, 0)  # (out, in, height, width) → (height, width, in, out)
    elif kernel and layer.name in pretrained.flattened:
        channels, *_ = pretrained.flattened[layer.name]  # then height and width
        values = values.t().contiguous().reshape(channels, -1, len(values))
        values = values.transpose(0, 1).reshape(-1, values.shape[-1])  # channels run fastest
    elif kernel:
        values = values.t()
    elif isinstance(layer, keras.layers.EinsumDense):
        values = values.flatten()
    transposed: np.ndarray = values.contiguous().numpy()  # torch copies on all cores
    return transposed


def _torch_shape(layer: keras.Layer, *, colours: bool) -> tuple[int, ...]:
    """The shape of a layer's kernel in PyTorch: (out, in) or (out, in, height, width)."""
    *size, inputs, outputs = layer.kernel.shape
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        inputs, outputs = outputs, inputs
    return (outputs, 3 if colours else inputs, *size)


def _check_sha256(file: Path, pretrained: Pretrained) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if not found.startswith(pretrained.sha256_prefix):
        raise ModelError(
            f"{file} is not torchvision's file, or it is cut short: expected a SHA-256 that "
            f"begins with {pretrained.sha256_prefix}, received {found[:8]} "
            f"({file.stat().st_size:,} bytes). Delete it to fetch it again from {pretrained.url}."
        )


def _unreadable(path: Path, error: Exception) -> str:
    size = path.stat().st_size
    if "unsupported global" in str(error).lower():  # a name other than a tensor's
        received = "a pickle of Python objects, which could run code when opened"
    else:
        received = f"{size:,} bytes that PyTorch cannot read, cut short or of another kind"
    return (
        f"{path} cannot be loaded: expected a PyTorch state dict, as written by "
        f"torch.save(model.state_dict(), path). Received: {received}."
    )


def _describe(content: Any) -> str:
    if isinstance(content, dict):
        return f"a dictionary of {_some([str(name) for name in content])}"
    return f"a {type(content).__name__}"


def _some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
