"""A small document of headings, sentences and tables, as Markdown and as one HTML page."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #8888; padding: .25rem .75rem; text-align: left; }
td:not(:first-child) { font-variant-numeric: tabular-nums; }
"""


@dataclass(frozen=True)
class Table:
    """Rows of texts under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Document:
    """A title, and sections one after the other.

    Attributes:
        title: of the whole.
        sections: heading → what stands below it: sentences and tables.
    """

    title: str
    sections: dict[str, list[str | Table]] = field(default_factory=dict)

    def add(self, heading: str, *parts: str | Table) -> None:
        """Add a section; empty sentences and tables without rows are left out, and so is it."""
        kept = [part for part in parts if (part.rows if isinstance(part, Table) else part)]
        if kept:
            self.sections[heading] = kept

    def to_markdown(self) -> str:
        """The document as Markdown with tables."""
        blocks = [f"# {_escaped(self.title)}"]
        for heading, parts in self.sections.items():
            blocks.append(f"## {_escaped(heading)}")
            for part in parts:
                if isinstance(part, Table):
                    lines = [part.header, ["---"] * len(part.header), *part.rows]
                    cells = [" | ".join(map(_escaped, line)) for line in lines]
                    blocks.append("\n".join(f"| {line} |" for line in cells))
                else:
                    blocks.append(_escaped(part))
        return "\n\n".join(blocks) + "\n"

    def to_html(self) -> str:
        """The document as one page, which fetches nothing."""
        title = html.escape(self.title)
        blocks = [f"<h1>{title}</h1>"]
        for heading, parts in self.sections.items():
            blocks.append(f"<h2>{html.escape(heading)}</h2>")
            for part in parts:
                if isinstance(part, Table):
                    head = _html_row(part.header, "th")
                    body = "\n".join(_html_row(row, "td") for row in part.rows)
                    blocks.append(
                        f"<table>\n<thead>\n{head}\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>"
                    )
                else:
                    blocks.append(f"<p>{html.escape(part)}</p>")
        body = "\n".join(blocks)
        return (
            f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>\n'
            f"<style>{_STYLE}</style>\n<body>\n{body}\n</body>\n</html>\n"
        )


def _html_row(cells: Sequence[str], kind: str) -> str:
    return f"<tr>{''.join(f'<{kind}>{html.escape(cell)}</{kind}>' for cell in cells)}</tr>"


def _escaped(text: str) -> str:
    """A text in which Markdown reads nothing but the text."""
    escaped = re.sub(r"([\\`*|<>\[\]]|^#)", r"\\\1", text)
    return escaped.replace("\n", " ")
