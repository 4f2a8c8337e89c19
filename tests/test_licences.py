"""What the program stands on may be used by all: every licence is known and listed."""

import itertools
import re
import tomllib

import pytest
from helpers.places import ROOT, module_at
from packaging.requirements import Requirement

make_licences = module_at(ROOT / "docs" / "make_licences.py")


def test_every_direct_dependency_is_on_the_page():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    asked = itertools.chain(project["dependencies"], *extras)
    names = {Requirement(line).name for line in asked} - {"cxr-keras"}
    listed = set(re.findall(r"^\| (\S+) \|", make_licences.FILE.read_text("utf-8"), re.MULTILINE))
    assert names <= listed


def test_what_is_installed_here_has_a_known_licence():
    """In `.ci/run` that is every extra."""
    needed = make_licences.parts_of("cxr-keras")
    assert {"torch", "keras", "pytest"} <= set(needed)
    assert make_licences.unfit({name: make_licences.licence_of(name) for name in needed}) == []


@pytest.mark.parametrize("licence", ["", "Proprietary", "GPL-3.0-or-later", "AGPL-3.0"])
def test_another_licence_is_refused(licence):
    assert make_licences.unfit({"numpy": "BSD-3-Clause", "new": licence})
