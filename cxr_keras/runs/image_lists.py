"""Which images are in a list of a model file: a test of membership that shows no image.

A list holds keyed digests: the digest of an image's pixels, hashed with a random salt that stands
in the same list. So two files cannot be matched by their lists, and no table computed beforehand
finds an image in them. It is no secret to a person who holds an image and the file: they can test
it as this module does.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from cxr_keras.data.images import VERSION

_KEYED = f"keyed digests of pixels, decoding {VERSION}"  # first line of a list
_PLAIN = f"digests of pixels, decoding {VERSION}"  # of lists written before there was a salt
_SALT = "salt "


@dataclass(frozen=True)
class ImageList:
    """A set of images, as salted digests; several salts where lists were joined.

    Attributes:
        parts: (salt, keyed digests) each.
    """

    parts: tuple[tuple[bytes, frozenset[str]], ...]

    @classmethod
    def of(cls, digests: Iterable[str]) -> ImageList:
        """A list of images by their `pixel_store.pixel_digest`, with a new salt."""
        salt = secrets.token_bytes(16)
        return cls(((salt, frozenset(_keyed(salt, digest) for digest in digests)),))

    @classmethod
    def joined(cls, lists: Iterable[ImageList]) -> ImageList:
        """A list of the images in any of `lists`, each part under its own salt."""
        return cls(tuple(part for one in lists for part in one.parts))

    @classmethod
    def from_text(cls, text: str) -> ImageList | None:
        """Read a list; None where another version decoded its images to other pixels."""
        first, *lines = text.split("\n")
        if first == _PLAIN:
            return cls.of(lines)
        if first != _KEYED:
            return None
        parts: list[tuple[bytes, set[str]]] = []
        for line in lines:
            if line.startswith(_SALT):
                parts.append((bytes.fromhex(line.removeprefix(_SALT)), set()))
            else:
                parts[-1][1].add(line)
        return cls(tuple((salt, frozenset(digests)) for salt, digests in parts))

    def to_text(self) -> str:
        """The list as a file holds it."""
        lines = [_KEYED]
        for salt, digests in self.parts:
            lines += [_SALT + salt.hex(), *sorted(digests)]
        return "\n".join(lines)

    def count(self, digests: Iterable[str]) -> int:
        """How many of these images are in the list."""
        return sum(any(_keyed(salt, one) in kept for salt, kept in self.parts) for one in digests)


def _keyed(salt: bytes, digest: str) -> str:
    return hashlib.blake2b(digest.encode("ascii"), key=salt, digest_size=16).hexdigest()
