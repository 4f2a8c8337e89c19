"""The command that measures heat maps against boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cxr_keras.cli.options import (
    FOLDER,
    device_option,
    method_options,
    resamples_option,
    tta_option,
)
from cxr_keras.cli.results import RUN
from cxr_keras.cli.starting import needs_keras
from cxr_keras.evaluation.options import SPLIT_CHOICES

# Wang et al. 2017, 984 boxes: accuracy at IoU above 0.1, at IoBB above 0.25
PUBLISHED = {
    "Atelectasis": (0.689, 0.550),
    "Cardiomegaly": (0.938, 0.979),
    "Effusion": (0.660, 0.542),
    "Infiltration": (0.707, 0.577),
    "Mass": (0.400, 0.282),
    "Nodule": (0.139, 0.051),
    "Pneumonia": (0.633, 0.558),
    "Pneumothorax": (0.378, 0.347),
}
SHOWN = {
    "pointing": "pointing",
    "energy": "energy",
    "iou_0.1": "IoU>0.1",
    "iobb_0.25": "IoBB>0.25",
    "mean_iou": "mean IoU",
    "centre": "centre",
}


@click.command()
@click.argument("run", type=RUN)
@click.option(
    "--data",
    type=FOLDER,
    help="A folder with BBox_List_2017.csv, NIH's or of phantoms  [default: the training's]",
)
@click.option(
    "--split",
    type=click.Choice(SPLIT_CHOICES),
    help="Of the network's own data  [default: test; of other data every image]",
)
@method_options
@tta_option
@resamples_option
@click.option("--force", is_flag=True, help="Take images that the network was trained on, too.")
@click.option("--out", type=FOLDER, help="Folder for the tables  [default: beside the model]")
@device_option
@needs_keras
def localize(run: Path, **options: Any) -> None:
    """Measure RUN's heat maps against radiologists' boxes.

    Beside the method: the same network with random weights, a random map, and a bell in the middle.
    Intervals are 95%, from a bootstrap over patients; localize.csv has every measure.

    \b
    Examples:
      cxr-keras localize saved_models/resnet18-ep30-lr0.0005 --data data/nih
      cxr-keras localize saved_models/resnet18-ep30-lr0.0005 --method layercam
    """
    from cxr_keras.cli.tables import text_table
    from cxr_keras.evaluation.localization import localize as run_localization

    found = run_localization(run, **options)
    table = found.table
    own = table["map"].iloc[0]
    lines = [_cells(row) for row in table[table["map"] == own].to_dict("records")]
    rest = table[(table["map"] != own) & (table["label"] == "average")]
    lines += [_cells(row | {"label": f"({row['map']})"}) for row in rest.to_dict("records")]
    header = ("finding", "maps", *SHOWN.values(), "Wang IoU", "Wang IoBB")
    click.echo(text_table(lines, header, left=1))
    average = table[(table["map"] == own) & (table["label"] == "average")].iloc[0]
    click.echo(
        f"\n{own}, pointing game on average: {average['pointing']:.3f} "
        f"({average['pointing_low']:.3f}–{average['pointing_high']:.3f})."
    )
    for sentence in found.about:
        click.echo(sentence)
    click.echo(
        "Wang: published for 984 boxes, IoU above 0.1 and IoBB above 0.25; another network and "
        "another rule for boxes. A map shows what moved the network, not where a finding is."
    )
    click.echo(f"Tables in {found.folder}", err=True)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    published = PUBLISHED.get(row["label"])
    values = [f"{row[name]:.3f}" for name in SHOWN]
    theirs = [f"{value:.3f}" for value in published] if published else ["", ""]
    return (row["label"], f"{row['maps']:,}", *values, *theirs)
