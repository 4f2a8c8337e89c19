"""Predictions, row by row, into a CSV file."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_keras.inference.shards import PLACE, TOTAL
from cxr_keras.runs.card import Card
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import atomic_file, cannot_write, make_parent

if TYPE_CHECKING:
    from cxr_keras.inference.files import Prediction


@contextmanager
def csv_rows(
    target: PathLike | None,
    card: Card,
    header: Sequence[str],
    part: tuple[int, int] | None = None,
    *,
    guarded: bool = False,
) -> Iterator[Callable[[Prediction], None]]:
    """Yield what writes a row. The file gets its name at the end, "partial" in it if cut short.

    Args:
        target: the file; None to write none.
        card: of the network.
        header: those entries of DICOM headers that have a column.
        guarded: whether the network has a guard, whose answers have columns.
        part: (images before it, images in all) of a part, whose rows say their places.
    """
    if target is None:
        yield lambda row: None
        return
    target = Path(target)
    partial = target.with_suffix(f".partial{target.suffix}")
    make_parent(target)
    done = 0
    with atomic_file(target) as temporary:
        try:
            with temporary.open(
                "w", buffering=1, encoding="utf-8", errors="backslashreplace", newline=""
            ) as file:
                lines = csv.writer(file, lineterminator="\n")
                names = [f"prob_{label}" for label in card.labels]
                sets = ["label_set"] if card.guarantee else []
                strange = ["familiarity", "unlike_training"] if guarded else []
                places = [PLACE, TOTAL] if part else []
                lines.writerow(
                    [
                        *places,
                        "path",
                        "findings",
                        *names,
                        *sets,
                        *header,
                        *strange,
                        "warnings",
                        "error",
                    ]
                )

                def write(row: Prediction) -> None:
                    nonlocal done
                    values = [row.probabilities.get(label) for label in card.labels]
                    cells = ["" if value is None else f"{value:.6g}" for value in values]
                    place = [part[0] + done + 1, part[1]] if part else []
                    held = ["|".join(row.label_set or ())] if card.guarantee else []
                    about = [row.header.get(name, "") for name in header]
                    if guarded:
                        known = row.familiarity is not None
                        about += [f"{row.familiarity:.4g}"] if known else [""]
                        about += ["yes" if row.unlike_training else "no"] if known else [""]
                    findings, said = "|".join(row.findings), "; ".join(row.warnings)
                    lines.writerow(
                        [*place, row.path, findings, *cells, *held, *about, said, row.error]
                    )
                    done += 1

                yield write
        except BaseException:
            if done:
                _keep(temporary, partial, _whole_rows(temporary))
            raise
    partial.unlink(missing_ok=True)  # of a try before this one


def _whole_rows(file: Path) -> int:
    """Rows of a table that was cut short; an interrupt may fall between a row and its count."""
    text = file.read_bytes().decode("utf-8", errors="replace")  # a full disk may cut a character
    rows = sum(1 for _ in csv.reader(io.StringIO(text, newline="")))
    return rows - 1 - (not text.endswith("\n"))


def _keep(temporary: Path, partial: Path, rows: int) -> None:
    try:
        os.replace(temporary, partial)
    except OSError as error:
        notice(cannot_write(partial, error))
    else:
        notice(f"{rows:,} rows are kept in {partial}.")
