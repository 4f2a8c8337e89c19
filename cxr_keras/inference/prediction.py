"""A trained network and files → one row per image, in the order given."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_keras.data.dicom import DIRECTORY, IDENTIFIERS, files_of_directory, is_dicom
from cxr_keras.data.images import find_image_files, image_size, read_image
from cxr_keras.errors import CxrError, DataError, ModelError
from cxr_keras.framing import Framing
from cxr_keras.inference.options import GRAD_CAM, NO_TTA, Tta
from cxr_keras.inference.prediction_csv import csv_rows
from cxr_keras.inference.shards import share_of
from cxr_keras.inference.tta import check_tta
from cxr_keras.runs import model_file
from cxr_keras.runs.card import Card
from cxr_keras.utils.arguments import PathLike, as_paths
from cxr_keras.utils.console import notice, progress_bar

_SHOWN_SIZE = 896  # in pixels of the network's view; a little more is stored around it

if TYPE_CHECKING:
    from cxr_keras.inference.files import Prediction
    from cxr_keras.inference.heat_maps import HeatMaps


def predict(
    run: PathLike,
    paths: PathLike | Iterable[PathLike],
    *,
    csv_file: PathLike | None = None,
    heatmaps: PathLike | None = None,
    method: str = GRAD_CAM,
    layer: str | None = None,
    resolve_no_finding: bool = False,
    tta: Tta = NO_TTA,
    shard: str | None = None,
    identifiers: bool = True,
    fix_orientation: bool = False,
    ray: str | None = None,
) -> list[Prediction]:
    """Predict files, and all images in folders, with a trained network.

    Args:
        run: a run folder or a `.keras` file.
        paths: a PNG, JPEG or DICOM file, a DICOMDIR, a folder searched to any depth, or several of
            them.
        csv_file: write one row per image to it: path, findings ("A|B"), prob_<label>…, with a
            guarantee label_set, for DICOM the header's identifiers, with a guard familiarity and
            unlike_training, warnings, error. What ends the work early leaves the rows so far in
            <name>.partial.csv.
        heatmaps: a folder to write heat maps to, one per label predicted positive (the most
            probable label where none is). An empty map, where nothing speaks for the label, is
            not drawn; the row says so.
        method: of the heat maps, one of `options.METHODS`, see `heat_maps`.
        layer: whose maps they are of; by default the last.
        resolve_no_finding: drop "No Finding" where a finding is predicted too, which it excludes.
        tta: test-time augmentation: "flip" averages the probabilities of each image and of its
            mirror image, and their heat maps.
        shard: predict only this part of the images, such as "3/16"; its CSV says which, and
            `shards.merge_parts` puts the parts together.
        identifiers: take patient ID, sex, age, view and pixel spacing of DICOM files into the rows.
        fix_orientation: where an image is unlike training, and familiar if it is inverted, turned
            or mirrored top to bottom, predict that; its row says so.
        ray: predict on the workers of the Ray cluster at this address (see `on_ray.cluster`; ""
            for one of this machine alone); needs the extra ray, and draws no heat maps.

    Returns:
        One row per image, in the order of `paths`; files of a folder by name. A file that cannot
        be read is a row with its error.

    Raises:
        ModelError: the model cannot be used.
        DataError: a path does not exist, there is no image in all of them, or no such shard.
        CxrError: a file cannot be written, there is no such `tta`, or Ray cannot do it.
    """
    tta = check_tta(tta)
    if ray is not None and heatmaps is not None:
        raise CxrError("Heat maps are drawn on one machine: leave --heatmaps or --ray out.")
    file = model_file.find_model(run)
    card = model_file.read_card(file)
    files = find_files(paths)
    from cxr_keras.inference.files import predict_files
    from cxr_keras.inference.guarded import read_guard
    from cxr_keras.inference.heat_maps import HeatMaps

    guard = read_guard(file)
    if fix_orientation and guard is None:
        raise ModelError(
            f"{file} has no guard, which tells how an image lies. Leave --fix-orientation out."
        )
    columns = IDENTIFIERS if identifiers and any(map(is_dicom, files)) else ()
    part, names = None, _overlay_names(files)
    if shard is not None:
        total = len(files)
        before, share = share_of(files, shard)
        files, part = list(share), (before, total)
    if card.data.get("phantoms"):
        notice(
            "This network was trained on phantoms (synthetic drawings): "
            "what it predicts for a radiograph means nothing."
        )
    if sentence := card.prevalence_notice:
        notice(sentence)
    rows, draw = [], None
    if ray is not None:
        from cxr_keras.inference.on_ray import predict_on_ray

        results = predict_on_ray(
            file,
            files,
            tta=tta,
            fix_orientation=fix_orientation,
            identifiers=identifiers,
            address=ray,
        )
    else:
        model = model_file.load_model(file)
        results = predict_files(
            model, files, card=card, tta=tta, guard=guard, fix_orientation=fix_orientation
        )
        if heatmaps is not None:
            draw = _overlays(HeatMaps(model, method, layer, tta=tta), card, names, Path(heatmaps))
    with (
        csv_rows(csv_file, card, columns, part, guarded=guard is not None) as write,
        progress_bar("Reading radiographs", len(files)) as bar,
    ):
        for row in results:
            if not identifiers:
                row = dataclasses.replace(row, header={})
            if resolve_no_finding and len(row.findings) > 1:  # a finding stands beside it
                stand = tuple(name for name in row.findings if name != card.normal)
                row = dataclasses.replace(row, findings=stand)
            if draw is not None and not row.error:
                row = draw(row)
            write(row)
            rows.append(dataclasses.replace(row, pixels=None))
            bar.advance()
    return rows


def find_files(paths: PathLike | Iterable[PathLike]) -> list[Path]:
    """The image files that `paths` name: files as they are, folders searched to any depth.

    Raises:
        DataError: a path does not exist, or nothing is found at all.
    """
    files: list[Path] = []
    paths = as_paths(paths)
    for path in paths:
        if path.is_dir():
            files += find_image_files(path)
        elif path.name.upper() == DIRECTORY and path.is_file():
            files += files_of_directory(path)
        elif path.exists():
            files.append(path)
        else:
            raise DataError(f"There is no file or folder {path}. Check the name.")
    if not files:
        raise DataError(
            f"No PNG, JPEG or DICOM image in {', '.join(map(str, paths))}. Name images or their "
            "folder."
        )
    return files


def to_records(rows: Sequence[Prediction]) -> list[dict[str, Any]]:
    """The rows as `--json` prints them."""
    return [
        {
            "path": str(row.path),
            "findings": list(row.findings),
            "label_set": None if row.label_set is None else list(row.label_set),
            "probabilities": {name: round(value, 6) for name, value in row.probabilities.items()},
            **row.header,
            "familiarity": None if row.familiarity is None else round(row.familiarity, 6),
            "unlike_training": row.unlike_training,
            "warnings": list(row.warnings),
            "error": row.error or None,
        }
        for row in rows
    ]


def _overlays(
    explainer: HeatMaps, card: Card, names: dict[Path, str], folder: Path
) -> Callable[[Prediction], Prediction]:
    """What writes a row's heat maps into `folder`, and says in the row which are empty."""
    from cxr_keras.inference.grad_cam import save_overlay

    def draw(row: Prediction) -> Prediction:
        assert row.pixels is not None
        top = max(row.probabilities, key=lambda name: row.probabilities[name])
        labels = row.findings or (top,)
        maps = explainer(row.pixels, [card.labels.index(name) for name in labels])
        film = _film(row, card.framing)
        empty = [name for name, heat in zip(labels, maps, strict=True) if not heat.any()]
        for name, heat in zip(labels, maps, strict=True):
            if name in empty:
                continue
            target = folder / f"{names[row.path]}.{name.replace(' ', '_')}.png"
            limit = card.thresholds[card.labels.index(name)]
            title = f"{name} {row.probabilities[name]:.2f} (threshold {limit:.2f})"
            if row.unlike_training:
                title += "\nunlike training: do not believe it"
            save_overlay(film, heat, target, title=title)
        if not empty:
            return row
        said = f"no heat map of {', '.join(empty)}: nothing in the layer speaks for it"
        return dataclasses.replace(row, warnings=(*row.warnings, said))

    return draw


def _film(row: Prediction, framing: Framing) -> np.ndarray:
    """The square of a film as the network sees it, in more pixels where its file has more."""
    assert row.pixels is not None
    if row.corrected or min(image_size(row.path)) <= len(row.pixels):
        return row.pixels
    return read_image(row.path, Framing(_SHOWN_SIZE, framing.fit))


def _overlay_names(files: Sequence[Path]) -> dict[Path, str]:
    """File → its stem, or where two files share it the path below their common folder."""
    places = {path: path.absolute() for path in files}
    stems = Counter(place.stem for place in set(places.values()))
    common = os.path.commonpath([place.parent for place in places.values()])
    return {
        path: place.stem if stems[place.stem] == 1 else "__".join(place.relative_to(common).parts)
        for path, place in places.items()
    }
