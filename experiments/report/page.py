"""Tables and figures → one self-contained page: no network, sortable, for phone and print."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from report import paper
from report.figures import Picture
from report.overview import grid_table
from report.results import Report
from report.text import LABEL, Cell, Column, Row, Table, shown, six_digits, with_news

STYLE = Path(__file__).with_name("report.css")
SCRIPT = Path(__file__).with_name("report.js")
TITLE = "cxr-keras: the report's runs, made again"


def page(
    report: Report, tables: Sequence[Sequence[Table]], pictures: Sequence[Picture], figures: Path
) -> str:
    """The whole page.

    Args:
        report: what the rest was made of.
        tables: the tables of each section.
        pictures: in order.
        figures: the folder of their files.
    """
    body = [
        f"<header><h1>{TITLE}</h1>{_introduction(report)}</header>",
        _contents(tables, pictures),
        _section([grid_table(report)], report),
        *(_section(group, report) for group in tables),
        '<div class="figures">',
        *(_figure(picture, figures) for picture in pictures),
        "</div>",
        "<footer><p>Made by <code>python experiments/reproduce.py</code>. For research and "
        "teaching; no medical device.</p></footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{TITLE}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        f"<body>\n{chr(10).join(body)}\n<script>\n{SCRIPT.read_text(encoding='utf-8')}</script>\n"
        "</body>\n</html>\n"
    )


def _introduction(report: Report) -> str:
    done, failed = len(report.results), [p for p in report.plans if p.name in report.failed]
    said = [
        f"{done} of {len(report.plans)} runs are done, {len(failed)} failed. Each number leads to "
        "its run folder, which lies beside this page, and each table is also a CSV and a Markdown "
        "file in tables/.",
        "Tables C11 and C12 of the report (custom ResNet) repeat its C5 and C6 (ResNet18) almost "
        "digit for digit; they are shown as published.",
        _reading(),
        "The numbers answer how well a network repeats NIH's labels, which were mined from "
        "reports by text processing. They are no diagnosis.",
    ]
    if any(result.info["data"]["phantoms"] for result in report.results.values()):
        said.insert(0, "PHANTOMS: synthetic drawings. No number here says anything about patients.")
    failures = "".join(
        f"<li>{escape(plan.name)}: {escape(report.failed[plan.name])}</li>" for plan in failed
    )
    text = "".join(f"<p>{escape(sentence)}</p>" for sentence in said)
    return text + (f"<p>Failed:</p><ul>{failures}</ul>" if failures else "")


def _reading() -> str:
    silent = [name for name, rows in paper.published().items() if not rows["recall"].any()]
    return (
        f'In {", ".join(silent)} of the report the network answers "no" to everything. Always '
        f'answering "no" has an accuracy of {paper.always_no_accuracy():.3f} on the report\'s own '
        f"test split, and the best constant answer a loss of {paper.constant_loss():.3f}: its "
        "accuracies and losses are to be read against these two."
    )


def _contents(tables: Sequence[Sequence[Table]], pictures: Sequence[Picture]) -> str:
    entries = [("grid", "The runs"), *((group[0].name, group[0].title) for group in tables)]
    entries += [(picture.name, picture.title) for picture in pictures]
    links = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in entries)
    return f'<nav aria-label="Contents"><h2>Contents</h2><ul>{links}</ul></nav>'


def _section(group: Sequence[Table], report: Report) -> str:
    parts = [f'<section id="{group[0].name}"><h2>{escape(group[0].title)}</h2>']
    for table, new in with_news(group):
        notes = "".join(f"<li>{_linked(sentence, report)}</li>" for sentence in new)
        parts.append(f'<ul class="notes">{notes}</ul>' if notes else "")
        parts.append(_table(table, report) if table.rows else "")
    return "\n".join([*parts, "</section>"])


def _linked(text: str, report: Report) -> str:
    """Escaped text in which a run folder leads to itself."""
    text = escape(text)
    for result in sorted(report.results.values(), key=lambda result: -len(result.plan.name)):
        place = report.place(result.plan)
        if place in text:
            return text.replace(place, f'<a href="{place}/">{place}</a>')
    return text


def _table(table: Table, report: Report) -> str:
    body = "\n".join(_row(table, row, report) for row in table.rows if row.kind == LABEL)
    foot = "\n".join(_row(table, row, report) for row in table.rows if row.kind != LABEL)
    name = escape(f"{table.title}. {table.caption}")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">'
        f'<table data-name="{table.name}" class="sortable">\n'
        f"<caption>{_linked(table.caption, report)}</caption>\n"
        f"<thead>\n{_header(table.columns)}</thead>\n<tbody>\n{body}\n</tbody>\n"
        f"<tfoot>\n{foot}\n</tfoot>\n</table></div>"
    )


def _header(columns: Sequence[Column]) -> str:
    """Groups above, columns below; a button in each column's header sorts by it."""
    above, below = [], []
    grouped = any(column.group for column in columns)
    place = 0
    for group, members in groupby(columns, key=lambda column: column.group):
        found = list(members)
        heads = [_sort_button(column, place + i, deep=grouped) for i, column in enumerate(found)]
        place += len(found)
        if group:
            name = escape(group)
            above.append(f'<th scope="colgroup" colspan="{len(found)}" class="first">{name}</th>')
            below += heads
        else:
            above += heads
    rows = [above, below] if grouped else [above]
    return "".join(f"<tr>{''.join(cells)}</tr>\n" for cells in rows)


def _sort_button(column: Column, place: int, *, deep: bool) -> str:
    title = escape(column.title or column.group)
    full = escape(f"{column.group} {column.title}".strip())
    span = ' rowspan="2"' if deep and not column.group else ""
    kind = ' class="text"' if column.text else ""
    return (
        f'<th scope="col"{span}{kind} aria-sort="none" data-key="{column.key}" '
        f'data-column="{place}"><button type="button" title="sort by {full}">{title}</button></th>'
    )


def _row(table: Table, row: Row, report: Report) -> str:
    cells = []
    for place, (cell, column) in enumerate(zip(row.cells, table.columns, strict=True)):
        text = _linked(shown(cell, column), report)
        if place == 0:
            anchor = f'<a href="#{text}">{text}</a>'
            named = column.key == "table" and row.kind == LABEL
            cells.append(f'<th scope="row">{anchor if named else text}</th>')
        else:
            first = place and column.group and table.columns[place - 1].group != column.group
            kinds = " ".join(["first"] * bool(first) + ["text"] * column.text)
            kind = f' class="{kinds}"' if kinds else ""
            cells.append(f"<td{kind}{_value(cell)}>{text}</td>")
    return f'<tr class="{row.kind}">{"".join(cells)}</tr>'


def _value(cell: Cell) -> str:
    """The number behind a rounded cell, to sort by."""
    if isinstance(cell, str):
        return ""
    if cell is None or math.isnan(cell):
        return ' data-v=""'
    return f' data-v="{six_digits(cell)}"'


def _figure(picture: Picture, folder: Path) -> str:
    parts = [f'<figure id="{picture.name}"><h2>{escape(picture.title)}</h2>']
    if picture.figure is not None:
        # radiographs as pixels; lines as lines, which stay sharp in print
        suffix, kind = (".png", "png") if picture.name == "examples" else (".svg", "svg+xml")
        content = base64.b64encode((folder / (picture.name + suffix)).read_bytes()).decode("ascii")
        source = f"data:image/{kind};base64,{content}"
        parts.append(f'<img alt="{escape(picture.title)}" src="{source}">')
    caption = " ".join(filter(None, (picture.caption, picture.missing)))
    return "".join([*parts, f"<figcaption>{escape(caption)}</figcaption></figure>"])
