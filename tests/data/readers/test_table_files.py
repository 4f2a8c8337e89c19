"""Which image files the cells of a table mean."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.data_folders import column, said, write_csv, write_films
from helpers.refusals import refusal

from cxr_keras.data.readers.table import read_table


@pytest.fixture
def table(tmp_path: Path):
    """Writes a table of the lines given."""
    return lambda *lines: write_csv(tmp_path / "labels.csv", *lines)


def test_a_file_is_found_without_suffix_and_anywhere_below(table, tmp_path):
    images = write_films(
        tmp_path / "films", ["one/a.png", "two/b.jpg", "3.png", "p1/view.png", "p2/view.png"]
    )
    path = table(
        "image_id,labels",
        "a,M",  # by name
        "two/b,M",  # by path without suffix
        "3.png,M",  # by path
        "/elsewhere/films/p1/view.png,M",  # by the end of a path from another machine
        "p3/view.png,M",  # another patient's file of that name is not it
        "gone,M",
        f"{images}/p2/view.png,M",  # from the root
    )
    assert column(read_table(path, images), "path") == [
        "one/a.png",
        "two/b.jpg",
        "3.png",
        "p1/view.png",
        "",
        "",
        f"{images}/p2/view.png",
    ]


def test_a_path_beside_a_name(table, tmp_path):
    write_films(tmp_path, ["x/1.png", "x/2.png"])
    path = table("image_id,file_path,labels", "a,x\\1.png,M", "b,x/2.png,M")
    found = read_table(path)
    assert column(found, "Image Index") == ["a", "b"]
    assert column(found, "path") == ["x/1.png", "x/2.png"]
    assert "taken as image 'file_path', name 'image_id'." in said(found)


def test_a_blank_path_is_an_image_that_is_not_on_disk(table):
    found = read_table(table("Image Index,path,labels", "a,,M", "b,gone.png,M"))
    assert column(found, "path") == ["", ""]


def test_a_name_that_two_files_have(table, tmp_path):
    images = write_films(tmp_path / "films", ["1/a.png", "2/a.png"])
    assert refusal(read_table, table("image,labels", "a.png,M"), images) == (
        f"'a.png' may be any of 2 files in {images}, such as 1/a.png and 2/a.png. Write paths "
        "below that folder into the table."
    )


def test_a_folder_that_is_not_there(table, tmp_path):
    text = refusal(read_table, table("image,labels", "a,M"), tmp_path / "none")
    assert text == (
        f"There is no folder {tmp_path / 'none'}. Name the folder that holds the images."
    )


def test_dicom_files_named_by_their_uid_without_suffix(table, tmp_path):
    content = bytes(128) + b"DICM"
    for name in ("1.2.840.113.5", "1.2.840.113.6"):
        (tmp_path / "study").mkdir(exist_ok=True)
        (tmp_path / "study" / name).write_bytes(content)
    found = read_table(table("image_id,labels", "1.2.840.113.5,M", "1.2.840.113.6,E"))
    assert column(found, "path") == ["study/1.2.840.113.5", "study/1.2.840.113.6"]
