"""In which numbers this machine trains fastest at no loss."""

from __future__ import annotations

import keras

FLOAT, BFLOAT = "float32", "mixed_bfloat16"


def best_precision() -> str:
    """mixed_bfloat16 where the GPU or the processor multiplies in it, else float32.

    Torch alone tells; on another backend it is float32.
    """
    if keras.backend.backend() != "torch":
        return FLOAT
    import torch

    device = keras.ops.convert_to_tensor(0).device.type
    if device == "cuda":
        return BFLOAT if torch.cuda.is_bf16_supported(including_emulation=False) else FLOAT
    has = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return BFLOAT if device == "cpu" and has is not None and has() else FLOAT
