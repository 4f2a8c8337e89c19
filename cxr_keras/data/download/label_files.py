"""NIH's label table and official split lists: small files of a mirror, known by their SHA-256.

pooch fetches them; this module knows what they are, and says what went wrong.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
import requests

from cxr_keras.data.download.fetch import MB, TIMEOUT_S, TRY_AGAIN, disk_errors, locked, size_of
from cxr_keras.errors import DataError
from cxr_keras.utils.files import atomic_file

URL_VARIABLE = "CXR_KERAS_NIH_METADATA_URL"
# One commit of the mirror, so that a later one changes nothing here.
MIRROR_URL = (
    "https://huggingface.co/datasets/alkzar90/NIH-Chest-X-ray-dataset/resolve/"
    "36778e3b0e4f4b4fad31d1728d6190f3eda5b543/data/"
)
MORE_TRIES = 2  # pooch waits 1 s before the first, 2 s before the second


@dataclass(frozen=True)
class LabelFile:
    """A file of the data set that is not an image.

    Attributes:
        name: in the data folder and on the mirror.
        versions: (bytes, SHA-256) of each copy that is right.
    """

    name: str
    versions: tuple[tuple[int, str], ...]

    def problem(self, path: Path) -> str | None:
        """What was expected and what `path` is; None for a right file."""
        received = (size_of(path), pooch.file_hash(str(path)))
        if received in self.versions:
            return None
        with path.open("rb") as file:
            if file.read(MB).lstrip().lower().startswith((b"<!doctype", b"<html")):
                return "a web page came instead of a file (a login or error page?)"
        expected = " or ".join(_described(*version) for version in self.versions)
        return f"expected {expected}, received {_described(*received)}"


# Computed from the files. The first version of each is NIH's own: several public projects give the
# same SHA-256 for what they took from NIH's page. The second has the same rows: in the mirror's
# table the column "Patient Sex" is still "Patient Gender", and a list may end with a newline
# (which of the two lists the mirror serves could not be seen when this was written).
LABEL_FILES = (
    LabelFile(
        "Data_Entry_2017_v2020.csv",
        (
            (9_003_496, "c69a6daca3549af707ca9cacbdf9f9a7b6a9188e8c61157df653520bb72d8eb1"),
            (9_003_499, "dc1d2df67fdc1c5a7601d48699cda2b13dc2c4841488b4183dcf04884dbaca11"),
        ),
    ),
    LabelFile(
        "train_val_list.txt",
        (
            (1_470_907, "61fbe896321c1c1c8b75f3e4f3a08e4fef6486d95ef8a667c31d4d60dca6cb81"),
            (1_470_908, "eb8e4beb07b2018a5a9f16ba088761c0311959623e46fc54c9c2abb3e3737e47"),
        ),
    ),
    LabelFile(
        "test_list.txt",
        (
            (435_131, "38ca5ef7f756092946f57c1a59faca882ed589a1ab1f72590b45dc06c6d5e1cc"),
            (435_132, "3d0c44b68d287fd04f90c4f25df13428bba7b3e729f65715d5cf73a88e83d226"),
        ),
    ),
)


def fetch_label_file(file: LabelFile, folder: Path, base_url: str) -> Path:
    """Bring one label file into `folder`, unless a right one is already there.

    A file of that name that is not the published one is never replaced: it may be corrected by
    hand. Two processes that fetch the same file share it.

    Args:
        file: which, and how to know it.
        folder: the data folder, which exists.
        base_url: the address of the folder that holds the file.

    Returns:
        Where it lies.

    Raises:
        DataError: another file is there already, the server refused, there is no connection, what
            came is not the published file (it is deleted), or it cannot be written.
    """
    target = folder / file.name
    with disk_errors(target), locked(target):
        if target.exists():
            problem = file.problem(target)
            if problem:
                raise DataError(
                    f"{target} is not the published file: {problem}. Move it to another folder "
                    "and run it again to fetch NIH's own."
                )
            return target
        source = pooch.Pooch(
            path=folder,
            base_url=f"{base_url.rstrip('/')}/",
            registry={file.name: None},  # the downloader checks: there is more than one version
            retry_if_failed=MORE_TRIES,
        )
        try:
            source.fetch(file.name, downloader=_CheckedDownloader(file))
        except requests.RequestException as error:
            raise _refused(source.get_url(file.name), _reason(error)) from error
        with atomic_file(target) as new:  # pooch's file is for its owner alone, a copy is not
            shutil.copyfile(target, new)
    return target


class _CheckedDownloader:
    """pooch's own, which then looks at what came; what another try cannot mend is a DataError."""

    def __init__(self, file: LabelFile):
        self.file = file
        self.http = pooch.HTTPDownloader(
            chunk_size=MB // 4, timeout=TIMEOUT_S, headers={"User-Agent": "cxr-keras"}
        )

    def __call__(self, url: str, output_file: str, manager: Any) -> None:
        try:
            self.http(url, output_file, manager)
        except requests.RequestException as error:
            status = error.response.status_code if error.response is not None else None
            if isinstance(error, ValueError) or status not in {None, *TRY_AGAIN}:
                raise _refused(url, _reason(error)) from error
            raise
        problem = self.file.problem(Path(output_file))
        if problem:
            raise DataError(
                f"{url} is not the published file: {problem}. What came was deleted; try again, "
                f"and if it comes again the source is wrong. {_ADVICE}"
            )


_ADVICE = f"Another address can be set with ${URL_VARIABLE}."


def _refused(url: str, why: str) -> DataError:
    return DataError(
        f"{url} cannot be fetched: {why}. Open the address in a browser and save the file in the "
        f"data folder under the same name, or try again. {_ADVICE}"
    )


def _reason(error: requests.RequestException) -> str:
    """What went wrong between here and the server, in a few words."""
    if error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, ValueError):
        return f"it is no http or https address ({error})"
    if isinstance(error, requests.Timeout):
        return f"the server did not answer within {TIMEOUT_S:.0f} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was cut"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f"there is no connection ({cause.strerror})"
        cause = cause.__cause__ or cause.__context__
    return f"the connection failed ({error})"


def _described(size: int, sha256: str) -> str:
    return f"{size:,} bytes with SHA-256 {sha256[:8]}…"
