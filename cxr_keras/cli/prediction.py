"""Commands that use trained networks on images."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from cxr_keras.cli.options import (
    FOLDER,
    device_option,
    method_options,
    precision_option,
    ray_option,
    tta_option,
)
from cxr_keras.cli.results import CSV, RUN
from cxr_keras.cli.starting import needs_keras

LONGEST_NAME = 40


@click.command()
@click.argument("run", type=RUN)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write one row per image to this file; Ctrl-C leaves the rows so far in NAME.partial.csv.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.option("--heatmaps", type=FOLDER, help="Write heat maps into this folder.")
@click.option(
    "--sheet",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw all images into this PNG or PDF, 40 at most, each with the heat map of its most "
    "probable finding.",
)
@click.option(
    "--truth",
    type=FOLDER,
    help="A data folder: pictures of its images show its labels and its boxes, too.",
)
@click.option(
    "--dicom-sr",
    type=FOLDER,
    help="Write a DICOM Structured Report for each DICOM file into this folder.",
)
@click.option(
    "--dicom-heatmaps",
    type=FOLDER,
    help="Write heat maps of DICOM files into this folder, as DICOM secondary captures.",
)
@method_options
@click.option(
    "--resolve-no-finding", is_flag=True, help="Drop No Finding where a finding is predicted, too."
)
@click.option(
    "--no-identifiers",
    "identifiers",
    flag_value=False,
    default=True,
    help="Leave patient ID, sex, age, view and pixel spacing of DICOM files out of the rows.",
)
@click.option(
    "--fix-orientation",
    is_flag=True,
    help="Where an image is unlike those of the training, and familiar if inverted, turned or "
    "mirrored top to bottom, predict it so; its row says it.",
)
@tta_option
@precision_option
@click.option(
    "--shard",
    metavar="K/N",
    help="Predict the Kth of N parts of the images, for job arrays; `merge` puts their CSVs "
    "together.",
)
@ray_option
@device_option
@needs_keras
def predict(run: Path, paths: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Predict images, and all images in folders, with RUN (a run folder or .keras file).

    PNG, JPEG and DICOM; of DICOM the header's patient ID, sex, age, view and pixel spacing come
    into the rows.

    A file that cannot be read is a row with its error, and the exit code is then 1.

    \b
    Examples:
      cxr-keras predict saved_models/alexnet_custom-ep30-lr0.0005 my_xrays/ --csv findings.csv
      cxr-keras predict saved_models/alexnet_custom-ep30-lr0.0005 my_xrays/ --csv f.csv --ray
    """
    from cxr_keras.cli.tables import text_table
    from cxr_keras.inference import prediction

    rows = prediction.predict(run, paths, **options)
    if as_json:
        click.echo(json.dumps(prediction.to_records(rows), indent=1))
    else:
        cells = [_prediction_cells(row) for row in rows]
        click.echo(text_table(cells, ("image", "predicted findings"), left=2))
    _say_contradictions(rows)
    strange = sum(bool(row.unlike_training) for row in rows)
    if strange:
        click.echo(
            f"{strange:,} of {len(rows):,} images are unlike those that the network was trained "
            "on: do not believe what it says of them.",
            err=True,
        )
    for warning, count in Counter(said for row in rows for said in row.warnings).items():
        click.echo(f"{count:,} of {len(rows):,} images: {warning}.", err=True)
    bad = sum(bool(row.error) for row in rows)
    if bad:
        click.echo(f"{bad} of {len(rows)} files could not be read.", err=True)
        sys.exit(1)


@click.command()
@click.argument("parts", nargs=-1, required=True, type=CSV)
@click.option(
    "--csv",
    "csv_file",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where the whole goes.",
)
def merge(parts: tuple[Path, ...], csv_file: Path) -> None:
    """Put PARTS, the CSVs of `predict --shard`, together in the order of the images.

    A row that is missing or there twice is an error: nothing is written then.

    \b
    Example:
      cxr-keras merge findings-*.csv --csv findings.csv
    """
    from cxr_keras.inference.shards import merge_parts

    count = merge_parts(parts, csv_file)
    click.echo(f"{count:,} rows of {len(parts)} parts: {csv_file}", err=True)


def _say_contradictions(rows: list[Any]) -> None:
    from cxr_keras.data.labels import normal_of

    normal = next((normal_of(row.probabilities) for row in rows if row.probabilities), None)
    count = sum(normal in row.findings and len(row.findings) > 1 for row in rows)
    if count:
        click.echo(
            f"{count} of {len(rows)} images are predicted {normal} beside a finding, which "
            "excludes it; --resolve-no-finding keeps the finding.",
            err=True,
        )


def _prediction_cells(row: Any) -> tuple[str, str]:
    name = str(row.path)
    if len(name) > LONGEST_NAME:
        name = f"…{name[-LONGEST_NAME + 1 :]}"
    if row.error:
        return name, f"not read: {row.error.removeprefix(f'{row.path}: ')}"
    doubt = "unlike training! " if row.unlike_training else ""
    if row.findings:
        found = ", ".join(f"{label} {row.probabilities[label]:.2f}" for label in row.findings)
        return name, doubt + found
    top = max(row.probabilities, key=lambda label: row.probabilities[label])
    return name, f"{doubt}none (highest: {top} {row.probabilities[top]:.2f})"
