"""torchvision's files of weights: what can go wrong on the way."""

from __future__ import annotations

import hashlib
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.mirror import CONTENT, SHA256, Mirror
from helpers.refusals import refusal

from cxr_keras.models.weights import URL_VARIABLE, Pretrained, imagenet_file

RECORD = Pretrained(file=f"tiny-{SHA256[:8]}.pth", layers={}, head="fc")


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Mirror() as server:
        server.files = {RECORD.file: CONTENT}
        monkeypatch.setenv(URL_VARIABLE, server.url)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch keeps what torchvision fetched."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch" / "hub" / "checkpoints"


def by_hand(folder: Path) -> str:
    return f"put the file into {folder} yourself, or give --weights none."


def test_torchs_own_cache_is_shared(mirror, folder):
    import torch

    assert imagenet_file(RECORD) == folder / RECORD.file
    state_dict = folder / "state.pth"
    torch.save({"weight": torch.ones(2)}, state_dict)
    digest = hashlib.sha256(state_dict.read_bytes()).hexdigest()
    mirror.files[f"state-{digest[:8]}.pth"] = state_dict.read_bytes()
    record = Pretrained(file=f"state-{digest[:8]}.pth", layers={}, head="fc")
    torch.hub.load_state_dict_from_url(record.url, check_hash=True, progress=False)
    assert imagenet_file(record) == folder / record.file
    assert mirror.asked(record.file) == [None]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (("status", 404), "cannot be fetched (HTTP Error 404: Not Found)"),
        (("status", 503), "cannot be fetched (HTTP Error 503: Service Unavailable)"),
        (("page", 0), "is not torchvision's file, or it was cut short ("),
        (("cut", 1000), "is not torchvision's file, or it was cut short ("),
    ],
)
def test_what_a_server_may_do(mirror, folder, fault, words):
    if fault[0] == "page":
        mirror.files[RECORD.file] = b"<!DOCTYPE html><p>Log in"
    mirror.faults = [fault]
    text = refusal(imagenet_file, RECORD)
    assert text.startswith(f"{mirror.url}/{RECORD.file} {words}")
    assert text.endswith(by_hand(folder))
    assert list(folder.iterdir()) == []


def test_no_server(folder, unused_tcp_port, monkeypatch):
    monkeypatch.setenv(URL_VARIABLE, f"http://127.0.0.1:{unused_tcp_port}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    text = refusal(imagenet_file, RECORD)
    assert text.startswith(f"{RECORD.url} cannot be fetched (")
    assert "refused" in text
    assert text.endswith(by_hand(folder))


def test_an_address_that_is_none(folder, monkeypatch):
    monkeypatch.setenv(URL_VARIABLE, "data/weights")
    text = refusal(imagenet_file, RECORD)
    assert text.startswith(f"data/weights/{RECORD.file} cannot be fetched (")
    assert text.endswith(by_hand(folder))


def test_a_cache_that_cannot_be_made(mirror, folder, tmp_path):
    (tmp_path / "torch").write_text("a file, not a folder")
    text = refusal(imagenet_file, RECORD)
    assert text.startswith(f"{folder / RECORD.file} cannot be written (")
    assert text.endswith("set $TORCH_HOME to a folder that you can write.")
    assert mirror.requests == []


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file may grow beyond 1 MB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_no_trouble_of_the_network(mirror, folder, small_disk):
    assert refusal(imagenet_file, RECORD) == (
        f"{folder / RECORD.file} cannot be written (File too large). Make room on that disk, or "
        "set $TORCH_HOME to a folder that you can write."
    )
    assert list(folder.iterdir()) == []
