"""The command line: parse, call, print. Keras is imported only inside commands that need it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from cxr_keras import __version__
from cxr_keras.cli_options import (
    FOLDER,
    Group,
    data_option,
    fine_tune_blocks,
    sampling_options,
)
from cxr_keras.errors import CxrError

LONGEST_NAME = 40


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cxr-keras")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Train, evaluate and use multi-label chest X-ray classifiers.

    DATA is a folder in NIH ChestX-ray14's layout. Without it: $CXR_KERAS_DATA, then ./data/nih,
    then built-in phantoms (synthetic drawings). For research and teaching; no medical device.

    \b
    Example:
      cxr-keras train alexnet_custom --epochs 30 --lr 0.0005
    """


@main.command()
@click.argument("dest", type=FOLDER)
@click.option("--count", type=click.IntRange(min=1), default=256, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=7, show_default=True)
def phantom(dest: Path, count: int, seed: int) -> None:
    """Draw synthetic radiographs into DEST, in NIH's layout.

    Each of the 14 findings is drawn as its own sign, with exact boxes. They are drawings: what
    a network scores on them says nothing about patients.

    \b
    Example:
      cxr-keras phantom phantoms --count 100
    """
    from cxr_keras.data.phantom import NOTICE, write_phantoms

    folder = write_phantoms(dest, count=count, seed=seed)
    click.echo(f"{count} phantoms in {folder}. {NOTICE}", err=True)


@main.command()
@click.argument("dest", type=FOLDER)
@click.option("--archives", help="Which of the 12, such as 1,3-5  [default: all]")
@click.option("--metadata-only", is_flag=True, help="Only the label table and the split lists.")
@click.option("--keep-archives", is_flag=True, help="Keep each archive beside its images.")
def download(dest: Path, archives: str | None, metadata_only: bool, keep_archives: bool) -> None:
    """Fetch NIH ChestX-ray14 (42 GB in 12 archives) into DEST.

    Resumes where it stopped, checks sizes and MD5s, unpacks safely; what is done is not fetched
    again. $CXR_KERAS_NIH_URL and $CXR_KERAS_NIH_METADATA_URL name mirrors.

    \b
    Example:
      cxr-keras download data/nih --archives 1,3-5
    """
    from cxr_keras.data.download import download as fetch_nih

    if metadata_only and (archives or keep_archives):
        raise click.UsageError("--metadata-only fetches no archives; leave the other options out.")
    folder = fetch_nih(
        dest, archives=archives, metadata_only=metadata_only, keep_archives=keep_archives
    )
    click.echo(f"Ready: {folder}", err=True)


@main.command()
@click.argument("data", type=FOLDER, required=False)
@sampling_options
@click.option("--allow-missing", is_flag=True, help="Plan on the label table, without images.")
@click.option("--out", type=FOLDER, help="Folder for manifest.csv  [default: in the cache]")
def prepare(data: Path | None, allow_missing: bool, out: Path | None, **recipe: Any) -> None:
    """Choose images, split them and decode each once.

    Writes manifest.csv and the pixel store; prints the sizes, the labels of each split and how
    many patients two splits share.

    \b
    Example:
      cxr-keras prepare data/nih --split patient
    """
    from cxr_keras.data import preparation, sampling
    from cxr_keras.tables import frame_table

    done = preparation.prepare(data, allow_missing=allow_missing, out=out, **recipe)
    click.echo(f"{len(done.manifest):,} images: {sampling.describe_sizes(done.manifest)}\n")
    click.echo(frame_table(sampling.label_counts(done.manifest)))
    shared = sampling.shared_patients(done.manifest)
    pairs = ", ".join(f"{pair} {number:,}" for pair, number in shared.items())
    if any(shared.values()):
        click.echo(f"\nPatients on both sides: {pairs}. Use --split patient to keep them apart.")
    else:
        click.echo("\nNo patient is on two sides.")
    click.echo(f"Manifest: {done.folder / preparation.MANIFEST}", err=True)
    if done.store is not None:
        click.echo(f"Pixel store: {done.store.folder}", err=True)


@main.command()
def models() -> None:
    """List the networks: parameters, pretrained weights, blocks for --fine-tune, source.

    \b
    Example:
      cxr-keras models
    """
    from cxr_keras.models.registry import count_parameters, list_models
    from cxr_keras.tables import text_table

    rows = []
    for spec in list_models():
        try:
            size = f"{count_parameters(spec.name):,}"
        except CxrError:
            size = "–"  # needs an extra that is not installed
        rows.append((spec.name, spec.default_weights, spec.source, size, str(len(spec.blocks))))
    header = ("name", "weights", "source", "parameters", "blocks")
    click.echo(text_table(rows, header, left=3))


@main.command()
@click.argument("model")
@data_option
@click.option("--epochs", type=click.IntRange(min=1), default=30, show_default=True)
@click.option(
    "--lr",
    type=click.FloatRange(min=0, min_open=True),
    default=0.0005,
    show_default=True,
    help="Learning rate of Adam.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True)
@click.option(
    "--loss",
    type=click.Choice(["bce", "bce_logits", "weighted_bce", "focal", "asymmetric"]),
    default="bce",
    show_default=True,
    help="The last three make a network say yes to rare findings sooner.",
)
@click.option(
    "--weights",
    help="imagenet, none, or a torchvision .pth  [default: imagenet where there are any]",
)
@click.option(
    "--fine-tune",
    is_flag=False,
    flag_value="all",
    metavar="[N]",
    callback=fine_tune_blocks,
    help="Train pretrained weights too: all of them, or the last N blocks.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "mixed_bfloat16", "mixed_float16"]),
    default="float32",
    show_default=True,
    help="Mixed precision is for GPUs, which are used without being told.",
)
@sampling_options
@click.option("--name", help="Of the run folder  [default: MODEL-epEPOCHS-lrLR]")
@click.option(
    "--output-dir",
    "folder",
    type=click.Path(file_okay=False),
    default="saved_models",
    show_default=True,
    help="Where run folders lie.",
)
@click.option(
    "--checkpoint-every",
    type=click.IntRange(min=1),
    help="Epochs between checkpoints  [default: as often as costs 5% of the time]",
)
@click.option(
    "--feature-cache/--no-feature-cache",
    default=True,
    help="Run a frozen part once per image, not once per epoch  [default: yes]",
)
@click.option("--overwrite", is_flag=True, help="Replace a run folder of the same name.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
def train(model: str, data: Path | None, **settings: Any) -> None:
    """Train MODEL, keep its best epoch, evaluate it on the test split.

    \b
    Examples:
      cxr-keras train alexnet_custom --epochs 30 --lr 0.0005
      cxr-keras train alexnet_custom --data data/nih --split patient
      cxr-keras train resnet18 --data data/nih --loss asymmetric --fine-tune 2
    """
    from cxr_keras.tables import metrics_table
    from cxr_keras.training import train as run_training

    run = run_training(model, data, **settings)
    click.echo(metrics_table(run.metrics))
    loss = run.info["loss"]
    click.echo(
        f"\nLoss: {loss['train']:.4f} train, {loss['val']:.4f} val (epoch "
        f"{run.info['best_epoch']}, kept), {loss['test']:.4f} test."
    )
    if run.info["notice"]:
        click.echo(run.info["notice"])
    click.echo(f"Run folder: {run.folder}", err=True)


@main.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@data_option
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test", "all"]),
    default="test",
    show_default=True,
)
@click.option(
    "--thresholds",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="A label is called at or above this probability.",
)
@click.option(
    "--predictions",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Measure this CSV of prob_<label> columns instead of running a network.",
)
@click.option(
    "--truth",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="NIH's label table, for --predictions.",
)
@click.option("--out", type=FOLDER, help="Folder for the tables  [default: beside the model]")
def evaluate(
    run: Path | None,
    data: Path | None,
    split: str,
    thresholds: float,
    predictions: Path | None,
    truth: Path | None,
    out: Path | None,
) -> None:
    """Measure RUN (a run folder or .keras file) on a split, label by label.

    The table goes to stdout; predictions.csv and metrics.csv go beside the model.

    \b
    Examples:
      cxr-keras evaluate saved_models/alexnet_custom-ep30-lr0.0005
      cxr-keras evaluate --predictions P.csv --truth Data_Entry_2017_v2020.csv
    """
    from cxr_keras import evaluation
    from cxr_keras.tables import metrics_table

    if predictions is not None and truth is not None and run is None:
        result = evaluation.evaluate_predictions(predictions, truth, threshold=thresholds, out=out)
    elif run is not None and predictions is None and truth is None:
        result = evaluation.evaluate(run, data, split=split, threshold=thresholds, out=out)
    else:
        raise click.UsageError("Give either RUN, or both --predictions and --truth.")
    click.echo(metrics_table(result.metrics))
    click.echo(f"\nLoss: {result.loss:.4f} on {len(result.predictions):,} images.")
    if result.notice:
        click.echo(result.notice)
    click.echo(f"Tables in {result.folder}", err=True)


@main.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.option("--heatmaps", type=FOLDER, help="Write Grad-CAM overlays into this folder.")
def predict(
    run: Path, paths: tuple[Path, ...], csv_file: Path | None, as_json: bool, heatmaps: Path | None
) -> None:
    """Predict images, and all images in folders, with RUN (a run folder or .keras file).

    A file that cannot be read is a row with its error, and the exit code is then 1.

    \b
    Example:
      cxr-keras predict saved_models/alexnet_custom-ep30-lr0.0005 my_xrays/ --csv findings.csv
    """
    from cxr_keras import prediction
    from cxr_keras.artifacts import read_card
    from cxr_keras.paths import atomic_file
    from cxr_keras.tables import text_table

    rows = prediction.predict(run, paths, heatmaps=heatmaps)
    if csv_file is not None:
        csv_file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(csv_file) as temporary:
            frame = prediction.to_frame(rows, read_card(run).labels)
            frame.to_csv(temporary, index=False, float_format="%.6g")
    if as_json:
        click.echo(json.dumps(prediction.to_records(rows), indent=1))
    else:
        cells = [_prediction_cells(row) for row in rows]
        click.echo(text_table(cells, ("image", "findings called"), left=2))
    bad = sum(bool(row.error) for row in rows)
    if bad:
        click.echo(f"{bad} of {len(rows)} files could not be read.", err=True)
        sys.exit(1)


def _prediction_cells(row: Any) -> tuple[str, str]:
    name = str(row.path)
    if len(name) > LONGEST_NAME:
        name = f"…{name[-LONGEST_NAME + 1 :]}"
    if row.error:
        return name, f"not read: {row.error.removeprefix(f'{row.path}: ')}"
    if row.findings:
        return name, ", ".join(f"{label} {row.probabilities[label]:.2f}" for label in row.findings)
    top = max(row.probabilities, key=lambda label: row.probabilities[label])
    return name, f"none (highest: {top} {row.probabilities[top]:.2f})"
