"""`fetch` from a real server on this machine that can be as unkind as the network."""

from __future__ import annotations

import functools
import hashlib
import socket

import pytest
from helpers.mirror import CONTENT, MD5, part_of
from helpers.refusals import refusal

from cxr_keras.data.download import fetch as module

QUICK = (0.01, 0.01, 0.01)
fetch = functools.partial(module.fetch, size=len(CONTENT), md5=MD5)


def test_a_file_is_fetched_once(mirror, target):
    target = target.parent / "new" / "folder" / target.name
    for _ in range(2):
        assert fetch(f"{mirror.url}/file", target, size=len(CONTENT), md5=MD5) == target
    fetch(f"{mirror.url}/file", target, md5=MD5.upper())
    assert target.read_bytes() == CONTENT
    assert mirror.asked("file") == [None]
    assert not part_of(target).exists()


def test_a_finished_file_of_wrong_content_is_fetched_again(mirror, target, capsys):
    target.write_bytes(CONTENT[:-1] + b"?")
    fetch(f"{mirror.url}/file", target, size=len(CONTENT), md5=MD5)
    assert target.read_bytes() == CONTENT
    assert f"is not the published file (expected MD5 {MD5}, received" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["cut", "reset"])
def test_a_cut_connection_is_resumed_where_it_stopped(mirror, target, kind):
    mirror.faults = [(kind, 1_000_000), (kind, 500_000)]
    fetch(f"{mirror.url}/file", target, size=len(CONTENT), md5=MD5, waits=QUICK)
    assert target.read_bytes() == CONTENT
    first, *rest = mirror.asked("file")
    assert first is None
    starts = [int(header.removeprefix("bytes=").rstrip("-")) for header in rest]
    assert 0 < starts[0] < starts[1] <= 1_500_000
    if kind == "cut":
        assert starts == [1_000_000, 1_500_000]


def test_a_server_that_ignores_range_is_started_over(mirror, target):
    mirror.ranges = False
    mirror.faults = [("cut", 2_000_000), ("cut", 100)]
    fetch(f"{mirror.url}/file", target, md5=MD5, waits=QUICK)
    assert target.read_bytes() == CONTENT
    assert mirror.asked("file") == [None, "bytes=2000000-", "bytes=100-"]


def test_a_server_that_always_cuts_is_given_up(mirror, target):
    mirror.ranges = False
    mirror.faults = [("cut", 2_000_000)] * 20
    text = refusal(fetch, f"{mirror.url}/file", target, md5=MD5, waits=QUICK)
    assert "the connection was cut after 2,000,000 of 3,000,000 bytes, 4 times in a row" in text
    assert "The 2,000,000 bytes that came are kept: run it again later to go on." in text
    assert part_of(target).stat().st_size == 2_000_000
    assert len(mirror.requests) <= 5
    assert not target.exists()


def test_progress_starts_the_count_of_tries_anew(mirror, target):
    mirror.files["file"] = content = CONTENT * 3
    mirror.faults = [("cut", 1_100_000)] * 7
    known = {"size": len(content), "md5": hashlib.md5(content).hexdigest()}
    fetch(f"{mirror.url}/file", target, **known, waits=QUICK)
    assert target.read_bytes() == content
    assert len(mirror.requests) == 8


def test_the_part_of_an_earlier_run_is_resumed(mirror, target):
    part_of(target).write_bytes(CONTENT[:12345])
    fetch(f"{mirror.url}/file", target)
    assert target.read_bytes() == CONTENT
    assert mirror.asked("file") == ["bytes=12345-"]


def test_a_whole_part_needs_no_request(mirror, target):
    part_of(target).write_bytes(CONTENT)
    fetch(f"{mirror.url}/file", target, size=len(CONTENT), md5=MD5)
    assert target.read_bytes() == CONTENT
    assert mirror.requests == []


def test_a_part_beyond_the_end_is_started_over(mirror, target):
    part_of(target).write_bytes(CONTENT + b"more")
    fetch(f"{mirror.url}/file", target, size=len(CONTENT), md5=MD5, waits=QUICK)  # by way of 416
    assert target.read_bytes() == CONTENT
    assert mirror.asked("file") == ["bytes=3000004-", None]


def test_another_range_than_asked_for_is_started_over(mirror, target):
    part_of(target).write_bytes(CONTENT[:1000])
    mirror.faults = [("another range", 500)]
    fetch(f"{mirror.url}/file", target, md5=MD5, waits=QUICK)
    assert target.read_bytes() == CONTENT
    assert mirror.asked("file") == ["bytes=1000-", None]


def test_a_redirect_keeps_the_range(mirror, target):
    part_of(target).write_bytes(CONTENT[:1000])
    mirror.faults = [("redirect", 0)]
    fetch(f"{mirror.url}/file", target, md5=MD5)
    assert target.read_bytes() == CONTENT
    assert mirror.asked("file") == ["bytes=1000-", "bytes=1000-"]


def test_a_body_of_unannounced_length(mirror, target):
    mirror.faults = [("no length", 0)]
    fetch(f"{mirror.url}/file", target, md5=MD5)
    assert target.read_bytes() == CONTENT
    target.unlink()
    mirror.files["file"] = CONTENT + b"more"
    mirror.faults = [("no length", 0)]
    text = refusal(fetch, f"{mirror.url}/file", target, size=len(CONTENT), md5=MD5)
    assert "expected 3,000,000 bytes, received 3,000,004 bytes" in text
    assert not part_of(target).exists()


def test_a_body_without_end_is_not_followed(mirror, target):
    mirror.faults = [("endless", 0)]
    text = refusal(fetch, f"{mirror.url}/file", target, size=10_000_000)
    assert "expected 10,000,000 bytes, received 10," in text
    assert not part_of(target).exists()


def test_a_busy_server_is_asked_again(mirror, target):
    mirror.faults = [("status", 503), ("status", 429), ("status", 502)]
    fetch(f"{mirror.url}/file", target, md5=MD5, waits=QUICK)
    assert len(mirror.requests) == 4
    assert target.read_bytes() == CONTENT


def test_a_server_that_stays_busy_is_given_up(mirror, target):
    part_of(target).write_bytes(CONTENT[:1000])
    mirror.faults = [("status", 503)] * 20
    text = refusal(
        fetch, f"{mirror.url}/file", target, md5=MD5, waits=QUICK, advice="Ask the librarian."
    )
    assert text == (
        f"{mirror.url}/file cannot be fetched: the server answered 503 Service Unavailable, 4 "
        "times in a row. The 1,000 bytes that came are kept: run it again later to go on. "
        "Ask the librarian."
    )
    assert len(mirror.requests) == 4
    assert part_of(target).stat().st_size == 1000


@pytest.mark.parametrize(("status", "name"), [(403, "Forbidden"), (404, "Not Found")])
def test_a_refusing_server_is_given_up_at_once(mirror, target, status, name):
    mirror.faults = [("status", status)]
    assert refusal(fetch, f"{mirror.url}/file", target, md5=MD5) == (
        f"{mirror.url}/file cannot be fetched: the server answered {status} {name}. "
        "Check that the address opens in a browser."
    )
    assert len(mirror.requests) == 1
    assert not target.exists()
    assert not part_of(target).exists()


def test_no_server(target):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/file"
        text = refusal(fetch, url, target, waits=QUICK)
    assert f"{url} cannot be fetched: there is no connection" in text


def test_a_server_that_falls_silent_is_a_cut(mirror, target, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    mirror.faults = [("stall", 0)]
    fetch(f"{mirror.url}/file", target, md5=MD5, waits=QUICK)
    assert target.read_bytes() == CONTENT
    assert len(mirror.requests) == 2


@pytest.mark.parametrize("url", ["file:///etc/hostname", "data/nih", "http://[half", "http://a b/"])
def test_an_address_that_is_none(target, url):
    text = refusal(fetch, url, target)
    assert text.startswith(f"{url} cannot be fetched: it is no ")
    assert not target.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"md5": "0" * 32}, f"expected MD5 {'0' * 32}, received {MD5}"),
        ({"size": 2_999_999}, "expected 2,999,999 bytes, received 3,000,000 bytes"),
        ({"size": 3_000_001, "md5": MD5}, "expected 3,000,001 bytes, received 3,000,000 bytes"),
    ],
)
def test_a_file_that_is_not_the_expected_one_never_gets_the_name(mirror, target, options, words):
    target.write_bytes(b"what was there")
    part_of(target).write_bytes(CONTENT[:1000])
    text = refusal(fetch, f"{mirror.url}/file", target, **options)
    assert words in text
    assert f"{mirror.url}/file" in text
    assert target.read_bytes() == b"what was there"
    assert not part_of(target).exists()


def test_a_wrong_hash_says_what_to_do(mirror, target):
    text = refusal(fetch, f"{mirror.url}/file", target, md5="0" * 32)
    assert "What came was deleted; try again" in text
    fetch(f"{mirror.url}/file", target, md5=MD5)


def test_a_login_page_is_not_the_file(mirror, target):
    part_of(target).write_bytes(CONTENT[:1000])
    mirror.faults = [("page", 0)]
    text = refusal(fetch, f"{mirror.url}/file", target, md5=MD5)
    assert "a web page came instead of a file" in text
    assert part_of(target).stat().st_size == 1000


def test_an_empty_file_is_refused(mirror, target):
    mirror.files["file"] = b""
    text = refusal(fetch, f"{mirror.url}/file", target)
    assert "expected 3,000,000 bytes, received 0 bytes" in text
    assert not target.exists()


def test_a_place_that_cannot_be_written(mirror, tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    text = refusal(fetch, f"{mirror.url}/file", tmp_path / "taken" / "file")
    assert text.startswith(f"{tmp_path / 'taken' / 'file'} cannot be written (")
    assert "name a folder that you can write" in text
