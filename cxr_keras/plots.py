"""Every figure: readable in print and in grey (shapes and dashes tell lines apart, not colour)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cxr_keras.paths import atomic_file

LOSS_NAMES = {
    "bce": "binary cross-entropy",
    "bce_logits": "binary cross-entropy",
    "weighted_bce": "weighted binary cross-entropy",
    "focal": "focal loss",
    "asymmetric": "asymmetric loss",
}


def save_figure(figure: Figure, target: Path) -> None:
    """Write a figure to `target`, atomically, in the format of its suffix."""
    with atomic_file(target) as temporary:
        figure.savefig(temporary, format=target.suffix[1:], dpi=150, bbox_inches="tight")


def loss_figure(history: pd.DataFrame, *, title: str, loss: str = "bce", note: str = "") -> Figure:
    """Training and validation loss by epoch, the best epoch marked."""
    figure = Figure(figsize=(6.4, 4.0))
    axes = figure.add_subplot()
    style: dict[str, Any] = {"linewidth": 1.6, "markersize": 4}
    axes.plot(history["epoch"], history["loss"], "o-", color="0.45", label="training", **style)
    axes.plot(
        history["epoch"], history["val_loss"], "s--", color="black", label="validation", **style
    )
    best = history.loc[history["val_loss"].idxmin()]
    axes.plot(
        best["epoch"],
        best["val_loss"],
        "o",
        markersize=12,
        fillstyle="none",
        color="black",
        label=f"kept (epoch {best['epoch']:.0f})",
    )
    axes.set(title=title, xlabel="epoch", ylabel=LOSS_NAMES.get(loss, loss))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="0.9")
    axes.legend(frameon=False)
    if note:
        figure.text(0.5, -0.02, note, ha="center", va="top", fontsize=7, wrap=True)
    return figure
