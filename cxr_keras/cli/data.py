"""Commands that get, look at and prepare data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cxr_keras.cli.options import FOLDER, framing_options, sampling_options
from cxr_keras.cli.source_options import DATA, reading_options
from cxr_keras.data.options import (
    CHESTMNIST_SIZE,
    CHESTMNIST_SIZES,
    DOWNLOADS,
    PHANTOM_COUNT,
    PHANTOM_SEED,
)


@click.command()
@click.argument("dest", type=FOLDER)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=PHANTOM_COUNT,
    show_default=True,
    help="How many images to draw.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=PHANTOM_SEED,
    show_default=True,
    help="Another seed draws other images.",
)
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


@click.command()
@click.argument("dest", type=FOLDER)
@click.option(
    "--set",
    "data_set",
    type=click.Choice(DOWNLOADS),
    default=DOWNLOADS[0],
    show_default=True,
    help="Which data set: NIH ChestX-ray14 (42 GB), or ChestMNIST, the same films scaled down.",
)
@click.option("--archives", help="NIH: which of the 12 archives, such as 1,3-5  [default: all]")
@click.option(
    "--metadata-only", is_flag=True, help="NIH: fetch only the label table and the split lists."
)
@click.option("--keep-archives", is_flag=True, help="NIH: keep each archive beside its images.")
@click.option(
    "--size",
    type=click.Choice([str(size) for size in CHESTMNIST_SIZES]),
    help=f"ChestMNIST: pixels a side; 80 MB, 0.4, 1.4 or 3.9 GB  [default: {CHESTMNIST_SIZE}]",
)
def download(
    dest: Path,
    data_set: str,
    archives: str | None,
    metadata_only: bool,
    keep_archives: bool,
    size: str | None,
) -> None:
    """Fetch NIH ChestX-ray14 (42 GB in 12 archives) or ChestMNIST (one file) into DEST.

    Resumes where it stopped, checks the size and digest of each file, unpacks safely; what is done
    is not fetched again. $CXR_KERAS_NIH_URL, $CXR_KERAS_NIH_METADATA_URL and
    $CXR_KERAS_CHESTMNIST_URL name mirrors.

    \b
    Examples:
      cxr-keras download data/nih --archives 1,3-5
      cxr-keras download data/chestmnist --set chestmnist --size 64
    """
    if metadata_only and (archives or keep_archives):
        raise click.UsageError("--metadata-only fetches no archives; leave the other options out.")
    if data_set == DOWNLOADS[0]:
        from cxr_keras.data.download.nih import download as fetch_nih

        if size:
            raise click.UsageError("--size belongs to --set chestmnist; NIH's films have one size.")
        ready = fetch_nih(
            dest, archives=archives, metadata_only=metadata_only, keep_archives=keep_archives
        )
    else:
        from cxr_keras.data.download.chestmnist import download as fetch_chestmnist

        if archives or metadata_only or keep_archives:
            raise click.UsageError(
                "--archives, --metadata-only and --keep-archives belong to --set nih; ChestMNIST "
                "is one file."
            )
        ready = fetch_chestmnist(dest, size=int(size or CHESTMNIST_SIZE))
    click.echo(f"Ready: {ready}", err=True)


@click.command()
@click.argument("data", type=DATA, required=False)
@reading_options
@sampling_options("--seed")
@framing_options
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Choose and split by the label table alone; decode nothing.",
)
@click.option("--out", type=FOLDER, help="Folder for manifest.csv  [default: in the cache]")
def prepare(data: Path | None, data_seed: int, **options: Any) -> None:
    """Choose images, split them, and decode each of them once.

    Writes manifest.csv and the pixel store; prints the sizes, the labels of each split and how
    many patients two splits share.

    \b
    Example:
      cxr-keras prepare data/nih --split-method patient
    """
    from cxr_keras.cli.tables import frame_table
    from cxr_keras.data import preparation, splits
    from cxr_keras.data.reading import Reading

    reading, options = Reading.of(options)
    done = preparation.prepare(data, reading=reading, seed=data_seed, **options)
    click.echo(f"{len(done.manifest):,} images: {splits.describe_sizes(done.manifest)}\n")
    click.echo(frame_table(splits.label_counts(done.manifest, done.labels.names)))
    shared = splits.shared_patients(done.manifest)
    pairs = ", ".join(f"{pair} {number:,}" for pair, number in shared.items())
    if any(shared.values()):
        click.echo(
            f"\nPatients in two splits: {pairs}. Use --split-method patient to keep them apart."
        )
    else:
        click.echo("\nNo patient is in two splits.")
    click.echo(f"Manifest: {done.folder / preparation.MANIFEST}", err=True)
    if done.store is not None:
        click.echo(f"Pixel store: {done.store.folder}", err=True)


@click.command()
@click.argument("data", type=DATA, required=False)
@reading_options
@click.option("--out", type=FOLDER, help="Folder for the files  [default: explore-<name of DATA>]")
@click.option(
    "--all-rows/--on-disk",
    default=True,
    help="Every row of the label table, or only those with an image  [default: all rows]",
)
def explore(data: Path | None, out: Path | None, all_rows: bool, **reading: Any) -> None:
    """Count the labels of DATA, alone and together, and its patients by age, sex and view.

    The tables go to stdout and, with the figures as PNG and SVG, into a folder. The label table
    is enough; no image is opened.

    \b
    Example:
      cxr-keras explore data/nih --out nih-explored
    """
    from cxr_keras.cli.tables import frame_table
    from cxr_keras.data import exploration
    from cxr_keras.data.phantom import NOTICE

    found = exploration.explore(data, on_disk=not all_rows, out=out, **reading)
    if found.phantoms:
        click.echo(f"{NOTICE}\n")
    click.echo(
        f"{found.images:,} images of {found.patients:,} patients; "
        f"{found.multiple_share:.1%} of the images have more than one finding.\n"
    )
    click.echo(frame_table(found.labels))
    if not found.people.empty:
        click.echo(f"\n{frame_table(found.people, left=2)}")
    for name in exploration.FILES:
        click.echo(f"Written: {found.folder / name}", err=True)


@click.group()
def cache() -> None:
    """Show or empty the cache folder: phantoms, decoded pixels, features, manifests.

    All of it is made again when it is needed. $CXR_KERAS_CACHE moves the folder.

    \b
    Example:
      cxr-keras cache list
    """


@cache.command("list")
def cache_list() -> None:
    """List what lies in the cache, with its size and when it was last used.

    \b
    Example:
      cxr-keras cache list
    """
    from cxr_keras.cli.tables import text_table
    from cxr_keras.data.cache import list_cache, total_size
    from cxr_keras.utils.files import cache_folder

    entries = list_cache()
    root = cache_folder()
    rows = [
        (_what(entry), str(entry.folder.relative_to(root)), _size(entry.size), _age(entry.days))
        for entry in entries
    ]
    rows.append(("total", "", _size(total_size(entries)), ""))
    click.echo(text_table(rows, ("what", "folder", "size", "last used"), left=2))
    click.echo(f"Cache folder: {root}", err=True)


@cache.command("clear")
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    default=0.0,
    help="Delete only what was last used more than DAYS ago.",
)
def cache_clear(older_than: float) -> None:
    """Delete what lies in the cache, and say what was freed.

    What another process is making is left, and so is every file that is not this program's.

    \b
    Examples:
      cxr-keras cache clear
      cxr-keras cache clear --older-than 30
    """
    from cxr_keras.data.cache import clear_cache, total_size

    deleted = clear_cache(older_than)
    for entry in deleted:
        click.echo(f"Deleted: {entry.folder} ({entry.what}, {_size(entry.size)})", err=True)
    click.echo(f"Freed {_size(total_size(deleted))} ({len(deleted):,} folders).")


def _what(entry: Any) -> str:
    """What something in the cache is; of a pixel store also how large its images are."""
    return f"{entry.what} ({entry.framing})" if entry.framing else str(entry.what)


def _size(count: int) -> str:
    """Bytes for people."""
    number, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    return f"{number:.3g} {unit}"


def _age(days: float) -> str:
    whole = int(days)
    return "today" if not whole else f"{whole} day{'s' * (whole > 1)} ago"
