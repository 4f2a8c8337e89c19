"""Options that say which data is meant and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from cxr_keras.cli.options import Command
from cxr_keras.data.options import FORMATS, IGNORE, UNCERTAIN

DATA = click.Path(path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_READING = (
    click.option(
        "--format",
        type=click.Choice(FORMATS),
        help="The data set's layout  [default: the one that the folder has]",
    ),
    click.option(
        "--uncertain",
        type=click.Choice(UNCERTAIN),
        help=f"What an uncertain label counts as; ignore: as unknown  [default: {IGNORE}]",
    ),
    click.option(
        "--views",
        metavar="PA,AP,L|all",
        help="Views to keep  [default: PA, AP, and images whose view nobody knows]",
    ),
    click.option(
        "--labels",
        metavar="shared|all|A,B",
        help="Which labels: of several data sets those they share, or all with unknowns; or these  "
        "[default: all of one data set, the shared ones of several]",
    ),
    click.option(
        "--table", type=_FILE, help="Any CSV with a row an image, in place of a known layout."
    ),
    click.option(
        "--images",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="The folder of the images of --table  [default: the CSV's folder]",
    ),
    click.option("--path-column", help="The column of --table with the images  [default: guessed]"),
    click.option(
        "--patient-column", help="The column of --table with the patients  [default: guessed]"
    ),
    click.option(
        "--label-columns",
        metavar="A,B",
        help='The columns of --table with labels, or one with "A|B"  [default: guessed]',
    ),
    click.option(
        "--manifest",
        type=_FILE,
        help="A split of your own: a CSV like the manifest.csv that `prepare` writes, with image, "
        "patient, split and labels.",
    ),
)


# what click calls them
READING = (
    *("format", "uncertain", "views", "labels", "table", "images"),
    *("path_column", "patient_column", "label_columns", "manifest"),
)


def reading_options(command: Command) -> Command:
    """How data is read."""
    for option in reversed(_READING):
        command = option(command)
    return command


def source_options(*, several: bool) -> Callable[[Command], Command]:
    """--data, and how it is read.

    Args:
        several: whether --data may be given more than once.
    """
    help_text = "Data folder, in the layout of a known data set (docs/datasets.md)"
    help_text += "; give it again for several as one." if several else "."

    def add(command: Command) -> Command:
        data = click.option("--data", type=DATA, multiple=several, help=help_text)
        return data(reading_options(command))

    return add
