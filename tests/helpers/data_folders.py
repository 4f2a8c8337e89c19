"""Small folders in the layouts of public data sets, and those sets' real label tables."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cxr_keras.data.readers.layout import MAYBE, NO, UNSAID, YES, LabelTable

CHEXPERT_HEADER = [
    "Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "No Finding", "Enlarged Cardiomediastinum",
    "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation", "Pneumonia",
    "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
]  # fmt: skip
CHEXPERT_NAMES = CHEXPERT_HEADER[5:]
PADCHEST_TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
MEANINGS = {"1.0": YES, "0.0": NO, "-1.0": MAYBE, "": UNSAID}


def write_film(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shades = np.random.default_rng(0).integers(0, 255, (16, 16), "uint8")
    Image.fromarray(shades).save(path)


def write_table(path: Path, rows: Sequence[dict[str, str]], columns: Sequence[str]) -> Path:
    """A CSV of these columns, .gz if its name says so; what a row lacks of them is blank."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    content = text.getvalue().encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def real_rows(source: Path) -> Iterator[dict[str, str]]:
    """Its rows, read the slow way."""
    with gzip.open(source, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def write_films(folder: Path, names: Iterable[str], side: int = 24) -> Path:
    """Images of noise, each another one, below `folder`; a suffix decides the kind."""
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (side, side), "uint8")
        Image.fromarray(pixels).save(path)
    return folder


def write_csv(path: Path, *lines: str) -> Path:
    """A table of these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def column(found: LabelTable, name: str) -> list[object]:
    """A column of a label table's images."""
    return list(found.images[name])


def said(found: LabelTable) -> str:
    """What a label table says of itself."""
    return " ".join(found.notices)
