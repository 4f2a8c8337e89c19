import gzip

import pytest
from helpers.data_folders import write_table
from helpers.refusals import refusal

from cxr_keras.data.readers.csv_files import find_table, has_columns, label_values, read_columns

CONTENT = "name,two  words,x\n a ,1,\nb,,-1.0\n"


def test_a_plain_table_comes_before_a_packed_one_and_the_first_name_before_the_second(tmp_path):
    assert find_table(tmp_path, "a.csv", "b.csv") is None
    for name in ("b.csv", "a.csv.gz", "a.csv"):
        (tmp_path / name).write_bytes(b"")
        assert find_table(tmp_path, "a.csv", "b.csv") == tmp_path / name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_first_line_is_recognised_however_it_is_written(tmp_path, encoding, packed):
    content = CONTENT.replace("x\n", "Größe\r\n", 1).encode(encoding)
    source = tmp_path / ("a.csv.gz" if packed else "a.csv")
    source.write_bytes(gzip.compress(content) if packed else content)
    assert has_columns(source, "name", "two words")
    assert not has_columns(source, "name", "three words")


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"\x89PNG\r\n\0\0", b'"name,', b"\n\n"])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
def test_what_is_no_table_is_not_recognised(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert not has_columns(tmp_path / name, "name")
    assert not has_columns(None, "name")
    assert not has_columns(tmp_path / "absent.csv", "name")


def test_some_columns_without_blanks_around_their_cells(tmp_path):
    (tmp_path / "a.csv").write_text(CONTENT)
    table = read_columns(tmp_path / "a.csv", "x", "name", "two words")
    assert list(table.columns) == ["x", "name", "two words"]
    assert table.to_numpy().tolist() == [["", "a", "1"], ["-1.0", "b", ""]]


def test_a_column_that_is_missing_is_named_with_those_that_are_there(tmp_path):
    (tmp_path / "a.csv").write_text(CONTENT)
    assert refusal(read_columns, tmp_path / "a.csv", "name", "view") == (
        f"{tmp_path / 'a.csv'} lacks the column 'view'. "
        "Received the columns: 'name', 'two words', 'x'."
    )
    assert "lacks the column 'view'." in refusal(read_columns, tmp_path / "a.csv", "view")


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_an_empty_file(tmp_path, content):
    (tmp_path / "a.csv").write_bytes(content)
    assert refusal(read_columns, tmp_path / "a.csv", "name") == (
        f"{tmp_path / 'a.csv'} is empty. Fetch it again."
    )


def test_label_values(tmp_path):
    cells = ["1", "1.0", "0", "0.0", "-1", "-1.0", "", " 1 "]
    source = write_table(tmp_path / "a.csv", [{"x": cell, "n": "i"} for cell in cells], "xn")
    table = read_columns(source, "x", "n")
    assert label_values(table, source, ["x"], "n").ravel().tolist() == [1, 1, 0, 0, -1, -1, -2, 1]


@pytest.mark.parametrize("cell", ["2", "yes", "nan", "0.5", "-2"])
def test_a_value_that_means_nothing_is_named_with_its_column_and_image(tmp_path, cell):
    source = write_table(tmp_path / "a.csv", [{"x": "1", "n": "i"}, {"x": cell, "n": "j"}], "xn")
    assert refusal(label_values, read_columns(source, "x", "n"), source, ["x"], "n") == (
        f"{source}: a label is 1 (there), 0 (not there), -1 (uncertain) or blank (nobody said). "
        f"Received: {cell!r} for 'x' of j."
    )
