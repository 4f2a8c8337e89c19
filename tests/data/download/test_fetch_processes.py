"""`fetch` in processes that are killed, that share a file, or whose disk is full."""

from __future__ import annotations

import signal

from helpers.mirror import CONTENT, MD5, part_of
from helpers.processes import in_process, wait_until

from cxr_keras.data.download.fetch import fetch

CONFINED = """
import resource, sys
from pathlib import Path
from cxr_keras.data.download.fetch import fetch
from cxr_keras.errors import DataError
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    fetch(sys.argv[1], Path(sys.argv[2]), size=3_000_000, md5=sys.argv[3])
except DataError as error:
    sys.exit(f"DataError: {error}")
"""


def test_a_full_disk_keeps_the_part(mirror, target):
    process = in_process(CONFINED, f"{mirror.url}/file", target, MD5)
    text = process.communicate(timeout=20)[1]
    assert f"DataError: {target} cannot be written (File too large)." in text
    assert "What has been fetched is kept: make room" in text
    assert "Traceback" not in text
    assert not target.exists()
    kept = part_of(target).stat().st_size
    assert 500_000 < kept <= 1_000_000
    fetch(f"{mirror.url}/file", target, size=len(CONTENT), md5=MD5)
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
    mirror.faults = [("stall", 0)]
    process = in_process(FETCH, f"{mirror.url}/file", target, MD5)
    part = part_of(target)
    wait_until(lambda: part.exists() and part.stat().st_size > 1_000_000, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not target.exists()
    kept = part_of(target).stat().st_size
    fetch(f"{mirror.url}/file", target, size=len(CONTENT), md5=MD5)
    assert target.read_bytes() == CONTENT
    assert mirror.asked("file") == [None, f"bytes={kept}-"]


def test_two_processes_share_one_download(mirror, target):
    mirror.faults = [("stall", 0)]
    first = in_process(FETCH, f"{mirror.url}/file", target, MD5)
    wait_until(lambda: mirror.requests, first)
    second = in_process(FETCH, f"{mirror.url}/file", target, MD5)
    said = next(line for line in second.stderr if "waiting" in line)
    mirror.released.set()
    pair = [first, second]
    for process in pair:
        process.communicate(timeout=20)
    assert [process.returncode for process in pair] == [0, 0]
    assert target.read_bytes() == CONTENT
    assert mirror.asked("file") == [None]
    assert "Another process is fetching file.gz; waiting for it." in said
