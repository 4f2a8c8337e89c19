"""docs/reference/ lists what is public: it is what the program says of itself."""

import dataclasses
import importlib.metadata
import inspect
import json
import re

import pytest
from helpers.places import ROOT, module_at

import cxr_keras
from cxr_keras.cli import main
from cxr_keras.training.config import TrainConfig

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


def options_of(command):
    return {name for p in command.params for name in (*p.opts, *p.secondary_opts)}


def test_what_0_1_0_took_is_still_taken():
    """Options and arguments of the first version; `fixtures/v0_1_0/public.json` never changes."""
    first = json.loads((ROOT / "tests" / "fixtures" / "v0_1_0" / "public.json").read_text())
    for name, options in first["options"].items():
        command = main
        for part in name.split():
            command = command.commands[part]
        assert set(options) <= options_of(command), name
    settings = {field.name for field in dataclasses.fields(TrainConfig)}
    for name, arguments in first["arguments"].items():
        taken = set(inspect.signature(getattr(cxr_keras, name)).parameters)
        assert set(arguments) <= (taken | settings if "settings" in taken else taken), name


def test_everybody_is_told_the_same_version():
    version = importlib.metadata.version("cxr-keras")
    assert version == cxr_keras.__version__
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {version}\n" in citation
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)", changes, re.MULTILINE)[0] == version
