"""A prediction in parts, for job arrays: `predict --shard 3/16`, and `merge` of what they wrote.

Every job is given the same images and takes its share of them. A part's CSV says in two more
columns which place each row has and of how many, so that nothing is lost or doubled unseen.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from cxr_keras.errors import DataError
from cxr_keras.utils.arguments import PathLike, as_paths
from cxr_keras.utils.files import atomic_file, make_parent

Item = TypeVar("Item")
PLACE, TOTAL = "place", "of"


def parse_shard(text: str) -> tuple[int, int]:
    """Part and number of parts that a text such as "3/16" names.

    Raises:
        DataError: it is something else, or there is no such part.
    """
    found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= part <= parts:
        raise DataError(f"A shard is a part and their number, such as 3/16. Received: {text!r}.")
    return part, parts


def share_of(items: Sequence[Item], shard: str) -> tuple[int, Sequence[Item]]:
    """The items of one part, neighbours together, and how many come before them.

    Args:
        items: all of them, in the same order for every part.
        shard: such as "3/16".
    """
    part, parts = parse_shard(shard)
    start, end = (number * len(items) // parts for number in (part - 1, part))
    return start, items[start:end]


def merge_parts(parts: PathLike | Iterable[PathLike], csv_file: PathLike) -> int:
    """Put the CSVs of all parts together, in the order of the images, as one `predict` wrote them.

    Args:
        parts: what `predict --shard` wrote, in any order.
        csv_file: the whole.

    Returns:
        The number of rows.

    Raises:
        DataError: a part cannot be read, is not one or of other images or labels than the first, or
            a row is missing or there twice.
    """
    header: list[str] = []
    rows: dict[int, list[str]] = {}
    seen: Counter[int] = Counter()
    total = 0
    files = as_paths(parts)
    for file in files:
        names, own = _read(file)
        totals = {int(row[1]) for row in own}
        header, total = header or names, total or max(totals, default=0)
        if names != header or not totals <= {total}:
            raise DataError(
                f"{file} is a part of another whole than {files[0]}: other columns, or another "
                "number of images. Merge the parts of one prediction."
            )
        for row in own:
            rows[int(row[0])] = row[2:]
            seen[int(row[0])] += 1
    _check_whole(seen, total, files)
    target = Path(csv_file)
    make_parent(target)
    with (
        atomic_file(target) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out,
    ):
        lines = csv.writer(out, lineterminator="\n")
        lines.writerow(header[2:])
        lines.writerows(rows[place] for place in sorted(rows))
    return total


def _read(file: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as source:
            names, *rows = list(csv.reader(source))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{file} cannot be read as a table ({error or 'it is empty'}).") from error
    whole = all(
        len(row) == len(names) and row[0].isdecimal() and row[1].isdecimal() for row in rows
    )
    if names[:2] != [PLACE, TOTAL] or not whole:
        raise DataError(
            f"{file} is no part of a prediction: it needs the columns {PLACE} and {TOTAL}, which "
            "`cxr-keras predict --shard` writes."
        )
    return names, rows


def _check_whole(seen: Counter[int], total: int, files: Sequence[Path]) -> None:
    twice = sorted(place for place, count in seen.items() if count > 1)
    missing = [place for place in range(1, total + 1) if place not in seen]
    wrong = [(twice, "there twice"), (missing, "missing")]
    for places, what in wrong:
        if places:
            raise DataError(
                f"Of {total:,} images {len(places):,} are {what}, the first at place "
                f"{places[0]:,}. Name every part once ({len(files)} were named); run a part again "
                "that was cut."
            )
