"""Commands that measure trained networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from cxr_keras.cli.options import (
    FOLDER,
    device_option,
    output_dir_option,
    precision_option,
    resamples_option,
    threshold_value,
    tta_option,
)
from cxr_keras.cli.source_options import DATA, READING, source_options
from cxr_keras.cli.starting import needs_keras
from cxr_keras.evaluation.options import SPLIT_CHOICES
from cxr_keras.metrics.options import RESAMPLES, SCALING_METHODS

RUN = click.Path(path_type=Path)
CSV = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("run", type=RUN, required=False)
@source_options(several=True)
@click.option(
    "--split",
    type=click.Choice(SPLIT_CHOICES),
    help="Which split of the data that RUN was trained on; of other data, the list of its own that "
    "is called so  [default: test; of other data every image (all)]",
)
@click.option(
    "--thresholds",
    callback=threshold_value,
    metavar="calibrated|P",
    help="A label is predicted positive from this probability on: the network's own thresholds, "
    "chosen on its validation split, or one number for all labels  "
    "[default: calibrated; 0.5 with --predictions]",
)
@click.option(
    "--predictions", type=CSV, help="Measure this CSV of prob_<label> columns, of any labels."
)
@click.option(
    "--truth",
    type=CSV,
    help="Another table of truth for the same images, such as radiologists' own labels: NIH's "
    "label table, or any CSV with a row an image.",
)
@tta_option
@precision_option
@resamples_option
@click.option("--force", is_flag=True, help="Measure images that the network was trained on, too.")
@click.option("--out", type=FOLDER, help="Folder for the tables  [default: beside the model]")
@device_option
@needs_keras
def evaluate(
    run: Path | None,
    predictions: Path | None,
    truth: Path | None,
    thresholds: str | float | None,
    **options: Any,
) -> None:
    """Measure RUN (a run folder or .keras file), label by label.

    On its test split, or, with --data or --table, on every image of other data and the labels
    that both know.

    The tables go to stdout and, with predictions.csv, beside the model. Intervals are 95%, from
    a bootstrap over patients.

    \b
    Examples:
      cxr-keras evaluate saved_models/alexnet_custom-ep30-lr0.0005
      cxr-keras evaluate saved_models/alexnet_custom-ep30-lr0.0005 --thresholds 0.5
      cxr-keras evaluate saved_models/alexnet_custom-ep30-lr0.0005 --data other_hospital
      cxr-keras evaluate saved_models/alexnet_custom-ep30-lr0.0005 --data data/nih \\
        --truth radiologists.csv
      cxr-keras evaluate --predictions P.csv --truth Data_Entry_2017_v2020.csv
    """
    from cxr_keras.evaluation import evaluation
    from cxr_keras.evaluation.predictions_file import evaluate_predictions
    from cxr_keras.evaluation.result import CALIBRATED

    if predictions is not None and truth is not None and run is None:
        context = click.get_current_context()
        for name in ("data", "split", "force", "tta", "precision", *READING):
            if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                option = name.replace("_", "-")
                raise click.UsageError(f"--{option} belongs to a RUN; leave it out.")
        if isinstance(thresholds, str):
            raise click.UsageError("--thresholds calibrated needs a RUN; give a number.")
        shared = {name: options[name] for name in ("resamples", "out")}
        result = evaluate_predictions(
            predictions, truth, thresholds=0.5 if thresholds is None else thresholds, **shared
        )
    elif run is not None and predictions is None:
        wanted = CALIBRATED if thresholds is None else thresholds
        result = evaluation.evaluate(run, thresholds=wanted, truth=truth, **options)
    else:
        raise click.UsageError("Give either RUN, or both --predictions and --truth.")
    _show(result)


@click.command()
@click.argument("run", type=RUN)
@click.option(
    "--data",
    type=DATA,
    multiple=True,
    help="Where the data lies that RUN was trained on; of several, each in turn  "
    "[default: where it was]",
)
@click.option(
    "--method",
    type=click.Choice(SCALING_METHODS),
    default="none",
    show_default=True,
    help="How to scale the outputs: not at all, with one slope for all labels, or with a slope "
    "and a shift for each label.",
)
@click.option(
    "--sensitivity",
    type=click.FloatRange(0, 1, min_open=True),
    help="Choose the highest thresholds with at least this sensitivity  "
    "[default: thresholds of maximum F1]",
)
@click.option(
    "--prevalence",
    type=CSV,
    metavar="TABLE|FILE",
    help="Move probabilities and thresholds to the prevalence of this label table in NIH's layout, "
    "or of this CSV with the columns label and prevalence. Assumed: images with a label look the "
    "same there, and those without it, too; only how often it occurs differs.",
)
@click.option(
    "--guarantee",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Make label sets that hold at least this share of a patient's findings on average, for "
    "patients like those of the validation split; predict then names each image's set.",
)
@resamples_option
@device_option
@needs_keras
def calibrate(run: Path, **options: Any) -> None:
    """Choose thresholds and scaling for RUN anew, on its validation split.

    They are stored in model.keras, the scaling as a layer; then the test split is evaluated again.
    All files change together or not at all.

    \b
    Examples:
      cxr-keras calibrate saved_models/alexnet_custom-ep30-lr0.0005 --sensitivity 0.9
      cxr-keras calibrate saved_models/alexnet_custom-ep30-lr0.0005 --method platt \\
        --prevalence my_hospital.csv
      cxr-keras calibrate saved_models/alexnet_custom-ep30-lr0.0005 --guarantee 0.9
    """
    from cxr_keras.evaluation.recalibration import calibrate as run_calibration

    _show(run_calibration(run, **options))


@click.command()
@click.argument("run_a", type=RUN)
@click.argument("run_b", type=RUN)
@click.option(
    "--resamples",
    type=click.IntRange(min=1),
    default=RESAMPLES,
    show_default=True,
    help="How often the bootstrap draws the patients anew.",
)
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the table to this file, too.",
)
@needs_keras
def compare(run_a: Path, run_b: Path, resamples: int, csv_file: Path | None) -> None:
    """Test whether RUN_B is better than RUN_A on the same images, or the difference is chance.

    RUN_A and RUN_B are run folders or CSVs of predictions with truth. The difference is B − A,
    with a 95% interval and a p-value from a bootstrap over patients, paired.

    \b
    Example:
      cxr-keras compare saved_models/alexnet_custom-ep30-lr0.001 \\
        saved_models/alexnet_custom-ep30-lr0.0005
    """
    from cxr_keras.cli.tables import comparison_table
    from cxr_keras.evaluation.comparison import compare as run_comparison
    from cxr_keras.utils.files import write_table

    table = run_comparison(run_a, run_b, resamples=resamples)
    click.echo(f"A: {run_a}\nB: {run_b}\n")
    click.echo(comparison_table(table))
    if csv_file is not None:
        write_table(table, csv_file)


@click.command()
@click.argument("runs", type=RUN, nargs=-1, required=True)
@click.option("--name", required=True, help="Name of the new run folder.")
@click.option(
    "--weighted",
    is_flag=True,
    help="Weight the runs by their AUROC on the validation split, not equally.",
)
@output_dir_option
@resamples_option
@device_option
@needs_keras
def ensemble(runs: tuple[Path, ...], **options: Any) -> None:
    """Average RUNS, trained on the same split, into one network in a run folder of its own.

    \b
    Example:
      cxr-keras ensemble saved_models/alexnet_custom-* --name alexnet_custom-both
    """
    from cxr_keras.evaluation.ensembling import ensemble as run_ensemble

    _show(run_ensemble(runs, **options))


def _show(result: Any) -> None:
    """An evaluation on stdout, where its files are on stderr."""
    from cxr_keras.cli import tables

    found = result.assessment
    click.echo(tables.metrics_table(found.metrics))
    click.echo(f"\nLoss: {found.loss:.4f}. {tables.assessment_sentences(found)}")
    click.echo(f"\n{tables.frame_table(found.example_based.drop(columns='meaning'))}")
    if not found.subgroups.empty:
        click.echo(f"\n{tables.subgroup_overview(found)}")
    if result.own_labels is not None:
        click.echo("\nThe data set's own labels against the same truth:\n")
        click.echo(tables.own_labels_table(result.own_labels))
    if result.prevalence is not None:
        shown = result.prevalence.rename(columns={"training_prevalence": "in training"})
        click.echo(f"\n{tables.frame_table(shown)}")
    for part in filter(None, ["\n".join(result.about), result.notice]):
        click.echo(f"\n{part}")
    click.echo(f"Tables in {result.folder}", err=True)
