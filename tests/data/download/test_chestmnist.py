"""ChestMNIST from a server on this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.chestmnist import write_chestmnist
from helpers.mirror import Mirror, part_of
from helpers.refusals import refusal

from cxr_keras.data.download import fetch as fetch_module
from cxr_keras.data.download.chestmnist import MD5S, URL_VARIABLE, ZENODO_URL, download
from cxr_keras.data.options import CHESTMNIST_SIZE, CHESTMNIST_SIZES
from cxr_keras.data.readers.layout import ReadOptions
from cxr_keras.data.readers.registry import reader_of

QUICK = (0.01, 0.01, 0.01)
NAME = "chestmnist_64.npz"


@pytest.fixture
def content(mirror: Mirror, tmp_path: Path) -> bytes:
    """The archive of 64 pixels, on the mirror."""
    write_chestmnist(tmp_path / "made.npz", side=64)
    mirror.files[NAME] = (tmp_path / "made.npz").read_bytes()
    return mirror.files[NAME]


@pytest.fixture
def bring(mirror: Mirror, content: bytes, tmp_path: Path) -> Callable[..., Path]:
    md5s = MD5S | {64: hashlib.md5(content).hexdigest()}

    def run(**options: object) -> Path:
        options = {"base_url": f"{mirror.url}/", "md5s": md5s, "waits": QUICK} | options
        return download(tmp_path / "new" / "data", **options)

    return run


def test_a_download_is_a_data_set(bring, mirror, content, capsys):
    path = bring()
    assert path.name == NAME
    assert path.read_bytes() == content
    for root in (path, path.parent):
        reader = reader_of(root)
        assert reader.name == "chestmnist"
        assert len(reader.read(root, ReadOptions()).table) == 22
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "ChestMNIST is licensed CC BY 4.0; cite Yang et al." in captured.err
    bring()
    assert mirror.asked(NAME) == [None]  # a right file is not fetched again


def test_a_cut_connection_is_resumed(bring, mirror, content):
    mirror.faults = [("cut", 20_000), ("reset", 10_000)]
    assert bring().read_bytes() == content
    first, second, *_ = mirror.asked(NAME)
    assert (first, second) == (None, "bytes=20000-")


def test_a_later_call_goes_on_where_an_earlier_one_was_stopped(bring, mirror, content):
    mirror.faults = [("cut", 30_000), ("status", 404)]
    text = refusal(bring)
    assert f"{NAME}?download=1 cannot be fetched: the server answered 404 Not Found" in text
    assert text.endswith(f"Another address can be set with ${URL_VARIABLE}.")
    assert bring().read_bytes() == content
    assert mirror.asked(NAME)[-1] == "bytes=30000-"


def test_a_part_that_is_whole_only_gets_its_name(bring, mirror, content, tmp_path):
    target = tmp_path / "new" / "data" / NAME
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(content)
    assert bring().read_bytes() == content
    assert mirror.requests == []


def test_a_part_longer_than_the_file_is_dropped(bring, mirror, content, tmp_path):
    target = tmp_path / "new" / "data" / NAME
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(content + b"more")
    assert bring().read_bytes() == content
    assert mirror.asked(NAME) == [f"bytes={len(content) + 4}-", None]


def test_a_server_without_ranges_is_started_over(bring, mirror, content):
    mirror.ranges = False
    mirror.faults = [("cut", 20_000)]
    assert bring().read_bytes() == content


def test_another_file_is_neither_kept_nor_taken(bring, mirror, content):
    mirror.files[NAME] = content[:-1] + b"?"
    text = refusal(bring)
    received = hashlib.md5(mirror.files[NAME]).hexdigest()
    assert f"is not the published file: expected MD5 {hashlib.md5(content).hexdigest()}" in text
    assert f"received {received}. What came was deleted; try again" in text
    mirror.files[NAME] = content
    assert bring().read_bytes() == content
    assert mirror.asked(NAME) == [None, None]


def test_a_changed_file_is_fetched_again(bring, mirror, content, capsys):
    path = bring()
    path.write_bytes(content[:1000])
    bring()
    assert path.read_bytes() == content
    assert f"{path} is not the published file (expected MD5" in capsys.readouterr().err


def test_a_page_instead_of_the_file(bring, mirror):
    mirror.faults = [("page", 0)]
    assert "a web page came instead of a file (a login or error page?)" in refusal(bring)


def test_a_server_that_does_not_say_how_large_the_file_is(bring, mirror):
    mirror.faults = [("no length", 0)]
    assert "cannot be fetched: the server does not say how large the file is." in refusal(bring)


def test_a_silent_server_is_given_up(bring, mirror, monkeypatch):
    monkeypatch.setattr(fetch_module, "TIMEOUT_S", 0.05)
    mirror.faults = [("stall", 0)] * 4
    text = refusal(bring)
    assert "4 times in a row" in text
    assert "run it again later to go on." in text


def test_a_mirror_from_the_environment(bring, mirror, monkeypatch):
    monkeypatch.setenv(URL_VARIABLE, mirror.url)
    assert bring(base_url=None).is_file()


def test_a_size_that_there_is_not(bring, mirror):
    assert refusal(bring, size=32) == (
        "ChestMNIST has images of 28, 64, 128, 224 pixels a side. Received: 32."
    )
    assert mirror.requests == []


def test_a_folder_that_cannot_be_made(bring, tmp_path):
    (tmp_path / "new").write_text("a file")
    assert "cannot be written" in refusal(bring)


def test_what_is_fetched_is_zenodos():
    assert ZENODO_URL == "https://zenodo.org/records/10519652/files/"
    assert tuple(MD5S) == CHESTMNIST_SIZES
    assert CHESTMNIST_SIZE == 64
    assert all(len(md5) == 32 for md5 in MD5S.values())
