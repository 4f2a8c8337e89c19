"""Commands that write what is handed on: a network for other programs, and its card."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_keras.cli.results import RUN
from cxr_keras.cli.starting import needs_keras


@click.command()
@click.argument("run", type=RUN)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@needs_keras
def export(run: Path, file: Path) -> None:
    """Write RUN as an ONNX FILE, for programs without Keras.

    Raw grey pixels go in and the same calibrated probabilities come out; labels, thresholds and
    size are in the file's metadata. `predict` takes the file, too, without what needs the .keras
    file: heat maps and the guard. Needs the extra onnx: pip install "cxr-keras[onnx]".

    \b
    Example:
      cxr-keras export saved_models/resnet18-ep30-lr0.0005 resnet18.onnx
    """
    from cxr_keras.runs.onnx_file import export as write

    gap = write(run, file)
    size = file.stat().st_size / 1e6
    click.echo(
        f"{file}: {size:.1f} MB, probabilities as the .keras file's within {gap:.1g}.", err=True
    )


@click.command()
@click.argument("run", type=RUN)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The .md or .html file  [default: card.md in the run folder, or beside the file]",
)
@click.option(
    "--private",
    is_flag=True,
    help="Leave out the names of the data's folders, how they were read, and all digests.",
)
@needs_keras
def card(run: Path, out: Path | None, private: bool) -> None:
    """Write RUN's model card: a page to hand on with the network.

    Data, splits, numbers with intervals, subgroups, calibration, limits, intended use and licences,
    from what the file and its run folder know; what they do not know, it says so.

    \b
    Examples:
      cxr-keras card saved_models/alexnet_custom-ep30-lr0.0005
      cxr-keras card saved_models/alexnet_custom-ep30-lr0.0005 --private --out card.html
    """
    from cxr_keras.evaluation.model_card import write_card

    click.echo(write_card(run, out, private=private), err=True)
