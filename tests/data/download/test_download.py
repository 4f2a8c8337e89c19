"""Downloads from a real server on this machine that can be as unkind as the network."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import json
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from helpers.places import SHARED

from cxr_keras.data.download import fetch as module
from cxr_keras.data.download.archives import extract_archive
from cxr_keras.data.download.label_files import LABEL_FILES, LabelFile
from cxr_keras.data.download.nih import (
    ARCHIVES,
    Archive,
    download,
    parse_archives,
)
from cxr_keras.data.readers.nih import read_dataset
from cxr_keras.errors import DataError

CONTENT = random.Random(1).randbytes(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = (0.01, 0.01, 0.01)
fetch = functools.partial(module.fetch, size=len(CONTENT), md5=MD5)


class Mirror(http.server.ThreadingHTTPServer):
    """Serves `files`; each request first takes one of `faults`, if any is left."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"file": CONTENT}
        self.faults: list[tuple[str, int]] = []
        self.requests: list[tuple[str, str | None]] = []
        self.ranges = True
        self.url = f"http://127.0.0.1:{self.server_port}"

    def asked(self, name: str) -> list[str | None]:
        """The Range header of each request for `name`."""
        return [header for path, header in self.requests if path == name]


class Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        name, header = urlsplit(self.path).path.strip("/"), self.headers["Range"]
        self.server.requests.append((name, header))
        kind, value = self.server.faults.pop(0) if self.server.faults else ("", 0)
        content = self.server.files.get(name)
        if kind == "status":
            return self.send_error(value)
        if content is None:
            return self.send_error(404)
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", f"/{name}?signed=1")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        start = int(header.removeprefix("bytes=").rstrip("-")) if header else 0
        if self.server.ranges and header and start >= len(content):
            return self.send_error(416)
        self._head(content, start if self.server.ranges else 0, kind, value)
        body = content[start:] if self.server.ranges else content
        return self._body(body, kind, value)

    def _head(self, content: bytes, start: int, kind: str, value: int) -> None:
        self.send_response(206 if start else 200)
        if start:
            shown = start - value if kind == "another range" else start
            self.send_header("Content-Range", f"bytes {shown}-{len(content) - 1}/{len(content)}")
        if kind not in ("no length", "endless"):
            length = value if kind == "length" else len(content) - start
            self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", "text/html" if kind == "page" else "application/x-tar")
        self.end_headers()

    def _body(self, body: bytes, kind: str, value: int) -> None:
        try:
            if kind in ("cut", "reset"):
                self.wfile.write(body[:value])
                self.wfile.flush()
                if kind == "reset":  # closing then sends RST instead of FIN
                    time.sleep(0.05)
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            elif kind in ("slow", "stall"):
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                time.sleep(value / 1000)
                self.wfile.write(body[len(body) // 2 :])
            else:
                self.wfile.write(body)
            while kind == "endless":
                self.wfile.write(body)
        except OSError:
            pass  # the client has gone, as it may
        self.close_connection = True


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Mirror() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "file.gz"


def part_of(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def refusal(function: Callable[..., object], *args: object, **options: object) -> str:
    with pytest.raises(DataError) as caught:
        function(*args, **options)
    return str(caught.value)


def in_process(code: str, *args: object) -> subprocess.Popen[str]:
    """Python code in a process of its own, which can be killed or confined."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], stderr=subprocess.PIPE, text=True
    )


# --- fetch -----------------------------------------------------------------------------------


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
    began = time.monotonic()
    fetch(f"{mirror.url}/file", target, md5=MD5, waits=(0.1, 0.2, 0.1))
    assert time.monotonic() - began >= 0.4
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
    assert "refused" in text


def test_a_server_that_falls_silent_is_a_cut(mirror, target, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    mirror.faults = [("stall", 1500)]
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


CONFINED = """
import resource, sys
from pathlib import Path
from cxr_keras.data.download.archives import extract_archive
from cxr_keras.data.download.fetch import fetch
from cxr_keras.errors import DataError
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    if sys.argv[1] == "fetch":
        fetch(sys.argv[2], Path(sys.argv[3]), size=3_000_000, md5=sys.argv[4])
    else:
        extract_archive(Path(sys.argv[2]), Path(sys.argv[3]))
except DataError as error:
    sys.exit(f"DataError: {error}")
"""


def test_a_full_disk_keeps_the_part(mirror, target):
    process = in_process(CONFINED, "fetch", f"{mirror.url}/file", target, MD5)
    text = process.communicate(timeout=20)[1]
    assert f"DataError: {target} cannot be written (File too large)." in text
    assert "What has been fetched is kept: make room" in text
    assert "Traceback" not in text
    assert not target.exists()
    kept = part_of(target).stat().st_size
    assert 500_000 < kept <= 1_000_000
    fetch(f"{mirror.url}/file", target, md5=MD5)
    assert target.read_bytes() == CONTENT
    assert mirror.asked("file") == [None, f"bytes={kept}-"]


FETCH = """
import logging, sys
from pathlib import Path
from cxr_keras.data.download.fetch import fetch
logging.basicConfig(level=logging.INFO)
fetch(sys.argv[1], Path(sys.argv[2]), size=3_000_000, md5=sys.argv[3])
"""


def test_a_killed_download_goes_on(mirror, target):
    mirror.faults = [("slow", 5000)]
    process = in_process(FETCH, f"{mirror.url}/file", target, MD5)
    deadline = time.monotonic() + 10
    while not (part_of(target).exists() and part_of(target).stat().st_size > 1_000_000):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not target.exists()
    kept = part_of(target).stat().st_size
    fetch(f"{mirror.url}/file", target, md5=MD5)
    assert target.read_bytes() == CONTENT
    assert mirror.asked("file") == [None, f"bytes={kept}-"]


def test_two_processes_share_one_download(mirror, target):
    mirror.faults = [("slow", 800)]
    pair = [in_process(FETCH, f"{mirror.url}/file", target, MD5) for _ in range(2)]
    texts = [process.communicate(timeout=20)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0]
    assert target.read_bytes() == CONTENT
    assert mirror.asked("file") == [None]
    assert "Another process is fetching file.gz; waiting for it." in "".join(texts)


# --- extract_archive -------------------------------------------------------------------------

IMAGES = {f"0000000{n}_000.png": random.Random(n).randbytes(5000) for n in (1, 2, 3)}


def member(name: str, content: bytes = b"image", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def write_archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    """The images, with `members` after the first of them."""
    images = [member(f"images/{name}", content) for name, content in IMAGES.items()]
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for info, content in [images[0], *members, *images[1:]]:
            tar.addfile(info, io.BytesIO(content))
    return path


def everything_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".lock")
    }


def test_images_are_unpacked(tmp_path):
    folder_entries = [member(name, b"", type=tarfile.DIRTYPE) for name in ("images/", "../up/")]
    archive = write_archive(tmp_path / "images_001.tar.gz", *folder_entries)
    assert extract_archive(archive, tmp_path / "nih") == 3
    below = everything_below(tmp_path / "nih")
    assert below.pop(".done/images_001.tar.gz").decode().split() == list(IMAGES)
    assert below == {f"images/{name}": content for name, content in IMAGES.items()}
    assert not (tmp_path / "up").exists()
    assert archive.exists()


def test_what_a_killed_unpacking_left_is_cleared(tmp_path):
    archive = write_archive(tmp_path / "images_001.tar.gz")
    leftover = tmp_path / "images" / ".images_001.tar.gz.abc.tmp"
    leftover.mkdir(parents=True)
    (leftover / "00000001_000.png").write_bytes(b"half")
    extract_archive(archive, tmp_path)
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == list(IMAGES)


NAMED = "is not named like images/00000001_000.png"


@pytest.mark.parametrize(
    ("name", "fields", "why"),
    [
        ("../00000009_000.png", {}, NAMED),
        ("images/../../00000009_000.png", {}, NAMED),
        ("/tmp/00000009_000.png", {}, NAMED),
        ("images/00000009_000.png/../../x", {}, NAMED),
        ("images\\00000009_000.png", {}, NAMED),
        ("images/00000009_000.png\n", {}, NAMED),
        ("images/٠٠٠٠٠٠٠٩_000.png", {}, NAMED),
        ("images/.bashrc", {}, NAMED),
        ("README.txt", {}, NAMED),
        (
            "images/00000009_000.png",
            {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd", "size": 0},
            "is a symbolic link",
        ),
        (
            "images/00000009_000.png",
            {"type": tarfile.LNKTYPE, "linkname": "../secret.txt", "size": 0},
            "is a hard link",
        ),
        ("images", {"type": tarfile.SYMTYPE, "linkname": "..", "size": 0}, "is a symbolic link"),
        ("images/00000009_000.png", {"type": tarfile.CHRTYPE, "size": 0}, "is a device"),
        ("images/00000009_000.png", {"type": tarfile.BLKTYPE, "size": 0}, "is a device"),
        ("images/00000009_000.png", {"type": tarfile.FIFOTYPE, "size": 0}, "is a pipe"),
        ("images/00000009_000.png", {"type": tarfile.CONTTYPE}, "is no plain file"),
        (
            "images/00000009_000.png",
            {"pax_headers": {"GNU.sparse.map": "0,4", "GNU.sparse.size": "99999999999"}},
            "is no plain file",
        ),
        ("images/00000009_000.png", {"size": 0}, "is 0 bytes, not between 1 and 64,000,000"),
    ],
)
def test_an_archive_of_anything_else_is_refused_whole(tmp_path, name, fields, why):
    (tmp_path / "secret.txt").write_text("mine")
    (tmp_path / "nih" / "images").mkdir(parents=True)
    (tmp_path / "nih" / "images" / "00000001_000.png").write_bytes(b"an earlier image")
    archive = write_archive(tmp_path / "images_001.tar.gz", member(name, **fields))
    before = everything_below(tmp_path)
    text = refusal(extract_archive, archive, tmp_path / "nih")
    assert text == (
        f"{archive} is refused: its member {name!r} {why}. Nothing of it was kept; delete it and "
        "fetch NIH's own with `cxr-keras download`."
    )
    assert everything_below(tmp_path) == before


def test_a_giant_member_is_refused(tmp_path):
    bomb = member("images/00000009_000.png", bytes(64_000_001))
    archive = write_archive(tmp_path / "images_001.tar.gz", bomb)
    assert archive.stat().st_size < 1_000_000
    text = refusal(extract_archive, archive, tmp_path)
    assert "'images/00000009_000.png' is 64,000,001 bytes, not between 1 and 64,000,000" in text
    assert everything_below(tmp_path / "images") == {}


def test_many_large_members_are_refused(tmp_path):
    bombs = [member(f"images/0000001{n}_000.png", bytes(33_000_000)) for n in range(2)]
    archive = write_archive(tmp_path / "images_001.tar.gz", *bombs)
    text = refusal(extract_archive, archive, tmp_path)
    assert "'images/00000011_000.png' makes its content more than 10 times its own size" in text
    assert everything_below(tmp_path / "images") == {}


def test_too_many_members_are_refused(tmp_path):
    header = member("x", b"", type=tarfile.DIRTYPE)[0].tobuf()
    archive = tmp_path / "images_001.tar.gz"
    archive.write_bytes(gzip.compress(header * 20_001 + bytes(1024), 1))
    text = refusal(extract_archive, archive, tmp_path)
    assert "its member 'x' is one more than the 20,000 allowed" in text


def test_a_header_of_giant_size_is_not_read(tmp_path):
    header = member("pax", type=tarfile.XHDTYPE, size=8_000_000_000)[0].tobuf()
    archive = tmp_path / "images_001.tar.gz"
    archive.write_bytes(gzip.compress(header + bytes(70_000_000), 1))
    text = refusal(extract_archive, archive, tmp_path)
    assert "is damaged (a header asks for 8000000000 bytes)" in text


def test_an_endless_chain_of_headers_is_refused(tmp_path):
    header = member("pax", b"", type=tarfile.XHDTYPE)[0].tobuf()
    archive = tmp_path / "images_001.tar.gz"
    archive.write_bytes(gzip.compress(header * 20_000 + bytes(1024), 1))
    assert "is damaged" in refusal(extract_archive, archive, tmp_path)


def spoilt(kind: str, whole: bytes) -> bytes:
    tar = bytearray(gzip.decompress(whole))
    second = 512 + 5120  # the second image's header
    if kind == "gzip stops early":
        return whole[:-2000]
    if kind == "gzip's sum is wrong":
        return whole[:-8] + b"\0\0\0\0" + whole[-4:]
    if kind == "tar stops in an image":
        return gzip.compress(bytes(tar[: second + 1000]))
    if kind == "tar stops between images":
        return gzip.compress(bytes(tar[:second]))
    if kind == "a header is spoilt":
        tar[second] ^= 255
        return gzip.compress(bytes(tar))
    if kind == "no images":
        return gzip.compress(bytes(10240))
    return {"no gzip": b"PK\3\4 a zip", "no tar": gzip.compress(b"text" * 300), "empty": b""}[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "gzip stops early",
        "gzip's sum is wrong",
        "tar stops in an image",
        "tar stops between images",
        "a header is spoilt",
        "no images",
        "no gzip",
        "no tar",
        "empty",
    ],
)
def test_a_damaged_archive_is_refused_whole(tmp_path, kind):
    archive = write_archive(tmp_path / "images_001.tar.gz")
    archive.write_bytes(spoilt(kind, archive.read_bytes()))
    text = refusal(extract_archive, archive, tmp_path / "nih")
    assert text.startswith(f"{archive} is damaged (")
    assert text.endswith("). Delete it and run `cxr-keras download` again.")
    assert everything_below(tmp_path / "nih") == {}


def test_an_archive_that_is_not_there(tmp_path):
    text = refusal(extract_archive, tmp_path / "images_001.tar.gz", tmp_path)
    assert f"There is no archive {tmp_path / 'images_001.tar.gz'}." in text


def test_a_full_disk_while_unpacking(tmp_path):
    large = member("images/00000009_000.png", CONTENT)
    archive = write_archive(tmp_path / "images_001.tar.gz", large)
    process = in_process(CONFINED, "extract", archive, tmp_path / "nih")
    text = process.communicate(timeout=20)[1]
    assert f"DataError: {tmp_path / 'nih'} cannot be written (File too large)." in text
    assert "Traceback" not in text
    assert everything_below(tmp_path / "nih") == {}
    assert extract_archive(archive, tmp_path / "nih") == 4


# --- download --------------------------------------------------------------------------------


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
