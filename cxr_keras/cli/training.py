"""Commands that build and train networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cxr_keras.cli.options import (
    device_option,
    output_dir_option,
    sampling_options,
)
from cxr_keras.cli.recipe_options import recipe_options
from cxr_keras.cli.source_options import source_options
from cxr_keras.cli.starting import needs_keras
from cxr_keras.errors import CxrError
from cxr_keras.training.config import TrainConfig
from cxr_keras.training.options import LOGS, TUNE_TRIALS

weights_option = click.option(
    "--weights",
    metavar="NAME|FILE",
    help="Weights to start from: imagenet, none (random), a torchvision .pth file, or a run folder "
    "or .keras file of this network  "
    "[default: imagenet where the network has them]",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=TrainConfig.seed,
    show_default=True,
    help="Decides the first weights, dropout and the batches.",
)


@click.command()
@needs_keras
def models() -> None:
    """List the networks: recipe, weights, parameters, blocks for --fine-tune, source.

    \b
    Example:
      cxr-keras models
    """
    from cxr_keras.cli.tables import text_table
    from cxr_keras.models.registry import count_parameters, list_models

    rows = []
    for spec in list_models():
        try:
            size = f"{count_parameters(spec.name):,}"
        except CxrError:
            size = "–"  # needs an extra that is not installed
        about = (spec.name, spec.recipe, spec.default_weights, spec.source)
        rows.append((*about, size, str(len(spec.blocks))))
    header = ("name", "recipe", "weights", "source", "parameters", "blocks")
    click.echo(text_table(rows, header, left=4))


@click.command()
@click.argument("model")
@source_options(several=True)
@recipe_options
@weights_option
@sampling_options()
@seed_option
@click.option(
    "--name",
    help="Name of the run folder  [default: MODEL-epEPOCHS-lrLR, and what else is not the default]",
)
@output_dir_option
@click.option(
    "--checkpoint-every",
    type=click.IntRange(min=1),
    help="Epochs between checkpoints  [default: as often as costs 5% of the time]",
)
@click.option(
    "--feature-cache/--no-feature-cache",
    default=True,
    help="Run the frozen layers once per image, not once per epoch  [default: yes]",
)
@click.option(
    "--sync-batch-norm",
    is_flag=True,
    help="Over several processes (torchrun, srun): batch normalisation takes the statistics of the "
    "whole batch, not each process those of its share.",
)
@click.option(
    "--deterministic",
    is_flag=True,
    help="Make the same seed give the same weights on a CUDA GPU, too (on a CPU it does anyway): "
    "slower, and an error for a network that needs a kernel which torch has in no such form.",
)
@click.option(
    "--provenance/--no-provenance",
    default=TrainConfig.provenance,
    help="List the images of training and validation in model.keras, as salted digests: a person "
    "who has an image and the file can tell whether it is among them  [default: yes]",
)
@click.option(
    "--log",
    type=click.Choice(LOGS),
    multiple=True,
    help="Write learning rate, losses, AUROC and images/s of every epoch, and, but for csv, some "
    "heat maps: into the run folder, or to MLflow. tensorboard and mlflow are extras; may be "
    "repeated.",
)
@click.option(
    "--overwrite", is_flag=True, help="Replace a run of the same name, when this one is done."
)
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@device_option
@needs_keras
def train(model: str, data: tuple[Path, ...], **settings: Any) -> None:
    """Train MODEL, keep its best epoch, evaluate it on the test split.

    With --test-share 0 there is none: its table is then of the validation split, which flatters.

    \b
    Examples:
      cxr-keras train alexnet_custom --epochs 30 --lr 0.0005
      cxr-keras train efficientnet_lite0 --data data/nih
      cxr-keras train alexnet_custom --data data/nih --split-method paper --epochs 15
      cxr-keras train resnet18 --data data/nih --loss asymmetric --fine-tune 2
      cxr-keras train densenet121 --data data/nih --val-share 0.1 --test-share 0
    """
    from cxr_keras.cli.tables import assessment_sentences, metrics_table
    from cxr_keras.training.processes import is_first
    from cxr_keras.training.run import train as run_training

    run = run_training(model, data, **settings)
    if not is_first():
        return  # of several processes one prints
    click.echo(metrics_table(run.metrics))
    click.echo(f"\n{assessment_sentences(run.evaluation.assessment)}")
    loss = run.info["loss"]
    tested = "" if loss["test"] is None else f", {loss['test']:.4f} test"
    click.echo(
        f"Loss: {loss['train']:.4f} train, {loss['val']:.4f} val (epoch "
        f"{run.info['best_epoch']}, kept){tested}."
    )
    if run.evaluation.notice:
        click.echo(run.evaluation.notice)
    click.echo(f"Run folder: {run.folder}", err=True)


@click.command()
@click.argument("model")
@source_options(several=True)
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=TUNE_TRIALS,
    show_default=True,
    help="How many trainings to try, those of an interrupted search included.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Begin no trial after so many minutes, and end the one under way  [default: no limit]",
)
@recipe_options
@weights_option
@sampling_options()
@seed_option
@click.option("--name", help="Name of the folder  [default: MODEL-tune]")
@output_dir_option
@click.option("--overwrite", is_flag=True, help="Replace a search of the same name.")
@click.option("--resume", is_flag=True, help="Go on with a search of the same name and settings.")
@device_option
@needs_keras
def tune(model: str, data: tuple[Path, ...], **settings: Any) -> None:
    """Search the numbers of MODEL's recipe on the validation split.

    Every setting that you give stays as you say; the learning rate, weight decay, layer-wise decay,
    label smoothing, the average of the weights and augmentation are searched where you say
    nothing. A trial that is behind is given up early. The test split is not touched. Needs the
    extra tune: pip install "cxr-keras[tune]".

    \b
    Example:
      cxr-keras tune resnet_custom --data data/nih --epochs 5 --trials 20 --minutes 60
    """
    from cxr_keras.cli.tables import frame_table
    from cxr_keras.training.search_space import value_text
    from cxr_keras.training.tuning import train_command
    from cxr_keras.training.tuning import tune as run_search

    found = run_search(model, data, **settings)
    shown = found.trials.head(10)
    numbers = {name: shown[name].map(value_text) for name in shown.columns[4:]}
    click.echo(frame_table(shown.assign(**numbers), left=2))
    if found.importance:
        shares = [f"{name} {share:.0%}" for name, share in found.importance.items()]
        click.echo(f"\nWhat mattered, of the trials that were done: {', '.join(shares)}.")
    if found.settings:
        click.echo(f"\nTrain with the best ones:\n  {train_command(model, data, found.settings)}")
    click.echo(f"Search: {found.folder}", err=True)
