"""NIH's archives are unpacked whole, or refused without a trace."""

from __future__ import annotations

import gzip
import tarfile

import pytest
from helpers.archives import IMAGES, everything_below, member, write_archive
from helpers.mirror import CONTENT
from helpers.processes import in_process
from helpers.refusals import refusal

from cxr_keras.data.download.archives import extract_archive


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


CONFINED = """
import resource, sys
from pathlib import Path
from cxr_keras.data.download.archives import extract_archive
from cxr_keras.errors import DataError
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    extract_archive(Path(sys.argv[1]), Path(sys.argv[2]))
except DataError as error:
    sys.exit(f"DataError: {error}")
"""


def test_a_full_disk_while_unpacking(tmp_path):
    large = member("images/00000009_000.png", CONTENT)
    archive = write_archive(tmp_path / "images_001.tar.gz", large)
    process = in_process(CONFINED, archive, tmp_path / "nih")
    text = process.communicate(timeout=20)[1]
    assert f"DataError: {tmp_path / 'nih'} cannot be written (File too large)." in text
    assert "Traceback" not in text
    assert everything_below(tmp_path / "nih") == {}
    assert extract_archive(archive, tmp_path / "nih") == 4
