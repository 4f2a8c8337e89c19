"""`Reading`: what a person says of how data is to be read. This module imports nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

from cxr_keras.data.options import IGNORE, UNCERTAIN, Uncertain
from cxr_keras.errors import DataError
from cxr_keras.utils.arguments import PathLike, as_text

if TYPE_CHECKING:
    from cxr_keras.data.dataset import Dataset

Names: TypeAlias = "str | Sequence[str]"
Data: TypeAlias = "PathLike | Dataset | Sequence[PathLike | Dataset]"

PATHS = ("table", "images", "manifest")
_NAMES = ("views", "labels", "label_columns")
_OF_TABLES = ("path_column", "patient_column", "label_columns")


class ReadSettings(TypedDict, total=False):
    """The fields of `Reading` as Python users pass them; None is "not said"."""

    format: str | None
    uncertain: Uncertain | None
    views: Names | None
    labels: Names | None
    table: PathLike | None
    images: PathLike | None
    path_column: str | None
    patient_column: str | None
    label_columns: Names | None
    manifest: PathLike | None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How data is read.

    Attributes:
        format: the reader, see `readers.registry`; None for the one that recognises the folder.
        uncertain: an uncertain label counts as "ignore" (unknown), "ones" or "zeros".
        views: views to keep, such as "PA,AP,L", or "all"; None for the frontal ones, and images
            whose view nobody knows.
        labels: of several data sets "shared" or "all" (their union); or names of labels, in order.
            None for all labels of one data set, the shared ones of several.
        table: any CSV with a row an image, in place of a folder in a known layout.
        images: the folder of its images; None for the CSV's own folder.
        path_column: its column with the images' paths; None to guess.
        patient_column: its column with the patients; None to guess.
        label_columns: its columns of labels, or one with "A|B" cells; None to guess.
        manifest: a CSV that also says which split each image is in, as `prepare` writes it.

    Raises:
        DataError: two of these exclude each other.
    """

    format: str | None = None
    uncertain: Uncertain = IGNORE
    views: Names | None = None
    labels: Names | None = None
    table: PathLike | None = None
    images: PathLike | None = None
    path_column: str | None = None
    patient_column: str | None = None
    label_columns: Names | None = None
    manifest: PathLike | None = None

    def __post_init__(self) -> None:
        for name in PATHS:
            object.__setattr__(self, name, as_text(getattr(self, name)))
        for name in _NAMES:
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        if self.table and self.manifest:
            raise DataError("A manifest is a table of its own: give --manifest or --table.")
        if self.format and (self.table or self.manifest):
            raise DataError(
                f"--format {self.format} names a known layout, and --table or --manifest a CSV of "
                "any other. Give one of them."
            )
        of_tables = [name for name in _OF_TABLES if getattr(self, name)]
        if of_tables and not (self.table or self.manifest):
            option = of_tables[0].replace("_", "-")
            raise DataError(f"--{option} says how a CSV is read. Give it with --table.")
        if self.images and not self.table:
            raise DataError("--images holds the images of a CSV. Give it with --table.")
        if self.uncertain not in UNCERTAIN:
            raise DataError(
                f"What is uncertain counts as one of: {', '.join(UNCERTAIN)}. "
                f"Received: {self.uncertain!r}."
            )

    def said(self) -> dict[str, Any]:
        """What differs from the defaults, for run.json and the card."""
        own = {field.name: getattr(self, field.name) for field in fields(Reading)}
        usual = asdict(Reading())
        return {name: value for name, value in own.items() if value != usual[name]}

    def words(self) -> dict[str, str]:
        """What differs from the defaults, each as a part of a folder's name: "views-PA"."""
        texts = {k: v if isinstance(v, str) else "-".join(v) for k, v in self.said().items()}
        short = {k: v if len(v) <= 24 else f"{v[:24]}…" for k, v in texts.items()}
        return {name: f"{name}-{text}" for name, text in short.items()}

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> tuple[Reading, dict[str, Any]]:
        """Take the reading out of settings; it, and the other settings.

        None stands for "not said".
        """
        known = {field.name for field in fields(Reading)}
        own = {name: value for name, value in settings.items() if name in known}
        rest = {name: value for name, value in settings.items() if name not in known}
        return cls(**{name: value for name, value in own.items() if value is not None}), rest


def as_data(data: Data | None) -> tuple[PathLike | Dataset, ...]:
    """One data set or several, as a tuple; none for None."""
    if data is None or data == "":
        return ()
    if isinstance(data, str | os.PathLike) or not isinstance(data, Sequence):
        return (data,)
    return tuple(data)


def _names(what: str, value: Names | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    parts = value.split(",") if isinstance(value, str) else list(value)
    names = tuple(part.strip() for part in parts if part.strip())
    if not names:
        raise DataError(f"{what} needs names, with commas between. Received: {value!r}.")
    return names
