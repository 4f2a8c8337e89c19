"""Nothing in an archive leaves the folder that it is unpacked into."""

from __future__ import annotations

import io
import string
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from helpers.fuzzing import apply_all, assert_sentence, confined, edits, fuzz, gzipped
from hypothesis import example, given
from hypothesis import strategies as st

from cxr_keras.data.download.archives import extract_archive
from cxr_keras.errors import DataError

ARCHIVE = "images_001.tar.gz"
image_names = st.integers(1, 4).map(lambda number: f"images/{number:08d}_000.png")
# "{box}" is the folder that holds everything of an example
strange_names = st.one_of(
    st.sampled_from(
        [
            "../escaped.png",
            "../../escaped.png",
            "images/../../00000001_000.png",
            "{box}/escaped.png",
            "{box}/nih/images/00000001_000.png",
            "images/00000001_000.png/../../../escaped.png",
            "./images/00000001_000.png",
            "images//00000001_000.png",
            "images/00000001_000.png\n",
            "images/00000001_000.png/",
            "images/\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0661_000.png",
            "images/00000001_000.PNG",
            "images\\00000001_000.png",
            ".done/" + ARCHIVE,
            "images",
            "",
            ".",
            "/",
            "a/" * 60 + "deep.png",
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}\0"), max_size=20),
    st.text(string.printable.replace("{", "").replace("}", ""), max_size=200).map(
        "images/".__add__
    ),
)
plain_kinds = [tarfile.REGTYPE, tarfile.AREGTYPE]
all_kinds = st.sampled_from(
    plain_kinds * 3
    + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
    + [tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, b"Z"]
)
PAX_KEYS = "path size linkpath mtime uid hdrcharset note GNU.sparse.map GNU.sparse.size"
PAX_VALUES = ["", "0", "1", "-1", "4", "0,4", "1e99", "nan", "BINARY", "9" * 30, "../up", "é"]
pax_headers = st.dictionaries(
    st.sampled_from([*PAX_KEYS.split(), *(f"GNU.sparse.{x}" for x in ("major", "minor", "name"))]),
    st.sampled_from(PAX_VALUES),
    max_size=2,
)


@dataclass(frozen=True)
class Member:
    """One entry of an archive."""

    name: str
    content: bytes
    kind: bytes = tarfile.REGTYPE
    link: str = ""
    pax: tuple[tuple[str, str], ...] = ()


images = st.builds(Member, image_names, st.binary(min_size=1, max_size=600))
strangers = st.builds(
    Member,
    image_names | strange_names,
    st.binary(max_size=20),
    all_kinds,
    st.sampled_from(["", "..", "../secret.txt", "{box}/secret.txt", "/etc/passwd"]),
    pax_headers.map(lambda headers: tuple(headers.items())),
)


def gzipped_tar(members: list[Member], box: Path, form: int) -> bytes:
    return gzipped(tar_bytes(members, box, form))


def tar_bytes(members: list[Member], box: Path, form: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, errors="surrogateescape") as tar:
        for member in members:
            info = tarfile.TarInfo(member.name.replace("{box}", str(box)))
            info.type, info.linkname = member.kind, member.link.replace("{box}", str(box))
            info.size, info.pax_headers = len(member.content), dict(member.pax)
            tar.addfile(info, io.BytesIO(member.content))
    return buffer.getvalue()


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every file below `folder` with its content; None for anything that is no plain file."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        if path.is_file() and not path.is_symlink()
        else None
        for path in folder.rglob("*")
    }


def unpack(content: Callable[[Path], bytes]) -> dict[str, bytes] | None:
    """The images of an archive, None if refused; asserts that nothing else came into being."""
    with tempfile.TemporaryDirectory() as folder:
        around = Path(folder)
        box = around / "so" / "that" / "dots" / "end" / "here"
        (box / "nih" / "images").mkdir(parents=True)
        (box / "nih" / "images" / "00000009_000.png").write_bytes(b"an earlier image")
        (box / "secret.txt").write_text("mine")
        archive = box / ARCHIVE
        archive.write_bytes(content(box))
        before = tree(around)
        try:
            with confined() as escaped:
                count = extract_archive(archive, box / "nih")
        except DataError as error:
            assert_sentence(error, archive)
            count = None
        after = tree(around)
        nih = (box / "nih").relative_to(around).as_posix()
    assert not [str(warning.message) for warning in escaped]
    assert {name: after.get(name, "gone") for name in before} == before
    new = {name: what for name, what in after.items() if name not in before}
    new.pop(f"{nih}/.{ARCHIVE}.lock", None)
    new.pop(f"{nih}/.done", None)
    if count is None:
        assert new == {}
        return None
    listed = new.pop(f"{nih}/.done/{ARCHIVE}").decode().splitlines()
    assert set(new) == {f"{nih}/images/{name}" for name in listed}
    assert len(listed) == count
    return {Path(name).name: what for name, what in new.items()}


forms = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


@fuzz(
    given(st.lists(images, min_size=1, max_size=4), forms),
    # FOUND: the second was "cannot be written (No such file or directory)", the first stayed
    example(
        [Member("images/00000001_000.png", b"one"), Member("images/00000001_000.png", b"two")],
        tarfile.PAX_FORMAT,
    ),
    cost=4,
)
def test_an_archive_of_images_is_unpacked_whole(members, form):
    expected = {Path(member.name).name: member.content for member in members}
    if len(expected) == len(members):
        assert unpack(lambda box: gzipped_tar(members, box, form)) == expected
    else:  # the same image twice: refused, and like everything refused without a trace
        unpack(lambda box: gzipped_tar(members, box, form))


def can_be_written(members: list[Member], form: int) -> bool:
    """Whether Python itself can write such an archive."""
    try:
        tar_bytes(members, Path("/box"), form)
    except ValueError:
        return False
    return True


def amid(
    before: st.SearchStrategy[list[Member]], one: st.SearchStrategy[Member]
) -> st.SearchStrategy[list[Member]]:
    return st.builds(lambda a, x, b: [*a, x, *b], before, one, before)


archives = st.tuples(amid(st.lists(images, max_size=2), strangers), forms).filter(
    lambda archive: can_be_written(*archive)
)


@fuzz(given(archives), cost=4)
def test_a_stranger_in_an_archive_stays_inside_it(archive):
    members, form = archive
    unpacked = unpack(lambda box: gzipped_tar(members, box, form))
    if unpacked and not any(member.pax for member in members):  # a pax header may change the size
        assert set(unpacked.values()) <= {member.content for member in members}


def mend_sums(tar: bytes) -> bytes:
    """Make the sum right of each block that looks like a header."""
    blocks = [bytearray(tar[at : at + 512]) for at in range(0, len(tar), 512)]
    for block in blocks:
        if block[257:262] == b"ustar" and len(block) == 512:
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
    return b"".join(blocks)


@fuzz(
    given(archives, st.lists(edits, max_size=3), st.lists(edits, max_size=2), st.booleans()), cost=4
)
def test_a_damaged_archive_is_a_sentence_and_leaves_no_trace(archive, inside, outside, mended):
    def content(box: Path) -> bytes:
        tar = apply_all(tar_bytes(archive[0], box, archive[1]), inside)
        return apply_all(gzipped(mend_sums(tar) if mended else tar), outside)

    unpack(content)
