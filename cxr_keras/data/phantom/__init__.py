"""Synthetic radiographs in NIH's own layout, so that everything runs with no data at hand.

    cxr-keras phantom data/phantoms --count 30

A phantom is a drawing. What a network scores on phantoms says nothing about patients.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cxr_keras.data.labels import NO_FINDING
from cxr_keras.data.multi_hot import decode, encode
from cxr_keras.data.options import PHANTOM_COUNT, PHANTOM_SEED
from cxr_keras.data.phantom.anatomy import GRID, SIZE, Mask, patient_chest, render
from cxr_keras.data.phantom.findings import SIGNS, add_findings
from cxr_keras.errors import DataError
from cxr_keras.utils.console import notice, progress_bar
from cxr_keras.utils.files import (
    atomic_folder,
    build_once,
    cache_folder,
    cannot_write,
    write_text,
)
from cxr_keras.utils.threads import threaded_map

VERSION = 1  # of the drawings: raise it when any pixel changes
FOLDER, MARKER = "phantoms", "PHANTOMS.txt"
_RUNS = 3  # zlib's Z_RLE
NOTICE = "These are phantoms (synthetic drawings): results on them say nothing about patients."

# How many findings a phantom has: normal phantoms, single and several findings.
_FINDINGS_PER_FILM = (0.12, 0.28, 0.30, 0.20, 0.10)
_IMAGES_PER_PATIENT = (0.60, 0.25, 0.15)
_TEST_SHARE = 0.2  # of patients, in the official lists
_TABLE_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
    "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
_BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"


@dataclass(frozen=True)
class Phantom:
    """One phantom before it is drawn: whose it is and what it shows."""

    patient: int
    follow_up: int
    age: int
    gender: str
    view: str
    in_test_list: bool
    findings: tuple[str, ...]

    @property
    def name(self) -> str:
        """NIH's file name: patient and follow-up number."""
        return f"{self.patient:08d}_{self.follow_up:03d}.png"

    @property
    def labels(self) -> str:
        """NIH's `"A|B"` cell."""
        return decode(encode(self.findings)) or NO_FINDING


def plan_phantoms(count: int, seed: int) -> list[Phantom]:
    """The first `count` phantoms of the endless series that `seed` stands for.

    Findings are dealt from shuffled decks of all 14, so every finding appears about equally
    often even in small sets.
    """
    phantoms: list[Phantom] = []
    rng = np.random.default_rng([seed, 0])
    deck = _endless_deck(rng)
    patient = 0
    while len(phantoms) < count:
        patient += 1
        age, gender = int(rng.integers(18, 90)), str(rng.choice(["M", "F"]))
        in_test = bool(rng.random() < _TEST_SHARE)
        for follow_up in range(1 + int(rng.choice(3, p=_IMAGES_PER_PATIENT))):
            number = int(rng.choice(5, p=_FINDINGS_PER_FILM))
            findings: set[str] = set()
            while len(findings) < number:
                findings.add(next(deck))
            view = "AP" if rng.random() < 0.4 else "PA"
            dealt = tuple(sorted(findings))
            phantoms.append(
                Phantom(patient, follow_up, age + follow_up, gender, view, in_test, dealt)
            )
    return phantoms[:count]


def draw_phantom(phantom: Phantom, seed: int) -> tuple[np.ndarray, list[tuple[str, list[float]]]]:
    """Draw one phantom: uint8 (1024, 1024), and a (finding, [x, y, w, h] in pixels) per outline."""
    chest = patient_chest(
        np.random.default_rng([seed, 1, phantom.patient]),
        np.random.default_rng([seed, 2, phantom.patient, phantom.follow_up]),
    )
    add_findings(chest, list(phantom.findings))
    boxes = [(name, box) for name, mask in chest.boxes for box in outline_boxes(mask)]
    return render(chest), boxes


def outline_boxes(mask: Mask) -> list[list[float]]:
    """[x, y, w, h] in phantom pixels around each connected part of a sign, largest part first."""
    from scipy import ndimage

    parts, number = ndimage.label(mask > 0.5)
    places = ndimage.find_objects(parts)
    areas = np.bincount(parts.ravel(), minlength=number + 1)[1:]
    smallest = min(40, areas.max(initial=0))
    scale = SIZE / GRID
    boxes = []
    for index in np.argsort(-areas, kind="stable"):
        if areas[index] < smallest:
            break
        rows, columns = places[index]
        corner = [columns.start * scale, rows.start * scale]
        size = [(columns.stop - columns.start) * scale, (rows.stop - rows.start) * scale]
        boxes.append(corner + size)
    return boxes


def write_phantoms(
    folder: str | Path, *, count: int = PHANTOM_COUNT, seed: int = PHANTOM_SEED
) -> Path:
    """Write `count` phantoms and their tables into a new folder, in NIH's layout.

    The same count and seed give the same bytes. Writes `images/*.png` (1024×1024 grey),
    `Data_Entry_2017_v2020.csv`, `BBox_List_2017.csv`, `train_val_list.txt`, `test_list.txt`
    and a note that says what they are.

    Raises:
        DataError: the folder exists and is not empty, cannot be written, or count is below 1.
    """
    if count < 1:
        raise DataError(f"Phantoms need a count of 1 or more. Received: {count}.")
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(
            f"Phantoms are written into a new or empty folder only. Received: {target}, "
            "which exists and is not empty. Name another folder, or delete it first."
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(target) as temporary:
            _write_phantoms(temporary, plan_phantoms(count, seed), seed)
            if target.exists():
                target.rmdir()
    except OSError as error:
        raise DataError(
            f"Phantoms cannot be written to {target} ({error.strerror}). "
            "Name a folder that you can write, on a disk with room."
        ) from error
    return target


def default_phantoms() -> Path:
    """The default phantoms in the user's cache, drawn on first use."""
    folder = cache_folder(FOLDER) / default_name()

    def write(temporary: Path) -> None:
        notice(f"Drawing {PHANTOM_COUNT} phantom radiographs into {folder} (once).")
        _write_phantoms(temporary, plan_phantoms(PHANTOM_COUNT, PHANTOM_SEED), PHANTOM_SEED)

    waiting = "Another process is drawing the phantoms; waiting for it."
    try:
        build_once(folder, write, waiting=waiting)
    except OSError as error:
        raise DataError(cannot_write(folder, error)) from error
    return folder


def default_name() -> str:
    """Of the default phantoms' folder: what decides their pixels."""
    return f"v{VERSION}-{PHANTOM_COUNT}-seed{PHANTOM_SEED}"


def is_phantom_folder(folder: Path) -> bool:
    """Whether `folder` was written by `write_phantoms`."""
    return (folder / MARKER).is_file()


def _endless_deck(rng: np.random.Generator) -> Iterator[str]:
    names = list(SIGNS)
    while True:
        yield from (names[i] for i in rng.permutation(len(names)))


def _write_phantoms(folder: Path, phantoms: list[Phantom], seed: int) -> None:
    (folder / "images").mkdir()
    table, boxes = [_TABLE_HEADER], [_BOX_HEADER]
    draw = partial(_draw_to_file, folder=folder / "images", seed=seed)
    with progress_bar("Drawing phantoms", len(phantoms)) as bar:
        for phantom, phantom_boxes in zip(phantoms, threaded_map(draw, phantoms), strict=True):
            table.append(
                f"{phantom.name},{phantom.labels},{phantom.follow_up},{phantom.patient},{phantom.age},"
                f"{phantom.gender},{phantom.view},{SIZE},{SIZE},0.143,0.143"
            )
            for label, (x, y, w, h) in phantom_boxes:
                name = "Infiltrate" if label == "Infiltration" else label  # as NIH's list does
                boxes.append(f"{phantom.name},{name},{x},{y},{w},{h}")
            bar.advance()
    lists = {
        "train_val_list.txt": [phantom.name for phantom in phantoms if not phantom.in_test_list],
        "test_list.txt": [phantom.name for phantom in phantoms if phantom.in_test_list],
        "Data_Entry_2017_v2020.csv": table,
        "BBox_List_2017.csv": boxes,
        MARKER: [NOTICE, f"Drawn by cxr-keras phantoms v{VERSION}, seed {seed}."],
    }
    for name, lines in lists.items():
        write_text(folder / name, "".join(line + "\n" for line in lines))


def _draw_to_file(phantom: Phantom, folder: Path, seed: int) -> list[tuple[str, list[float]]]:
    from PIL import Image

    pixels, boxes = draw_phantom(phantom, seed)
    # most of it is grain, in which a search for repeats finds nothing: runs alone take a third less
    # time, and less room
    Image.fromarray(pixels).save(folder / phantom.name, compress_level=3, compress_type=_RUNS)
    return boxes
