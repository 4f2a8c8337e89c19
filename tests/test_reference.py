"""docs/reference/ lists what is public: it is what the program says of itself."""

import importlib.metadata
import re

import pytest
from helpers.places import ROOT, module_at

import cxr_keras
from cxr_keras.cli import main

make_reference = module_at(ROOT / "docs" / "make_reference.py")
FOLDER = ROOT / "docs" / "reference"


def heads(name):
    """The headings of a page."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    return re.findall(r"^## (.*)$", text, re.MULTILINE)


def test_every_command_and_public_name_is_listed():
    assert {head.split()[0] for head in heads("commands.md")} == set(main.commands)
    public = {name for name in cxr_keras.__all__ if not name.startswith("__")}
    assert public <= set(heads("python.md"))


@pytest.mark.parametrize("name", make_reference.FILES)
def test_a_page_is_what_the_program_says(name):
    """Whoever changes what is public sees it here: run docs/make_reference.py."""
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line
    )
    for package in ("click", "keras"):
        if importlib.metadata.version(package) != pinned[package]:
            pytest.skip(f"written with {package} {pinned[package]}, which formats it")
    expected = (FOLDER / name).read_text(encoding="utf-8")
    assert make_reference.FILES[name]() == expected, "run docs/make_reference.py"
