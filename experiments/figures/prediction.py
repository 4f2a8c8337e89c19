"""Draw docs/prediction.png: an image with its box, the heat map of its most probable finding, bars.

python experiments/figures/prediction.py RUN IMAGE

RUN is a run folder, as the README's first command makes it; IMAGE is one of its phantoms.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cxr_keras import load_model, predict
from cxr_keras.data.images import read_image
from cxr_keras.inference.heat_maps import heat_maps
from cxr_keras.inference.options import GRAD_CAM, METHODS
from cxr_keras.inference.truth import Truth
from cxr_keras.plots import lay_heat, outline, save_figure
from cxr_keras.runs.model_file import read_card

TARGET = Path(__file__).resolve().parents[2] / "docs" / "prediction.png"


def main() -> None:
    """Write the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--out", type=Path, default=TARGET)
    parser.add_argument("--method", choices=METHODS, default=GRAD_CAM)
    arguments = parser.parse_args()
    row, card = predict(arguments.run, arguments.image)[0], read_card(arguments.run)
    top = max(row.probabilities, key=lambda label: row.probabilities[label])
    pixels = read_image(arguments.image, card.framing)
    explainer = heat_maps(load_model(arguments.run), arguments.method)
    heat = explainer(pixels, [card.labels.index(top)])[0]
    known = Truth(arguments.image.resolve().parents[1], card).of(arguments.image)
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    image, overlay, bars = figure.subplots(1, 3, width_ratios=(1, 1, 0.95))
    for axes, title in (
        (image, f"phantom with the box of {top}"),
        (overlay, f"where the network looks: {arguments.method}"),
    ):
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=10)
        axes.axis("off")
        outline(axes, known.boxes.get(top, []) if known else [])
    lay_heat(overlay, heat)
    draw_bars(bars, row.probabilities, dict(zip(card.labels, card.thresholds, strict=True)))
    save_figure(figure, arguments.out)


def draw_bars(axes: Axes, probabilities: dict[str, float], thresholds: dict[str, float]) -> None:
    """One bar per label, dark where it reaches the label's threshold, a tick at the threshold."""
    labels = sorted(probabilities, key=lambda label: probabilities[label])
    places = np.arange(len(labels))
    values = [probabilities[label] for label in labels]
    positive = [probabilities[label] >= thresholds[label] for label in labels]
    axes.barh(places, values, color=["0.25" if yes else "0.75" for yes in positive], height=0.7)
    limits = [thresholds[label] for label in labels]
    axes.plot(limits, places, "|", color="black", markersize=11, markeredgewidth=1.5)
    names = [label.replace("_", " ") for label in labels]
    axes.set_yticks(places, names, fontsize=8)
    for text, yes in zip(axes.get_yticklabels(), positive, strict=True):
        text.set_fontweight("bold" if yes else "normal")
    axes.set(xlim=(0, 1), ylim=(-0.6, len(labels) - 0.4))
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title("probability ( | threshold; dark: reached)", fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


if __name__ == "__main__":
    main()
