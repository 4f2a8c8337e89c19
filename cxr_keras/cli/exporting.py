"""The command that writes networks for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_keras.cli.results import RUN


@click.command()
@click.argument("run", type=RUN)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
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
