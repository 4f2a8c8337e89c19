"""Framing: how large the square is that a network sees, and how much of the image is in it.

Data and networks must agree on it, and neither imports the other; so it is a room of its own
below both. It imports nothing heavy: the command line shows its choices and defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cxr_keras.errors import CxrError
from cxr_keras.utils.arguments import whole

Fit = Literal["crop", "whole"]
FITS: tuple[Fit, ...] = get_args(Fit)
SIZE = 224  # pixels, as torchvision's networks were trained
FIT: Fit = "crop"
MIN_SIZE, MAX_SIZE = 64, 1024  # five halvings leave 2 places; NIH's images have 1024 pixels


@dataclass(frozen=True)
class Framing:
    """How an image becomes the square that is stored and given to a network.

    Attributes:
        size: side in pixels of what the network sees, 64…1024.
        fit: "crop": the shorter side is scaled to 8/7 of `size` and the centre square of that is
            stored, whose central `size` pixels the network sees (for 224 torchvision's
            `Resize(256)`, `CenterCrop(224)`). "whole": the longer side is scaled to `size`, and
            black makes it a square: nothing is cut off.

    Raises:
        CxrError: the size is out of bounds, or there is no such fit.
    """

    size: int = SIZE
    fit: Fit = FIT

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", whole("size", self.size, at_least=MIN_SIZE))
        if self.size > MAX_SIZE:
            raise CxrError(f"size must be {MAX_SIZE} or less. Received: {self.size}.")
        if self.fit not in FITS:
            raise CxrError(f"There is no fit {self.fit!r}. Choose one of: {', '.join(FITS)}.")

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Framing:
        """That of "size" and "fit", such as a card's "data" has; the default where they are absent.

        Files written before there was a choice do not say them.
        """
        size, fit = data.get("size"), data.get("fit")
        return cls(SIZE if size is None else size, FIT if fit is None else fit)

    @property
    def stored(self) -> int:
        """Side in pixels of the square that is stored and given to the network."""
        return round(self.size * 8 / 7) if self.fit == "crop" else self.size

    @property
    def margins(self) -> tuple[int, int]:
        """Pixels of the stored square that the network leaves out: before and after its centre."""
        before = (self.stored - self.size) // 2
        return before, self.stored - self.size - before

    def in_square(
        self, box: tuple[float, float, float, float], width: int, height: int
    ) -> tuple[float, float, float, float]:
        """Where a part of an image lies in the square that is stored of it.

        Args:
            box: x, y, width and height in pixels of the image, from its upper left corner.
            width: of the image, in pixels.
            height: of the image.

        Returns:
            Left, top, right and bottom in pixels of the stored square, cut off at its rim; left is
            not below right where nothing of the box is in it.
        """
        side = self.stored
        left, top, across, down = self.placed(width, height)
        x, y, wide, high = box
        ends = (
            left + x * across / width,
            top + y * down / height,
            left + (x + wide) * across / width,
            top + (y + high) * down / height,
        )
        return tuple(min(max(end, 0.0), float(side)) for end in ends)  # type: ignore[return-value]

    def placed(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Where the whole image would lie in the stored square: left, top, width and height.

        In pixels of the square, whole ones, as the image is scaled; with "crop" it sticks out of
        the square.

        Args:
            width: of the image, in pixels.
            height: of the image.
        """
        side, shorter, longer = self.stored, min(width, height), max(width, height)
        if self.fit == "crop":
            across, down = (max(side, length * side // shorter) for length in (width, height))
            return -((across - side) // 2), -((down - side) // 2), across, down
        across, down = (max(1, round(length * side / longer)) for length in (width, height))
        return (side - across) // 2, (side - down) // 2, across, down

    def __str__(self) -> str:
        return f"{self.size} px, {self.fit}"


DEFAULT_FRAMING = Framing()
