"""A trained network and files → one row per image, in the order given."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_keras.data.dicom import DIRECTORY, IDENTIFIERS, files_of_directory, is_dicom
from cxr_keras.data.images import find_image_files
from cxr_keras.errors import CxrError, DataError
from cxr_keras.inference.options import FULL, GRAD_CAM, NO_TTA, Precision, Tta
from cxr_keras.inference.prediction_csv import csv_rows
from cxr_keras.inference.shards import share_of
from cxr_keras.inference.tta import check_tta
from cxr_keras.utils.arguments import PathLike, as_paths
from cxr_keras.utils.console import progress_bar

if TYPE_CHECKING:
    from cxr_keras.inference.dicom_answers import Answers
    from cxr_keras.inference.files import Prediction
    from cxr_keras.inference.opened import Opened


def predict(
    run: PathLike,
    paths: PathLike | Iterable[PathLike],
    *,
    csv_file: PathLike | None = None,
    heatmaps: PathLike | None = None,
    sheet: PathLike | None = None,
    truth: PathLike | None = None,
    dicom_sr: PathLike | None = None,
    dicom_heatmaps: PathLike | None = None,
    method: str = GRAD_CAM,
    layer: str | None = None,
    resolve_no_finding: bool = False,
    tta: Tta = NO_TTA,
    precision: Precision = FULL,
    shard: str | None = None,
    identifiers: bool = True,
    fix_orientation: bool = False,
    ray: str | None = None,
) -> list[Prediction]:
    """Predict files, and all images in folders, with a trained network.

    Args:
        run: a run folder, a `.keras` file, or an `.onnx` file of `export`.
        paths: a PNG, JPEG or DICOM file, a DICOMDIR, a folder searched to any depth, or several of
            them.
        csv_file: write one row per image to it: path, findings ("A|B"), prob_<label>…, with a
            guarantee label_set, for DICOM the header's identifiers, with a guard familiarity and
            unlike_training, warnings, error. What ends the work early leaves the rows so far in
            <name>.partial.csv.
        heatmaps: a folder to write heat maps to, one per label predicted positive (the most
            probable label where none is). An empty map, where nothing speaks for the label, is
            not drawn; the row says so.
        sheet: a PNG or PDF of all images, 40 at most, each with the map of its most probable
            finding.
        truth: a data folder: pictures of its images show its labels and boxes, too.
        dicom_sr: a folder to write DICOM Structured Reports to, one for each DICOM file.
        dicom_heatmaps: a folder to write heat maps of DICOM files to, as secondary captures.
        method: of the heat maps, one of `options.METHODS`, see `heat_maps`.
        layer: whose maps they are of; by default see `heat_maps`.
        resolve_no_finding: drop "No Finding" where a finding is predicted too, which it excludes.
        tta: test-time augmentation: "flip" averages the probabilities of each image and of its
            mirror image, and their heat maps.
        precision: what the network computes in: "float32", or "bfloat16", which is faster where the
            machine multiplies in it.
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
        CxrError: a file cannot be written, no such `tta` or `precision`, or Ray cannot do it.
    """
    tta = check_tta(tta)
    pictures = heatmaps is not None or sheet is not None
    if truth is not None and not pictures:
        raise CxrError(
            "--truth is drawn into pictures: add --heatmaps or --sheet, or leave it out."
        )
    if ray is not None and (pictures or dicom_sr is not None or dicom_heatmaps is not None):
        raise CxrError(
            "Heat maps and DICOM objects are made on one machine: leave --heatmaps, --sheet, "
            "--dicom-sr and --dicom-heatmaps, or --ray out."
        )
    from cxr_keras.inference.opened import Opened

    opened = Opened(run, precision)
    opened.refuse(
        {
            "a heat map": pictures or dicom_heatmaps is not None,
            "--fix-orientation": fix_orientation,
            "--ray": ray is not None,
        }
    )
    files = find_files(paths)
    if fix_orientation:
        opened.need_guard()
    columns = IDENTIFIERS if identifiers and any(map(is_dicom, files)) else ()
    part, names = None, picture_names(files)
    if shard is not None:
        total = len(files)
        before, share = share_of(files, shard)
        files, part = list(share), (before, total)
    opened.say_limits()
    card, draw, answers = opened.card, None, None
    if ray is not None:
        from cxr_keras.inference.on_ray import predict_on_ray

        results = predict_on_ray(
            opened.file,
            files,
            tta=tta,
            precision=precision,
            fix_orientation=fix_orientation,
            identifiers=identifiers,
            address=ray,
        )
    else:
        results = opened.predictor(tta=tta, fix_orientation=fix_orientation).predict(files)
        if dicom_sr is not None or dicom_heatmaps is not None:
            answers = _answers(opened, names, dicom_sr, dicom_heatmaps)
        if pictures or dicom_heatmaps is not None:
            from cxr_keras.inference.heat_maps import heat_maps
            from cxr_keras.inference.pictures import Pictures
            from cxr_keras.inference.truth import Truth

            explainer = heat_maps(opened.network, method, layer, tta=tta)
            known = None if truth is None else Truth(truth, card)
            drawn = None if dicom_heatmaps is None else answers
            draw = Pictures(explainer, card, names, heatmaps, sheet, known, drawn)
    rows = []
    with (
        csv_rows(csv_file, card, columns, part, guarded=opened.guard is not None) as write,
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
            if answers is not None and not row.error:
                row = answers.report(row)
            write(row)
            rows.append(dataclasses.replace(row, pixels=None))
            bar.advance()
    if draw is not None:
        draw.finish()
    return rows


def _answers(
    opened: Opened,
    names: dict[Path, str],
    reports: PathLike | None,
    captures: PathLike | None,
) -> Answers:
    """What writes DICOM objects."""
    from cxr_keras.inference.dicom_answers import Algorithm, Answers

    return Answers(opened.card, Algorithm.of(opened.file, opened.card), names, reports, captures)


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


def picture_names(files: Sequence[Path]) -> dict[Path, str]:
    """File → its stem, or where two files share it the path below their common folder."""
    places = {path: path.absolute() for path in files}
    stems = Counter(place.stem for place in set(places.values()))
    common = os.path.commonpath([place.parent for place in places.values()])
    return {
        path: place.stem if stems[place.stem] == 1 else "__".join(place.relative_to(common).parts)
        for path, place in places.items()
    }
