"""Label tables as somebody may have saved them, and what only looks like one."""

from __future__ import annotations

import csv
import io
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from helpers.fuzzing import apply_all, assert_sentence, confined, edits, fuzz, gzipped
from helpers.label_names import CELL, IMAGE, PATIENT, meaning, misspelt
from hypothesis import example, given
from hypothesis import strategies as st

from cxr_keras.data.labels import LABELS, NO_FINDING
from cxr_keras.data.multi_hot import decode, encode
from cxr_keras.data.readers.nih import read_label_table
from cxr_keras.errors import DataError

OPTIONAL = ("Follow-up #", "Patient Age", "Patient Gender", "View Position")
FOREIGN = ("Notes", "OriginalImage[Width", "Height]")
# few images, so that many are listed twice; no two are read alike, whatever the encoding
NAMES = ["00000001_000.png", "00000002_000.png", "3.png", "NA", "1e3", "a,b.png", 'a"b.png', ""]
image_names = st.sampled_from([*NAMES, "Röntgen.png", "Brust – seitlich.png"])
words = st.sampled_from(["", "0", "058Y", "M", "null", "x, y", "two\nlines", 'a "b"', "Größe"])
names = misspelt(*LABELS) | st.sampled_from(
    ["Infiltrate", "Fracture", "Mass.", "nan", "NA", "", " "]
)
label_cells = st.lists(names, max_size=4).map("|".join)


@dataclass(frozen=True)
class TableFile:
    """A label table as somebody may have saved it."""

    columns: list[str]
    rows: list[dict[str, str]]
    content: bytes
    ending: str


def pad(text: str, around: str) -> str:
    return around + text + around


@st.composite
def table_files(draw: st.DrawFn) -> TableFile:
    present = [name for name in OPTIONAL + FOREIGN if draw(st.booleans())]
    columns = draw(st.permutations([IMAGE, CELL, PATIENT, *present]))
    cells = dict.fromkeys(columns, words) | {IMAGE: image_names, CELL: label_cells}
    rows = draw(st.lists(st.fixed_dictionaries(cells), max_size=12))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    quoting = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
    around, short = draw(st.sampled_from(["", " ", "\t"])), draw(st.booleans())
    buffer = io.StringIO()
    writer = csv.writer(
        buffer, quoting=quoting, lineterminator=draw(st.sampled_from(["\n", "\r\n"]))
    )
    writer.writerow(
        [pad(name.replace(" ", draw(st.sampled_from([" ", "  "]))), around) for name in columns]
    )
    for row in rows:
        values = [pad(row[name], around) for name in columns]
        while short and len(values) > 1 and not values[-1]:
            values.pop()
        writer.writerow(values)
    content = buffer.getvalue().encode(encoding)
    ending = draw(st.sampled_from([".csv", ".csv.gz"]))
    return TableFile(columns, rows, gzipped(content) if ending.endswith(".gz") else content, ending)


def slow_table(rows: list[dict[str, str]]) -> tuple[dict[str, set[str]], Counter[str]]:
    """The rules at the head of `nih.py`, row by row: image → labels, and what was said."""
    listed: dict[str, list[set[str]]] = {}
    said: Counter[str] = Counter()
    for row in rows:
        image = row[IMAGE].strip()
        if not image:
            continue
        parts = [part.strip() for part in row[CELL].split("|") if part.strip()]
        labels = {meaning(part) for part in parts} - {None}
        if not labels:
            said["have only unknown labels" if parts else "have an empty label cell"] += 1
            continue
        if NO_FINDING in labels and len(labels) > 1:
            labels.remove(NO_FINDING)
            said["say No Finding beside a finding"] += 1
        listed.setdefault(image, []).append(labels)
    kept = {}
    for image, versions in listed.items():
        if any(labels != versions[0] for labels in versions):
            said["are listed with different labels"] += 1
            continue
        kept[image] = versions[0]
        said["are listed more than once"] += len(versions) > 1
    return kept, said


def plain_table(
    *rows: str, header: str = f"{IMAGE},{CELL},{PATIENT}", code: str = "utf-8"
) -> bytes:
    return "\n".join([header, *rows, ""]).encode(code)


@fuzz(
    given(table_files()),
    # FOUND: what Excel saves as "CSV" is Windows-1252; it was read as Latin-1
    example(
        TableFile(
            [IMAGE, CELL, PATIENT],
            [{IMAGE: "Brust – seitlich.png", CELL: "Mass", PATIENT: "1"}],
            plain_table("Brust – seitlich.png,Mass,1", code="cp1252"),
            ".csv",
        )
    ),
    cost=2,
)
def test_a_label_table_is_read_by_the_rules(file):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "Data_Entry_2017" + file.ending)
        source.write_bytes(file.content)
        with confined() as escaped:
            table, notices = read_label_table(source)
    kept, said = slow_table(file.rows)
    cells = dict(zip(table[IMAGE], table[CELL], strict=True))
    assert len(cells) == len(table)
    assert {image: set(cell.split("|")) for image, cell in cells.items()} == kept
    assert all(cell == decode(encode(cell.split("|"))) for cell in cells.values())
    assert set(table.columns) == set(file.columns) - set(FOREIGN)
    whose = {
        (name := row[IMAGE].strip(), row[PATIENT].strip() or f"unknown {name}") for row in file.rows
    }
    patients = list(zip(table[IMAGE], table[PATIENT], strict=True))
    assert set(patients) <= whose
    text = " ".join(notices)
    said["have no Patient ID"] = sum(who == f"unknown {image}" for image, who in patients)
    for what, count in said.items():
        assert (f"{count:,} images {what}" in text) == (count > 0)
    assert all(notice.endswith(".") for notice in notices)
    assert not [str(warning.message) for warning in escaped]


almost_tables = st.one_of(
    st.binary(max_size=200),
    st.text(',"|\n\r \0Ma\u00e9', max_size=60).map(lambda text: plain_table(text)),
    st.text(max_size=60).map(lambda text: plain_table(text, code="utf-16")),
    st.lists(st.text(', "\nPID', max_size=3), min_size=1, max_size=3).map(
        lambda more: plain_table("1.png,Mass,1", header=f"{IMAGE},{CELL},{PATIENT}" + "".join(more))
    ),
    st.builds(apply_all, table_files().map(lambda f: f.content), st.lists(edits, max_size=4)),
)


@fuzz(
    given(almost_tables | almost_tables.map(gzipped), st.sampled_from([".csv", ".csv.gz"])),
    # FOUND: an AttributeError, a zlib.error, a warning, and a sentence broken in two
    example(plain_table("1.png,Mass,1,2", header=f"{IMAGE},{CELL},{PATIENT}, {IMAGE}"), ".csv"),
    example(gzipped(b"")[:10] + b"\xff" * 20, ".csv.gz"),
    example(plain_table("1.png,Mass,1,2"), ".csv"),
    example(plain_table("1.png,Mass,1", "2.png,Mass,1,2"), ".csv"),
    cost=2,
)
def test_any_bytes_are_a_label_table_or_a_sentence(content, ending):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "Data_Entry_2017_v2020" + ending)
        source.write_bytes(content)
        with confined() as escaped:
            try:
                table, _ = read_label_table(source)
            except DataError as error:
                assert_sentence(error, source)
            else:
                assert table[IMAGE].is_unique
                assert {part for cell in table[CELL] for part in cell.split("|")} <= set(LABELS)
    assert not [str(warning.message) for warning in escaped]
