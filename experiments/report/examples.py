"""A grid of example radiographs with what is true and what was predicted. Needs the images."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from cxr_keras import LABELS
from cxr_keras.data.dataset import IMAGE
from cxr_keras.data.images import read_image
from cxr_keras.data.readers.nih import read_dataset
from report.figures import PHANTOMS, Picture
from report.results import Report, Result

NAME, TITLE = "examples", "Radiographs of the test split: truth and prediction"
ROWS, COLUMNS = 3, 4


def examples(report: Report) -> Picture:
    """Twelve test images, as many labels as they can show, with the answers of the best run.

    The best is the one with the lowest validation loss, at its calibrated thresholds.
    """
    if not report.results:
        return Picture(NAME, TITLE, "", None, "No run is done.")
    best = min(report.results.values(), key=lambda result: result.info["loss"]["val"])
    place = report.place(best.plan)
    frame = pd.read_csv(report.folder / place / "predictions.csv")
    images = chosen(frame)
    files = _files(best, set(images[IMAGE]))
    if len(files) < len(images):
        why = f"The images of {place} are not on this machine; the tables need none."
        return Picture(NAME, TITLE, "", None, why)
    phantoms = best.info["data"]["phantoms"]
    caption = (
        f"Of {place}, the run with the lowest validation loss, at its calibrated "
        "thresholds; ✓ marks a right prediction. The images are the first of the test split that "
        "add a label not yet shown, then the first of the rest: none was picked for its answer. "
        f"{PHANTOMS * phantoms}"
    )
    return Picture(NAME, TITLE, caption.strip(), _draw(images, files, best))


def chosen(frame: pd.DataFrame) -> pd.DataFrame:
    """Up to twelve rows: first those that add a true label, then the others, in file order."""
    shown: set[str] = set()
    first, rest = [], []
    for place, row in enumerate(frame.to_dict("records")):
        true = {label for label in LABELS if row[f"true_{label}"]}
        (first if true - shown else rest).append(place)
        shown |= true
    return frame.iloc[sorted([*first, *rest][: ROWS * COLUMNS])]


def _files(result: Result, names: set[str]) -> dict[str, Path]:
    root = Path(result.info["data"]["root"])
    if not root.is_dir():
        return {}
    table = read_dataset(root, allow_missing=True).table
    paths = dict(zip(table[IMAGE], table["path"], strict=True))
    return {name: Path(paths[name]) for name in names if paths.get(name)}


def _draw(images: pd.DataFrame, files: dict[str, Path], result: Result) -> Figure:
    figure = Figure(figsize=(9.6, 9.6))
    places = figure.subplots(ROWS, COLUMNS)
    limits = result.info["thresholds"]
    for axes in places.flat:
        axes.axis("off")
    for axes, row in zip(places.flat, images.to_dict("records"), strict=False):
        axes.imshow(read_image(files[row[IMAGE]]), cmap="gray", vmin=0, vmax=255)
        true = [label for label in LABELS if row[f"true_{label}"]]
        positive = [label for label in LABELS if row[f"prob_{label}"] >= limits[label]]
        # a tick marks a call that is right, without colour
        said = [f"{label}\N{NO-BREAK SPACE}✓" if label in true else label for label in positive]
        axes.set_title(row[IMAGE], fontsize=7, loc="left")
        text = f"{_wrapped('truth', true)}\n{_wrapped('predicted', said)}"
        axes.text(0, -0.03, text, transform=axes.transAxes, fontsize=6.5, va="top")
    figure.subplots_adjust(hspace=0.42, wspace=0.1)
    return figure


def _wrapped(title: str, labels: list[str]) -> str:
    text = ", ".join(label.replace("_", " ") for label in labels) or "nothing"
    return textwrap.fill(f"{title}: {text}", 36, subsequent_indent="   ")
