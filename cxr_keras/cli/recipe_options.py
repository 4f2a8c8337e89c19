"""Options of `train` that are a recipe's settings: each says what it is if nobody gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from cxr_keras.cli.options import FIT_HELP, SIZE_HELP, Command, fine_tune_blocks
from cxr_keras.data.options import AUGMENTATIONS, SAMPLERS
from cxr_keras.framing import FITS, MAX_SIZE, MIN_SIZE
from cxr_keras.training.config import TrainConfig
from cxr_keras.training.losses import LOSSES
from cxr_keras.training.options import MONITORS, OPTIMIZERS, PRECISIONS, SCHEDULES
from cxr_keras.training.recipes import MODERN, RECIPES

_COUNT = click.IntRange(min=1)
_NONE_OR_MORE = click.IntRange(min=0)
_SHARE = click.FloatRange(0, 1, max_open=True)
_ABOVE = click.FloatRange(min=0, min_open=True)
_FROM_ZERO = click.FloatRange(min=0)

_SETTINGS: dict[str, tuple[Any, str]] = {
    "epochs": (_COUNT, "Passes over the training split."),
    "lr": (_ABOVE, "Learning rate; a schedule's highest."),
    "batch-size": (_COUNT, "Images in a batch, of all processes together."),
    "loss": (
        click.Choice(list(LOSSES)),
        "weighted_bce, focal and asymmetric make a network predict rare findings more often.",
    ),
    "optimizer": (click.Choice(OPTIMIZERS), "sgd has a momentum of 0.9."),
    "weight-decay": (_FROM_ZERO, "Share of a kernel taken off at each step, times the rate."),
    "clip-norm": (_FROM_ZERO, "Largest norm of a step's gradient; 0 for no limit."),
    "accumulate": (_COUNT, "Batches whose gradients are averaged for one step."),
    "schedule": (
        click.Choice(SCHEDULES),
        "Of the learning rate: constant; cosine, with a warm-up; one-cycle, up over 30% of the "
        "steps and down; plateau, a tenth after 3 epochs without a better one.",
    ),
    "warmup": (_SHARE, "Share of the steps in which cosine climbs."),
    "body-lr": (_FROM_ZERO, "Learning rate of all but the head  [default: --lr]"),
    "layer-decay": (
        click.FloatRange(0, 1, min_open=True),
        "Factor of the rate from each block to the one before it.",
    ),
    "head-epochs": (_NONE_OR_MORE, "Epochs at the beginning in which the head trains alone."),
    "ema": (_SHARE, "Momentum of an average of the weights, which is kept; 0 for none."),
    "dropout": (_SHARE, "Rate of the dropout layers  [default: the network's own]"),
    "augment": (click.Choice(AUGMENTATIONS), "How far training images are changed."),
    "mixup": (_FROM_ZERO, "Lay images over each other: α of mixup; 0 for none."),
    "label-smoothing": (_SHARE, "Half of it is taken from each 1 and added to each 0."),
    "sampler": (click.Choice(SAMPLERS), "balanced draws rare labels as often as frequent ones."),
    "boxes": (
        click.Path(dir_okay=False),
        "A list of boxes as NIH's BBox_List_2017.csv: where a training image has some, a further "
        "loss asks the heat map to lie in them. For networks that end in average pooling.",
    ),
    "box-weight": (_FROM_ZERO, "Of that loss."),
    "monitor": (
        click.Choice(MONITORS),
        "What the kept epoch is best in: loss, mean AUROC or mean average precision.",
    ),
    "early-stop": (_NONE_OR_MORE, "Stop after so many epochs without a better one; 0 for never."),
    "size": (click.IntRange(MIN_SIZE, MAX_SIZE), SIZE_HELP),
    "fit": (click.Choice(FITS), FIT_HELP),
    "precision": (
        click.Choice(PRECISIONS),
        "The mixed ones are faster on most GPUs; auto takes bfloat16 where this machine computes "
        "in it. A GPU is used whenever PyTorch finds one.",
    ),
}


def recipe_options(command: Command) -> Command:
    """--recipe, and every setting of a recipe as an option of its own."""
    options = [
        click.option(
            "--recipe",
            type=click.Choice(list(RECIPES)),
            help="Where the settings come from that you do not give: the report's, or what was "
            "found best on real radiographs  [default: the network's, see `cxr-keras models`]",
        ),
        *(
            click.option(f"--{name}", type=kind, help=text + _usual(name))
            for name, (kind, text) in _SETTINGS.items()
        ),
        click.option(
            "--flip/--no-flip",
            default=None,
            help="Mirror every other training image." + _usual("flip"),
        ),
        click.option(
            "--fine-tune",
            is_flag=False,
            flag_value="all",
            metavar="[N|head]",
            callback=fine_tune_blocks,
            help="Train the pretrained weights, too: all of them, or those of the last N blocks; "
            "head for the head alone." + _usual("fine-tune"),
        ),
    ]
    add: Callable[..., Any]
    for add in reversed(options):
        command = add(command)
    return command


def _usual(name: str) -> str:
    """What an option is without being given, by recipe."""
    field = name.replace("-", "_")
    report = getattr(TrainConfig, field)
    modern = RECIPES[MODERN].get(field, report)
    if name in ("body-lr", "dropout", "boxes"):
        return ""
    shown = [_shown(value) for value in (report, modern)]
    same = shown[0] == shown[1]
    return f"  [default: {shown[0]}]" if same else f"  [default: {shown[0]}; modern: {shown[1]}]"


def _shown(value: Any) -> str:
    if value is None:
        return "head"  # of --fine-tune
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
