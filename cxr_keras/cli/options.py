"""What commands share: exit codes, options, and the checks of their values."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from cxr_keras.data.options import (
    ALL_IMAGES_METHOD,
    DEFAULT_SPLIT_METHOD,
    EVERY_IMAGE,
    LISTED_TEST_METHOD,
    PER_CLASS,
    SEED,
    SPLIT_METHODS,
    TEST_SHARE,
    VAL_SHARE,
)
from cxr_keras.errors import CxrError
from cxr_keras.framing import FIT, FITS, MAX_SIZE, MIN_SIZE, SIZE
from cxr_keras.inference.options import FULL, GRAD_CAM, METHODS, NO_TTA, PRECISIONS, TTA
from cxr_keras.metrics.options import RESAMPLES
from cxr_keras.runs.options import RUNS_FOLDER
from cxr_keras.utils.console import notice
from cxr_keras.utils.memory import is_out_of_memory

Command = TypeVar("Command", bound=Callable[..., Any])
FOLDER = click.Path(file_okay=False, path_type=Path)
INTERRUPTED = 130
SIZE_HELP = "Side in pixels of the square that the network sees."
FIT_HELP = (
    "crop: the centre square of the image, less its rim; whole: all of it, with black beside it."
)


class Group(click.Group):
    """Turns a `CxrError` into its one sentence and exit code 1, Ctrl-C into 130."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line."""
        if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may be no text
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().main(*args, **(kwargs | {"standalone_mode": False}))
        except click.ClickException as error:
            error.show()
            sys.exit(error.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo(
                "Interrupted; what was finished is kept (a training goes on with --resume).",
                err=True,
            )
            sys.exit(INTERRUPTED)

    def invoke(self, ctx: click.Context) -> Any:
        """Run one command."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `cxr-keras … | head` has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except Exception as error:
            known = isinstance(error, CxrError | OSError) or is_out_of_memory(error)
            if not known or ctx.params.get("debug"):
                raise
            click.echo(f"Error: {_sentence(error)}", err=True)
            sys.exit(1)


def _sentence(error: BaseException) -> str:
    """What to say of an error; the system's own name no remedy but the file."""
    if is_out_of_memory(error):
        return (
            "There is not enough memory. Give a smaller network or --size; in training a smaller "
            "--batch-size."
        )
    if isinstance(error, OSError):
        about = f"{error.filename}: " if error.filename else ""
        return f"{about}{error.strerror or error}. `cxr-keras --debug …` shows where."
    return str(error)


def former_name(former: str, now: str, **how: Any) -> Callable[[Command], Command]:
    """An option that does what another does, says that it is now called so, and is not in --help.

    Args:
        former: what the option was called, such as "--split".
        now: what it is called; where both are given, this one counts.
        how: of `click.option`, as the option of today has it.
    """

    def pass_on(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None:
            notice(f"{former} is now called {now} and goes in version 1.0: write {now} {value}.")
            name = now.removeprefix("--").replace("-", "_")
            context.default_map = {**(context.default_map or {}), name: value}

    return click.option(
        former, hidden=True, expose_value=False, is_eager=True, callback=pass_on, **how
    )


def sampling_options(*seed_names: str) -> Callable[[Command], Command]:
    """Options of the choice of images and the split, shared by prepare and train.

    Args:
        seed_names: other names of --data-seed in this command.
    """
    options = [
        click.option(
            "--per-class",
            callback=images_or_all,
            metavar="N|all",
            help="How many images to choose for each label  "
            f"[default: {PER_CLASS}; all for --split-method {ALL_IMAGES_METHOD}"
            + ("; modern: all]" if not seed_names else "]"),
        ),
        click.option(
            "--split-method",
            type=click.Choice(SPLIT_METHODS),
            default=DEFAULT_SPLIT_METHOD,
            show_default=True,
            help="patient: no patient in two splits; paper: by image, as the report does; "
            "official: the data set's own lists.",
        ),
        former_name("--split", "--split-method", type=click.Choice(SPLIT_METHODS)),
        click.option(
            "--val-share",
            type=click.FloatRange(0, 1, min_open=True, max_open=True),
            default=VAL_SHARE,
            show_default=True,
            help="Which share of the images that are not test is for validation.",
        ),
        click.option(
            "--test-share",
            type=click.FloatRange(0, 1, max_open=True),
            help="Which share of the chosen images is for test; 0 for no test split: a network to "
            "be used, not published  "
            f"[default: {TEST_SHARE}; its own list for --split-method {LISTED_TEST_METHOD}]",
        ),
        click.option(
            "--data-seed",
            *seed_names,
            "data_seed",
            type=click.IntRange(min=0),
            default=SEED,
            show_default=True,
            help="Decides which images are chosen, and the split.",
        ),
    ]

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def framing_options(command: Command) -> Command:
    """Options of what a network sees of an image."""
    size = click.option(
        "--size",
        type=click.IntRange(MIN_SIZE, MAX_SIZE),
        default=SIZE,
        show_default=True,
        help=SIZE_HELP,
    )
    fit = click.option(
        "--fit",
        type=click.Choice(FITS),
        default=FIT,
        show_default=True,
        help=FIT_HELP,
    )
    return size(fit(command))


def fine_tune_blocks(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> str | int | None:
    """The value of --fine-tune: None, "all", "head" or a number of blocks."""
    if value in (None, "all", "head"):
        return value
    if not value.isdigit() or int(value) < 1:
        raise click.BadParameter(
            f"{value!r} is not a number of blocks. Give --fine-tune last, or --fine-tune N.",
            ctx=ctx,
            param=param,
        )
    return int(value)


def images_or_all(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> str | int | None:
    """The value of --per-class: None, "all" or a number of images."""
    if value is None or value == EVERY_IMAGE:
        return value
    if not value.isdigit() or int(value) < 1:
        raise click.BadParameter(
            f"{value!r} is neither a number of images nor {EVERY_IMAGE}.", ctx=ctx, param=param
        )
    return int(value)


def method_options(command: Command) -> Command:
    """How heat maps are made."""
    method = click.option(
        "--method",
        type=click.Choice(METHODS),
        default=GRAD_CAM,
        show_default=True,
        help="Of heat maps.",
    )
    layer = click.option(
        "--layer",
        metavar="NAME",
        help="Whose maps they are of  [default: the one that the network is registered with, or "
        "the last before pooling]",
    )
    return method(layer(command))


def output_dir_option(command: Command) -> Command:
    """Where run folders lie."""
    return click.option(
        "--output-dir",
        "folder",
        type=click.Path(file_okay=False),
        default=RUNS_FOLDER,
        show_default=True,
        help="The folder that holds the run folders.",
    )(command)


def ray_option(command: Command) -> Command:
    """Where the work is done by a Ray cluster."""
    return click.option(
        "--ray",
        is_flag=False,
        flag_value="",
        metavar="[ADDRESS]",
        help="Share the work over a Ray cluster: the one at ADDRESS (auto, HOST:PORT, "
        "ray://HOST:PORT), or one of this machine alone; needs the extra ray.",
    )(command)


def resamples_option(command: Command) -> Command:
    """How many resamples the bootstrap draws."""
    return click.option(
        "--resamples",
        type=click.IntRange(min=0),
        default=RESAMPLES,
        show_default=True,
        help="How often the bootstrap draws the patients anew; 0 for no intervals.",
    )(command)


def device_option(command: Command) -> Command:
    """Where a command computes; it takes effect before the command runs."""

    def use(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
        from cxr_keras.models.device import use_device

        if value is not None:
            use_device(value)

    return click.option(
        "--device",
        metavar="cpu|cuda|cuda:N|mps",
        callback=use,
        expose_value=False,
        help="Where to compute; cuda:1 is the second GPU  [default: a GPU where there is one]",
    )(command)


def precision_option(command: Command) -> Command:
    """The --precision option that evaluate and predict share."""
    return click.option(
        "--precision",
        type=click.Choice(PRECISIONS),
        default=FULL,
        show_default=True,
        help="What the network computes in; bfloat16 is faster where the processor or GPU "
        "multiplies in it, and changes most probabilities by less than 0.01.",
    )(command)


def tta_option(command: Command) -> Command:
    """The --tta option that evaluate and predict share."""
    return click.option(
        "--tta",
        type=click.Choice(TTA),
        default=NO_TTA,
        show_default=True,
        help="Test-time augmentation. flip: the mean over each image and its mirror image, of "
        "probabilities and of heat maps, in twice the time.",
    )(command)


def threshold_value(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> str | float | None:
    """The value of --thresholds: None, "calibrated" or a probability."""
    if value is None or value == "calibrated":
        return value
    try:
        number = float(value)
    except ValueError:
        number = float("nan")
    if not 0 <= number <= 1:
        raise click.BadParameter(
            f"{value!r} is neither 'calibrated' nor a number in 0…1.", ctx=ctx, param=param
        )
    return number
