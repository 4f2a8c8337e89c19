"""On which device a command computes: its option `--device`."""

from __future__ import annotations

import os
import re

from cxr_keras.errors import CxrError

_VARIABLE = "KERAS_TORCH_DEVICE"  # which Keras reads once, when it is imported


def use_device(name: str) -> None:
    """Compute on this device from now on, in this whole process; torch backend only.

    It comes before Keras is imported. A Python program says `with keras.device("cuda:1"):`.

    Args:
        name: "cpu", "cuda", "cuda:1" (the second GPU) or "mps" (Apple's).

    Raises:
        CxrError: there is no such device here, another backend than torch is used, Keras already
            computes elsewhere, or several processes would share one GPU.
    """
    found = re.fullmatch(r"cpu|mps|cuda(?::(\d+))?", name)
    if not found:
        raise CxrError(f"A device is cpu, cuda, cuda:N or mps. Received: {name!r}.")
    _check_here(name, int(found[1] or 0))
    os.environ[_VARIABLE] = name
    import keras

    if keras.backend.backend() != "torch":
        raise CxrError(
            f"--device is for torch, and KERAS_BACKEND is {keras.backend.backend()}. Leave it out, "
            "and choose with JAX_PLATFORMS=cpu or CUDA_VISIBLE_DEVICES=1, as that backend has it."
        )
    used = str(keras.ops.convert_to_tensor(0).device)
    if used.split(":")[0] != name.split(":")[0]:
        raise CxrError(
            f"Keras computes on {used} already. Set {_VARIABLE}={name} before it starts."
        )
    if found[1]:
        import torch

        torch.cuda.set_device(int(found[1]))


def _check_here(name: str, number: int) -> None:
    import torch

    if name == "mps" and not torch.backends.mps.is_available():
        raise CxrError("There is no mps device here: it needs an Apple GPU. Give --device cpu.")
    if not name.startswith("cuda"):
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        why = "has no driver for it" if torch.version.cuda else "is a build for the CPU"
        raise CxrError(
            f"torch {torch.__version__} finds no CUDA GPU here: it {why}. Give --device cpu."
        )
    if number >= count:
        raise CxrError(f"There is no {name}: the GPUs here are cuda:0 to cuda:{count - 1}.")
    if ":" in name and os.environ.get("WORLD_SIZE", "1") != "1":
        raise CxrError(
            f"{name} is one GPU, and each of several processes needs its own. Give --device cuda."
        )
