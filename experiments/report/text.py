"""A table of the report as data, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Cell = str | int | float | None  # None: there is no such number; NaN: it is undefined
LABEL, AVERAGE, BASELINE = "label", "average", "baseline"


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        key: its name in the CSV.
        title, group: its header, and the header over several columns.
        digits: of its numbers on paper; None for as many as they have.
        signed: whether a plus is written.
        text: whether it holds words.
    """

    key: str
    title: str
    group: str = ""
    digits: int | None = 3
    signed: bool = False
    text: bool = False


@dataclass(frozen=True)
class Row:
    """A row, and whether it is a label's (or a run's), an average or a baseline."""

    cells: tuple[Cell, ...]
    kind: str = LABEL


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its files, and its anchor on the page.
        title: above it.
        caption: what its numbers are, and where they come from.
        head: what must be read first, a sentence each.
        columns, rows: its content; averages and baselines last.
    """

    name: str
    title: str
    caption: str
    head: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def to_csv(table: Table) -> str:
    """Six digits a number; undefined is NaN, what does not exist is empty; the head as comments."""
    text = io.StringIO()
    for sentence in filter(None, (table.title, table.caption, *table.head)):
        text.write(f"# {sentence}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.key for column in table.columns])
    for row in table.rows:
        writer.writerow([_exact(cell) for cell in row.cells])
    return text.getvalue()


def to_markdown(tables: Sequence[Table]) -> str:
    """Tables below each other; a sentence that an earlier one said is not said again."""
    lines = [f"# {tables[0].title}", ""]
    for table, new in with_news(tables):
        lines += [f"- {sentence}" for sentence in new] + [""] * bool(new)
        if not table.rows:
            continue
        lines += [f"**{table.caption}**", ""] if table.caption else []
        titles = [f"{column.group} {column.title}".strip() for column in table.columns]
        rules = ["---" if column.text else "---:" for column in table.columns]
        lines += [_line(titles), _line(rules)]
        lines += [_line(shown_row(table, row)) for row in table.rows] + [""]
    return "\n".join(lines)


def with_news(tables: Sequence[Table]) -> Iterator[tuple[Table, list[str]]]:
    """Each table with the sentences of its head that none before it said."""
    said: set[str] = set()
    for table in tables:
        yield table, [sentence for sentence in table.head if sentence not in said]
        said.update(table.head)


def shown_row(table: Table, row: Row) -> list[str]:
    """A row's cells as a person reads them."""
    return [shown(cell, column) for cell, column in zip(row.cells, table.columns, strict=True)]


def shown(cell: Cell, column: Column) -> str:
    """A cell as a person reads it."""
    if cell is None:
        return ""
    if isinstance(cell, float):
        if math.isnan(cell):
            return "–"
        if column.digits is None:
            return f"{cell:g}"
        rounded = round(cell, column.digits) or 0.0  # no minus before a zero
        sign = "+" if column.signed and rounded else ""
        return f"{rounded:{sign}.{column.digits}f}".replace("-", "−")
    return f"{cell:,}" if isinstance(cell, int) else cell


def six_digits(number: float) -> str:
    """Six digits after the point at most, as the report's numbers have."""
    text = f"{number:.6f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _exact(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return "NaN" if math.isnan(cell) else six_digits(cell)
    return str(cell)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
