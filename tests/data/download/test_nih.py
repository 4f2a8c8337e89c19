"""NIH's data set from a server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.archives import IMAGES, member
from helpers.mirror import Mirror
from helpers.places import SHARED
from helpers.processes import in_process
from helpers.refusals import refusal

from cxr_keras.data.download.label_files import LABEL_FILES, LabelFile
from cxr_keras.data.download.nih import (
    ARCHIVES,
    Archive,
    download,
    parse_archives,
)
from cxr_keras.data.readers.nih import read_dataset

METADATA = [file.name for file in LABEL_FILES]


def known(content: dict[str, bytes]) -> list[LabelFile]:
    """The label files on the mirror, as if they were the published ones."""
    return [
        LabelFile(name, ((len(content[name]), hashlib.sha256(content[name]).hexdigest()),))
        for name in METADATA
    ]


@pytest.fixture
def table(mirror: Mirror, tmp_path: Path) -> list[Archive]:
    """Three archives of one image each, and the label files, on the mirror."""
    rows = ["Image Index,Finding Labels,Patient ID"]
    rows += [f"{name},Hernia,{n}" for n, name in enumerate(IMAGES)]
    mirror.files = dict.fromkeys(METADATA, "\n".join(IMAGES).encode())
    mirror.files[METADATA[0]] = "\n".join(rows).encode()
    archives = []
    for n, (name, content) in enumerate(IMAGES.items(), 1):
        path = tmp_path / "made.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            info, _ = member(f"images/{name}", content)
            tar.addfile(info, io.BytesIO(content))
        packed = mirror.files[f"key{n}.gz"] = path.read_bytes()
        digest = hashlib.md5(packed).hexdigest()
        archives.append(Archive(f"images_00{n}.tar.gz", f"key{n}.gz", len(packed), digest))
        path.unlink()
    return archives


@pytest.fixture
def bring(mirror: Mirror, table: list[Archive], tmp_path: Path) -> Callable[..., Path]:
    files = known(mirror.files)

    def run(**options: object) -> Path:
        options = {"base_url": mirror.url, "metadata_url": f"{mirror.url}/"} | options
        return download(tmp_path / "data" / "nih", table=table, files=files, **options)

    return run


def test_a_download_is_a_data_folder(bring, mirror, capsys):
    folder = bring()
    dataset = read_dataset(folder)
    assert list(dataset.table["Image Index"]) == list(IMAGES)
    assert dataset.lists["test"] == frozenset(IMAGES)
    names = {path.name for path in folder.iterdir() if path.suffix != ".lock"}
    assert names == {*METADATA, "images", ".done"}
    for name, content in IMAGES.items():
        assert (folder / "images" / name).read_bytes() == content
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3 label files and 3 archives (0.0 GB) to fetch; 0 archives are here" in captured.err
    assert "acknowledge the NIH Clinical Center and cite Wang et al." in captured.err
    assert "BBox_List_2017.csv is not on the mirror" in captured.err


def test_a_done_archive_is_not_fetched_again(bring, mirror, capsys):
    bring(archives="1-2")
    asked = len(mirror.requests)
    assert asked == 5
    bring(archives="1-2")
    assert len(mirror.requests) == asked
    assert "0 archives (0.0 GB) to fetch; 2 archives are here already" in capsys.readouterr().err
    bring()
    assert [path for path, _ in mirror.requests[asked:]] == ["key3.gz"]


def test_an_archive_whose_images_were_deleted_is_fetched_again(bring, mirror, capsys):
    folder = bring()
    gone = folder / "images" / "00000002_000.png"
    gone.unlink()
    bring()
    assert gone.exists()
    assert [len(mirror.asked(f"key{n}.gz")) for n in (1, 2, 3)] == [1, 2, 1]
    assert "images_002.tar.gz was unpacked before, but 1 of its images" in capsys.readouterr().err
    shutil.rmtree(folder / "images")
    bring()
    assert len(list((folder / "images").glob("*.png"))) == 3


def test_only_the_label_files(bring, mirror):
    folder = bring(metadata_only=True)
    assert [path for path, _ in mirror.requests] == list(METADATA)
    assert all((folder / name).is_file() for name in METADATA)
    assert not (folder / "images").exists()


def test_archives_can_be_kept(bring, mirror, table):
    folder = bring(archives="3", keep_archives=True)
    assert (folder / table[2].name).read_bytes() == mirror.files["key3.gz"]


def test_an_archive_fetched_by_hand_is_used(bring, mirror, table, tmp_path):
    folder = tmp_path / "data" / "nih"
    folder.mkdir(parents=True)
    (folder / table[0].name).write_bytes(mirror.files["key1.gz"])
    bring(archives="1")
    assert mirror.asked("key1.gz") == []
    assert (folder / "images" / "00000001_000.png").exists()


def test_mirrors_from_the_environment(bring, mirror, monkeypatch):
    monkeypatch.setenv("CXR_KERAS_NIH_URL", mirror.url)
    monkeypatch.setenv("CXR_KERAS_NIH_METADATA_URL", mirror.url + "/")
    folder = bring(base_url=None, metadata_url=None, archives="2")
    assert (folder / "images" / "00000002_000.png").exists()


def test_an_interrupted_download_goes_on(bring, mirror):
    mirror.faults = [("", 0)] * 3 + [("cut", 2000), ("status", 404)]
    text = refusal(bring, archives="1")
    assert "key1.gz cannot be fetched: the server answered 404 Not Found" in text
    assert "Another address can be set with $CXR_KERAS_NIH_URL." in text
    folder = bring(archives="1")
    assert mirror.asked("key1.gz") == [None, "bytes=2000-", "bytes=2000-"]
    assert (folder / "images" / "00000001_000.png").exists()


def test_an_archive_with_another_sum_is_neither_kept_nor_unpacked(bring, mirror, table):
    mirror.files["key2.gz"] = mirror.files["key2.gz"][:-1] + b"?"
    text = refusal(bring)
    received = hashlib.md5(mirror.files["key2.gz"]).hexdigest()
    assert f"expected MD5 {table[1].md5}, received {received}" in text


def test_label_files_that_are_not_there_name_the_setting(bring, mirror):
    del mirror.files[METADATA[2]]
    text = refusal(bring, metadata_only=True)
    assert "test_list.txt cannot be fetched: the server answered 404 Not Found" in text
    assert "Another address can be set with $CXR_KERAS_NIH_METADATA_URL." in text


def test_too_little_room_is_said_before_anything_is_fetched(mirror, tmp_path):
    table = [Archive("images_001.tar.gz", "key1.gz", 10**15, "0" * 32)]
    text = refusal(download, tmp_path, base_url=mirror.url, metadata_url=mirror.url, table=table)
    assert "GB free, but 1 archives need 2000000.0 GB. Choose fewer with --archives" in text
    assert mirror.requests == []


DOWNLOAD = """
import json, sys
from cxr_keras.data.download.label_files import LabelFile
from cxr_keras.data.download.nih import Archive, download
rows, files = json.loads(sys.argv[3])
table = [Archive(*row) for row in rows]
files = [LabelFile(name, ((size, sha256),)) for name, size, sha256 in files]
download(sys.argv[1], base_url=sys.argv[2], metadata_url=sys.argv[2], table=table, files=files)
"""


def test_two_processes_download_into_one_folder(mirror, table, tmp_path):
    mirror.faults = [("slow", 300)] * 4
    rows = [[row.name, row.key, row.bytes, row.md5] for row in table]
    files = [[file.name, *file.versions[0]] for file in known(mirror.files)]
    said = json.dumps([rows, files])
    pair = [in_process(DOWNLOAD, tmp_path / "nih", mirror.url, said) for _ in range(2)]
    texts = [process.communicate(timeout=30)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], texts
    assert len(mirror.requests) == 6
    assert sorted(path.name for path in (tmp_path / "nih" / "images").iterdir()) == list(IMAGES)
    assert not list((tmp_path / "nih").glob("*.tar.gz"))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1", [1]),
        ("1,3-5", [1, 3, 4, 5]),
        (" 12 , 2 - 3,2", [2, 3, 12]),
        (None, list(range(1, 13))),
    ],
)
def test_parse_archives(text, numbers):
    assert parse_archives(text) == numbers


@pytest.mark.parametrize(
    "text", ["", "0", "13", "5-3", "1-13", "one", "1,", "1-", "-1", "1.5", "1 2", "9" * 5000, "٣"]
)
def test_parse_archives_refuses(text):
    assert refusal(parse_archives, text) == (
        "Archives are named by numbers and ranges between 1 and 12, such as 1,3-5. "
        f"Received: {text!r}."
    )


def test_the_table_is_nihs():
    assert len(ARCHIVES) == 12
    assert [archive.name for archive in ARCHIVES] == [
        f"images_{n:03d}.tar.gz" for n in range(1, 13)
    ]
    assert len({archive.key for archive in ARCHIVES}) == 12
    assert all(len(archive.md5) == 32 for archive in ARCHIVES)
    assert sum(archive.bytes for archive in ARCHIVES) == 45_079_862_784
    facts = SHARED / "facts" / "nih_archives.json"
    if facts.is_file():
        assert [vars(row) for row in ARCHIVES] == json.loads(facts.read_text())["archives"]
