"""The label table and the split lists from a server on this machine, known by their SHA-256."""

from __future__ import annotations

import hashlib
import re
import stat
from pathlib import Path

import pytest
from helpers.mirror import CONTENT
from helpers.processes import assert_one_sentence, cxr
from helpers.refusals import refusal

from cxr_keras.data.download import label_files as module
from cxr_keras.data.download.label_files import (
    LABEL_FILES,
    MIRROR_URL,
    LabelFile,
    fetch_label_file,
)

NAMES = [file.name for file in LABEL_FILES]
OTHER = b"Image Index,Finding Labels,Patient ID\n"


def known(*contents: bytes) -> LabelFile:
    """A file of the name "file" with these right contents."""
    versions = [(len(content), hashlib.sha256(content).hexdigest()) for content in contents]
    return LabelFile("file", tuple(versions))


def everything_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


# --- what is pinned --------------------------------------------------------------------------


def test_the_address_names_one_commit_of_the_mirror():
    assert re.search(r"/resolve/[0-9a-f]{40}/", MIRROR_URL)


@pytest.mark.parametrize("file", LABEL_FILES, ids=lambda file: file.name)
def test_the_mirrors_file_and_nihs_own_are_known(sample, tmp_path, file):
    mirrored = (sample / file.name).read_bytes()
    own = mirrored.replace(b"Patient Gender", b"Patient Sex", 1)
    if file.name.endswith(".txt"):
        own = mirrored.removesuffix(b"\n")
    for content in (mirrored, own):
        (tmp_path / file.name).write_bytes(content)
        assert file.problem(tmp_path / file.name) is None
    (tmp_path / file.name).write_bytes(mirrored.replace(b"00000001_000", b"00000001_00O", 1) + b" ")
    assert file.problem(tmp_path / file.name)


# --- as a user types it ----------------------------------------------------------------------


def test_download_of_the_label_files_as_typed(sample, mirror, tmp_path):
    mirror.files = {name: (sample / name).read_bytes() for name in NAMES}
    line = ("download", tmp_path / "nih", "--metadata-only")
    for _ in range(2):
        result = cxr(*line, CXR_KERAS_NIH_METADATA_URL=mirror.url)
        assert result.returncode == 0, result.stderr
        assert result.stdout == ""
    assert everything_in(tmp_path / "nih") == sorted(NAMES)
    for name in NAMES:
        assert (tmp_path / "nih" / name).read_bytes() == mirror.files[name]
        assert mirror.asked(name) == [None]


def test_a_changed_file_on_the_mirror_is_refused(mirror, tmp_path):
    mirror.files = dict.fromkeys(NAMES, OTHER)
    result = cxr(
        "download", tmp_path / "nih", "--metadata-only", CXR_KERAS_NIH_METADATA_URL=mirror.url
    )
    assert_one_sentence(
        result,
        f"{mirror.url}/{NAMES[0]} is not the published file: expected 9,003,496 bytes with "
        "SHA-256 c69a6dac… or 9,003,499 bytes with SHA-256 dc1d2df6…, received 38 bytes with "
        f"SHA-256 {hashlib.sha256(OTHER).hexdigest()[:8]}…. What came was deleted",
        "Another address can be set with $CXR_KERAS_NIH_METADATA_URL.",
    )
    assert everything_in(tmp_path / "nih") == []
    assert mirror.asked(NAMES[0]) == [None]  # the same again would be as wrong


def test_a_changed_file_in_the_folder_is_refused_and_kept(mirror, tmp_path):
    table = tmp_path / NAMES[0]
    table.write_bytes(OTHER)
    result = cxr("download", tmp_path, "--metadata-only", CXR_KERAS_NIH_METADATA_URL=mirror.url)
    assert_one_sentence(
        result, f"{table} is not the published file: expected", "Move it to another folder"
    )
    assert table.read_bytes() == OTHER
    assert mirror.requests == []


def test_a_full_disk_as_typed(mirror, tmp_path):
    mirror.files = {NAMES[0]: OTHER * 1000}
    result = cxr(
        *("download", tmp_path / "nih", "--metadata-only"),
        limit=10_000,
        CXR_KERAS_NIH_METADATA_URL=mirror.url,
    )
    assert_one_sentence(
        result, f"{tmp_path / 'nih' / NAMES[0]} cannot be written (File too large)", "make room"
    )
    assert everything_in(tmp_path / "nih") == []


@pytest.mark.slow
def test_no_server_as_typed(unused_tcp_port, tmp_path):
    url = f"http://127.0.0.1:{unused_tcp_port}"
    result = cxr(
        *("download", tmp_path / "nih", "--metadata-only"),
        CXR_KERAS_NIH_METADATA_URL=url,
        no_proxy="127.0.0.1",
    )
    assert_one_sentence(
        result,
        f"{url}/{NAMES[0]} cannot be fetched: there is no connection (Connection refused). Open "
        "the address in a browser and save the file in the data folder under the same name",
    )


# --- one file --------------------------------------------------------------------------------


def test_either_version_is_right(mirror, tmp_path):
    file = known(CONTENT, OTHER)
    for content in (CONTENT, OTHER):
        mirror.files["file"] = content
        target = fetch_label_file(file, tmp_path, f"{mirror.url}/")
        assert target == tmp_path / "file"
        assert target.read_bytes() == content
        target.unlink()


def test_a_right_file_is_not_fetched_again(mirror, tmp_path):
    (tmp_path / "file").write_bytes(OTHER)
    fetch_label_file(known(CONTENT, OTHER), tmp_path, mirror.url)
    assert (tmp_path / "file").read_bytes() == OTHER
    assert mirror.requests == []


def test_the_file_has_the_rights_of_a_new_file(mirror, tmp_path):
    (tmp_path / "new").touch()
    target = fetch_label_file(known(CONTENT), tmp_path, mirror.url)
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / "new").stat().st_mode)


@pytest.mark.parametrize(("status", "name"), [(404, "Not Found"), (403, "Forbidden")])
def test_a_refusing_server_is_given_up_at_once(mirror, tmp_path, status, name):
    mirror.faults = [("status", status)]
    assert refusal(fetch_label_file, known(CONTENT), tmp_path, mirror.url) == (
        f"{mirror.url}/file cannot be fetched: the server answered {status} {name}. Open the "
        "address in a browser and save the file in the data folder under the same name, or try "
        "again. Another address can be set with $CXR_KERAS_NIH_METADATA_URL."
    )
    assert len(mirror.requests) == 1
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("fault", [("status", 503), ("cut", 1000)])
def test_a_busy_server_is_asked_again(mirror, tmp_path, fault):
    mirror.faults = [fault]
    fetch_label_file(known(CONTENT), tmp_path, mirror.url)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(mirror.requests) == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (("status", 503), "the server answered 503 Service Unavailable"),
        (("stall", 1500), "the connection failed"),
        (("cut", 1000), "the connection was cut"),
    ],
)
def test_a_server_that_fails_is_given_up(mirror, tmp_path, monkeypatch, fault, words):
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(module, "MORE_TRIES", 0)
    mirror.faults = [fault]
    text = refusal(fetch_label_file, known(CONTENT), tmp_path, mirror.url)
    assert text.startswith(f"{mirror.url}/file cannot be fetched: {words}")
    assert everything_in(tmp_path) == []


def test_no_server(unused_tcp_port, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "MORE_TRIES", 0)
    url = f"http://127.0.0.1:{unused_tcp_port}"
    text = refusal(fetch_label_file, known(CONTENT), tmp_path, url)
    assert f"{url}/file cannot be fetched: there is no connection (Connection refused)." in text


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><p>Log in", b"\n<html><p>Log in"])
def test_a_login_page_is_not_the_file(mirror, tmp_path, page):
    mirror.files["file"] = page
    text = refusal(fetch_label_file, known(CONTENT), tmp_path, mirror.url)
    assert "a web page came instead of a file (a login or error page?)" in text
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize("url", ["file:///etc", "data/nih", "http://[half"])
def test_an_address_that_is_none(tmp_path, url):
    text = refusal(fetch_label_file, known(CONTENT), tmp_path, url)
    assert text.startswith(f"{url}/file cannot be fetched: it is no http or https address")


def test_a_folder_in_the_place_of_the_file(mirror, tmp_path):
    (tmp_path / "file").mkdir()
    text = refusal(fetch_label_file, known(CONTENT), tmp_path, mirror.url)
    assert text.startswith(f"{tmp_path / 'file'} cannot be written (Is a directory)")
