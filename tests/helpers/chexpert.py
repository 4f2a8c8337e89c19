"""A folder in CheXpert's layout."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from helpers.data_folders import CHEXPERT_HEADER, write_films, write_table


def film(number: int, view: str = "frontal") -> str:
    """The name of the film of patient `number`."""
    return f"train/patient{number:05d}/study1/view1_{view}.jpg"


def write_chexpert(
    folder: Path, rows: Sequence[dict[str, str]], images: Sequence[Path] = ()
) -> Path:
    """A train.csv of one film a patient, from 1 on.

    Args:
        folder: made.
        rows: of each film its labels, "1.0", "0.0" or "-1.0"; those left out are blank. The key
            "view" may say "lateral".
        images: files that become the films; else they are noise.
    """
    views = [row.get("view", "frontal") for row in rows]
    names = [film(number, view) for number, view in enumerate(views, start=1)]
    about = {"frontal": ("Frontal", "AP"), "lateral": ("Lateral", "")}
    cells = [
        {
            **row,
            "Path": f"CheXpert-v1.0-small/{name}",
            "Sex": "Female",
            "Age": "50",
            "Frontal/Lateral": about[view][0],
            "AP/PA": about[view][1],
        }
        for row, name, view in zip(rows, names, views, strict=True)
    ]
    write_table(folder / "train.csv", cells, CHEXPERT_HEADER)
    write_films(folder, names[len(images) :], side=64)
    for name, image in zip(names, images, strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder / name)
    return folder
