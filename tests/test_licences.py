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


def test_what_a_cuda_build_of_torch_brings_is_left_out(tmp_path, monkeypatch):
    needs = ["nvidia-cublas", "cuda-toolkit[all]==13.0", "triton", "cudagraphs", "tritonclient"]
    for name, requires in {"gpu-torch": needs, **{n.split("[")[0]: [] for n in needs}}.items():
        about = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info" / "METADATA"
        about.parent.mkdir()
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0"]
        about.write_text("\n".join([*lines, *(f"Requires-Dist: {n}" for n in requires)]) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert set(make_licences.parts_of("gpu-torch")) == {"cudagraphs", "tritonclient"}


@pytest.mark.parametrize("licence", ["", "Proprietary", "GPL-3.0-or-later", "AGPL-3.0"])
def test_another_licence_is_refused(licence):
    assert make_licences.unfit({"numpy": "BSD-3-Clause", "new": licence})
