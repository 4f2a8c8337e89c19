"""torchvision's files of weights, from a server or from the cache."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading

import pytest
from helpers.refusals import refusal

from cxr_keras import build_model
from cxr_keras.models.registry import get_spec
from cxr_keras.models.weights import (
    URL_VARIABLE,
    Pretrained,
    imagenet_file,
)

CONTENT = b"what stands for half a gigabyte"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
RECORD = Pretrained(file=f"tiny-{DIGEST[:8]}.pth", layers={}, head="fc")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A real server on this machine; yields its folder."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        monkeypatch.setenv(URL_VARIABLE, f"http://127.0.0.1:{httpd.server_port}/models/")
        (folder / "models").mkdir()
        yield folder / "models"
        httpd.shutdown()


def test_imagenet_file_is_fetched_once(server, tmp_path):
    (server / RECORD.file).write_bytes(CONTENT)
    file = imagenet_file(RECORD)
    assert file == tmp_path / "torch" / "hub" / "checkpoints" / RECORD.file
    assert file.read_bytes() == CONTENT
    (server / RECORD.file).unlink()
    assert imagenet_file(RECORD) == file


def test_imagenet_file_of_wrong_content_is_refused(server, tmp_path):
    (server / RECORD.file).write_bytes(b"<html>moved</html>")
    text = refusal(imagenet_file, RECORD)
    assert DIGEST[:8] in text
    assert not list((tmp_path / "torch").rglob("*.pth"))


def test_nothing_cached_and_no_file_names_address_and_folder(server, tmp_path):
    text = refusal(imagenet_file, RECORD)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    assert text.startswith(f"{RECORD.url} cannot be fetched (")
    assert text.endswith(f"; put the file into {folder} yourself, or give --weights none.")


def test_wrong_file_in_the_cache_is_refused(tmp_path):
    pretrained = get_spec("resnet18").pretrained
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / pretrained.file).write_bytes(CONTENT)
    text = refusal(build_model, "resnet18", weights="imagenet")
    assert f"begins with f37072fd, received {DIGEST[:8]} ({len(CONTENT)} bytes)" in text
    assert "https://download.pytorch.org/models/resnet18-f37072fd.pth" in text
