"""A ChestMNIST of a few noisy films."""

from __future__ import annotations

from pathlib import Path

import numpy as np

COUNTS = {"train": 12, "val": 4, "test": 6}


def write_chestmnist(
    path: Path, *, side: int = 28, seed: int = 0, **replaced: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Write an archive as MedMNIST packs it; returns its arrays. None leaves one out."""
    rng = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray] = {}
    for split, count in COUNTS.items():
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, side, side), "uint8")
        arrays[f"{split}_labels"] = rng.integers(0, 2, (count, 14), "uint8")
    arrays = {k: v for k, v in (arrays | replaced).items() if v is not None}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return arrays
