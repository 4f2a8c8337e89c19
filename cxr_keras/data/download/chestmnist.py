"""ChestMNIST from the network: one archive of NumPy arrays, in one of four sizes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cxr_keras.data.download.fetch import RETRY_WAITS_S, disk_errors, fetch
from cxr_keras.data.options import CHESTMNIST_SIZE
from cxr_keras.data.readers.chestmnist import file_name
from cxr_keras.errors import DataError
from cxr_keras.utils.console import notice

URL_VARIABLE = "CXR_KERAS_CHESTMNIST_URL"
ZENODO_URL = "https://zenodo.org/records/10519652/files/"
LICENCE = (
    "ChestMNIST is licensed CC BY 4.0; cite Yang et al., MedMNIST v2, Scientific Data 2023, and "
    "Wang et al., ChestX-ray8, CVPR 2017."
)

# Pixels a side → MD5, from medmnist 3.0 (info.py). The record's sizes in bytes stand nowhere that
# could be checked when this was written, so the size is the one that the server says.
MD5S = {
    28: "02c8a6516a18b556561a56cbdd36c4a8",
    64: "9de6cd0b934ebb5b7426cfba5efbae16",
    128: "db107e5590b27930b62dbaf558aebee3",
    224: "45bd33e6f06c3e8cdb481c74a89152aa",
}


def download(
    dest: str | Path,
    *,
    size: int = CHESTMNIST_SIZE,
    base_url: str | None = None,
    md5s: Mapping[int, str] = MD5S,
    waits: Sequence[float] = RETRY_WAITS_S,
) -> Path:
    """Bring ChestMNIST into a folder; a right file that is there is not fetched again.

    Args:
        dest: the folder; made if missing.
        size: pixels a side: 28, 64, 128 or 224.
        base_url: the address of a folder with the files; `$CXR_KERAS_CHESTMNIST_URL`.
        md5s: of the archives, by size.
        waits: seconds before each new try, see `fetch`.

    Returns:
        The archive, which can be named as the data.

    Raises:
        DataError: there is no such size, or the file cannot be fetched, is not the published one
            or cannot be written.
    """
    if size not in md5s:
        raise DataError(
            f"ChestMNIST has images of {', '.join(map(str, md5s))} pixels a side. Received: {size}."
        )
    folder = Path(dest).expanduser()
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    base = (base_url or os.environ.get(URL_VARIABLE) or ZENODO_URL).rstrip("/")
    notice(LICENCE)
    name = file_name(size)
    return fetch(
        f"{base}/{name}?download=1",
        folder / name,
        size=None,
        md5=md5s[size],
        advice=f"Another address can be set with ${URL_VARIABLE}.",
        waits=waits,
    )
