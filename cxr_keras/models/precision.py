"""In which numbers a network computes. Its weights are float32 always."""

from __future__ import annotations

import keras

from cxr_keras.models.blocks import LOGITS, all_layers
from cxr_keras.models.scaling import MEMBER

FLOAT32, BFLOAT16 = "float32", "mixed_bfloat16"


def best_precision() -> str:
    """mixed_bfloat16 where the GPU or the processor multiplies in it, else float32.

    Torch alone tells; on another backend it is float32.
    """
    if keras.backend.backend() != "torch":
        return FLOAT32
    import torch

    device = keras.ops.convert_to_tensor(0).device.type
    if device == "cuda":
        return BFLOAT16 if torch.cuda.is_bf16_supported(including_emulation=False) else FLOAT32
    has = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return BFLOAT16 if device == "cpu" and has is not None and has() else FLOAT32


def set_precision(model: keras.Model, policy: str) -> None:
    """Let a network compute in `policy`, in place; what follows its logits stays float32.

    Args:
        model: a network, or an ensemble of several.
        policy: FLOAT32, BFLOAT16 or another of Keras's.
    """
    members = [layer for layer in model.layers if layer.name.startswith(MEMBER)]
    for member in members:
        set_precision(member, policy)
    names = [layer.name for layer in model.layers]
    if members or LOGITS not in names:
        return
    for layer in model.layers[: names.index(LOGITS)]:
        parts = all_layers(layer) if isinstance(layer, keras.Model) else (layer,)
        for part in parts:
            part.dtype_policy = keras.DTypePolicy(policy)
