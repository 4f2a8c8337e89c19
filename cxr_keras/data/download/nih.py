"""NIH ChestX-ray14 from the network: the label files, then the archives one by one.

The box list, BBox_List_2017.csv, is on no server that this module knows: `download` says so.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxr_keras.data.download import label_files
from cxr_keras.data.download.archives import extract_archive
from cxr_keras.data.download.fetch import disk_errors, fetch, locked, part_of, size_of
from cxr_keras.data.download.label_files import LABEL_FILES, LabelFile, fetch_label_file
from cxr_keras.errors import DataError
from cxr_keras.utils.console import notice

URL_VARIABLE = "CXR_KERAS_NIH_URL"
NIH_URL = "https://nihcc.box.com/shared/static/"
LICENCE = (
    "ChestX-ray14 may be used without restriction; acknowledge the NIH Clinical Center and cite "
    "Wang et al., ChestX-ray8, CVPR 2017."
)


@dataclass(frozen=True)
class Archive:
    """One of NIH's archives: its name here, its key below the base address, its size and MD5."""

    name: str
    key: str
    bytes: int
    md5: str


# Sizes from the static links; MD5s from the data set's own FAQ, question 7.
ARCHIVES = tuple(
    Archive(name, key, int(size), md5)
    for name, key, size, md5 in map(
        str.split,
        """\
images_001.tar.gz vfk49d74nhbxq3nqjg0900w5nvkorp5c.gz 2008470987 fe8ed0a6961412fddcbb3603c11b3698
images_002.tar.gz i28rlmbvmfjbl8p2n3ril0pptcmcu9d1.gz 3952623504 ab07a2d7cbe6f65ddd97b4ed7bde10bf
images_003.tar.gz f1t00wrtdk94satdfb9olcolqx20z2jp.gz 3929234850 2301d03bde4c246388bad3876965d574
images_004.tar.gz 0aowwzs5lhjrceb3qp67ahp0rd1l1etg.gz 3838903983 9f1b7f5aae01b13f4bc8e2c44a4b8ef6
images_005.tar.gz v5e3goj22zr6h8tzualxfsqlqaygfbsn.gz 3935496531 1861f3cd0ef7734df8104f2b0309023b
images_006.tar.gz asi7ikud9jwnkrnkj99jnpfkjdes7l6l.gz 3986301172 456b53a8b351afd92a35bc41444c58c8
images_007.tar.gz jn1b4mw4n6lnh74ovmcjb8y48h8xj07n.gz 4016328426 1075121ea20a137b87f290d6a4a5965e
images_008.tar.gz tvpxmn7qyrgl0w8wfh9kqfjskv6nmm1j.gz 4018347353 b61f34cec3aa69f295fbb593cbd9d443
images_009.tar.gz upyy3ml7qdumlgk2rfcvlb9k6gvqq2pj.gz 4111327929 442a3caa61ae9b64e61c561294d1e183
images_010.tar.gz l6nilvfa9cg3s28tqv1qc1olm3gnz54p.gz 4181556296 09ec81c4c31e32858ad8cf965c494b74
images_011.tar.gz hhq8fkdgvcari67vfhs7ppg2w6ni4jze.gz 4187084020 499aefc67207a5a97692424cf5dbeed5
images_012.tar.gz ioqwiy20ihqwyr8pf4c24eazhh281pbu.gz 2914187733 dc9fda1757c2de0032b63347a7d2895c
""".splitlines(),
    )
)


def download(
    dest: str | Path,
    *,
    archives: str | None = None,
    metadata_only: bool = False,
    base_url: str | None = None,
    metadata_url: str | None = None,
    keep_archives: bool = False,
    table: Sequence[Archive] = ARCHIVES,
    files: Sequence[LabelFile] = LABEL_FILES,
) -> Path:
    """Bring ChestX-ray14, or some of its archives, into NIH's own layout.

    An archive whose images are all there is neither fetched nor unpacked again. The box list
    (BBox_List_2017.csv) is not on the mirror of the label files: take it from NIH's page.

    Args:
        dest: the data folder; made if missing. Images go to `dest/images`.
        archives: such as "1,3-5"; all without it.
        metadata_only: only the label table and the official split lists.
        base_url: a mirror that serves the archives under NIH's keys; `$CXR_KERAS_NIH_URL`.
        metadata_url: a mirror of the label files; `$CXR_KERAS_NIH_METADATA_URL`.
        keep_archives: keep each archive after its images are unpacked.
        table: the archives that there are.
        files: the label files that there are.

    Returns:
        The data folder.

    Raises:
        DataError: bad numbers, too little room, a file that cannot be fetched or is not the
            published one (a label file that is already there, too), or an archive that holds
            anything but radiographs.
    """
    folder = Path(dest).expanduser()
    chosen = [] if metadata_only else [table[n - 1] for n in parse_archives(archives, len(table))]
    base = (base_url or os.environ.get(URL_VARIABLE) or NIH_URL).rstrip("/")
    mirror = metadata_url or os.environ.get(label_files.URL_VARIABLE) or label_files.MIRROR_URL
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        missing = [archive for archive in chosen if not _is_done(folder, archive.name)]
        _check_room(folder, missing, keep_archives)
    size = sum(archive.bytes for archive in missing)
    notice(
        f"{folder}: {len(files)} label files and {len(missing)} archives ({size / 1e9:.1f} GB) "
        f"to fetch; {len(chosen) - len(missing)} archives are here already."
    )
    notice(LICENCE)
    for file in files:
        fetch_label_file(file, folder, mirror)
    notice("BBox_List_2017.csv is not on the mirror: take it from NIH's page if you need boxes.")
    for archive in missing:
        _bring(archive, folder, f"{base}/{archive.key}", keep=keep_archives)
    return folder


def parse_archives(text: str | None, count: int = len(ARCHIVES)) -> list[int]:
    """The archives that `text` names: "1,3-5" → [1, 3, 4, 5]; None → all of 1 … `count`.

    Raises:
        DataError: not numbers and ranges, or not between 1 and `count`.
    """
    if text is None:
        return list(range(1, count + 1))
    numbers: set[int] = set()
    for piece in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,4})\s*(?:-\s*([0-9]{1,4})\s*)?", piece)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= count:
            raise DataError(
                f"Archives are named by numbers and ranges between 1 and {count}, such as 1,3-5. "
                f"Received: {text!r}."
            )
        numbers.update(range(first, last + 1))
    return sorted(numbers)


def _bring(archive: Archive, folder: Path, url: str, *, keep: bool) -> None:
    """Fetch and unpack one archive, alone: another process may be told to bring the same."""
    target = folder / archive.name
    advice = f"Another address can be set with ${URL_VARIABLE}."
    with disk_errors(target), locked(target):
        if not _is_done(folder, archive.name):
            fetch(url, target, size=archive.bytes, md5=archive.md5, advice=advice)
            images = extract_archive(target, folder)
            notice(f"{archive.name}: {images:,} images in {folder / 'images'}.")
        if not keep:
            target.unlink(missing_ok=True)


def _is_done(folder: Path, name: str) -> bool:
    """Whether every image of the archive `name` has been unpacked and is still there."""
    marker = folder / ".done" / name
    if not marker.is_file():
        return False
    here = set(os.listdir(folder / "images")) if (folder / "images").is_dir() else set()
    gone = [image for image in marker.read_text().split() if image not in here]
    if gone:
        notice(f"{name} was unpacked before, but {len(gone):,} of its images are gone: once more.")
    return not gone


def _check_room(folder: Path, chosen: Sequence[Archive], keep: bool) -> None:
    """Images take about as much room as their archive, which goes before the next one comes."""
    sizes = [archive.bytes for archive in chosen]
    targets = [folder / archive.name for archive in chosen]
    here = sum(size_of(path) for target in targets for path in (target, part_of(target)))
    need = sum(sizes) + (sum(sizes) if keep else max(sizes, default=0)) - here
    free = shutil.disk_usage(folder).free
    if need > free:
        raise DataError(
            f"{folder} has {free / 1e9:.1f} GB free, but {len(chosen)} archives need "
            f"{need / 1e9:.1f} GB. Choose fewer with --archives 1,3-5, or a folder on another disk."
        )
