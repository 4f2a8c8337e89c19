"""The command line: parse, call, print. Keras is imported only inside commands that need it."""

from __future__ import annotations

import warnings

import click

from cxr_keras import __version__
from cxr_keras.cli import data, exporting, localization, prediction, results, serving, training
from cxr_keras.cli.options import Group
from cxr_keras.utils.console import print_notices
from cxr_keras.utils.memory import keep_freed_memory


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cxr-keras")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Train, evaluate and use multi-label chest X-ray classifiers.

    DATA is the folder of a known data set, such as NIH ChestX-ray14, CheXpert or ChestMNIST; any
    other is read with --table. Without it: $CXR_KERAS_DATA, then ./data/nih, then built-in
    phantoms (synthetic drawings). For research and teaching; no medical device.

    \b
    Example:
      cxr-keras train alexnet_custom --epochs 30 --lr 0.0005
    """
    print_notices()
    keep_freed_memory()
    # Pillow's warnings name no file; what cannot be read is an error that does
    warnings.filterwarnings("ignore", module=r"PIL\.")


for command in (
    *(data.cache, data.download, data.explore, data.phantom, data.prepare),
    *(training.models, training.train, training.tune),
    *(results.calibrate, results.compare, results.ensemble, results.evaluate),
    *(exporting.card, exporting.export),
    localization.localize,
    *(prediction.merge, prediction.predict),
    *(serving.listen, serving.serve),
):
    main.add_command(command)
