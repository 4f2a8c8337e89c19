"""Draws docs/augmentation.png: four phantoms, each as it is and as training sees it.

python experiments/figures/augmentation_sheet.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from cxr_keras.data.augmentation import Augmenter
from cxr_keras.data.phantom import default_phantoms
from cxr_keras.data.preparation import prepare

SHOWN = 4
COLUMNS = {
    "as it is": ("none", 0.0),
    "light": ("light", 0.0),
    "strong": ("strong", 0.0),
    "strong, mixup 0.4": ("strong", 0.4),
}


def main() -> None:
    """Write the figure beside the docs."""
    split = prepare(default_phantoms(), size=224, fit="whole").split("train")
    places = np.arange(SHOWN)
    pixels, truth = split.batch(places), split.truth[places]
    figure = Figure(figsize=(7.2, 7.4))
    grid = figure.subplots(SHOWN, len(COLUMNS))
    for column, (title, (strength, mixup)) in enumerate(COLUMNS.items()):
        augmenter = Augmenter(strength, flip=strength != "none", mixup=mixup, seed=1)
        changed, _ = augmenter(pixels, truth, places, 0)
        for row, image in enumerate(changed):
            axes = grid[row, column]
            axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
            axes.axis("off")
            if row == 0:
                axes.set_title(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(Path(__file__).parents[2] / "docs" / "augmentation.png", dpi=100)


if __name__ == "__main__":
    main()
