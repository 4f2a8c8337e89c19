"""The examples in docstrings and in the README are run, as they stand."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.places import ROOT

from cxr_keras.runs import onnx_file

PACKAGE = ROOT / "cxr_keras"


def has_examples(path):
    """Whether a docstring of this module holds an example."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    nodes = (
        n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, kinds)
    )
    return any(">>> " in (ast.get_docstring(node) or "") for node in nodes)


WITH_EXAMPLES = [path for path in sorted(PACKAGE.rglob("*.py")) if has_examples(path)]
DOCTEST = """
import doctest, importlib, sys
found = doctest.testmod(importlib.import_module(sys.argv[1]))
sys.exit(found.failed or not found.attempted)
"""


@pytest.fixture
def desk(phantoms, tmp_path):
    """A folder with what the examples name: small data folders, an image, a folder of images."""
    data, more = tmp_path / "data" / "nih", tmp_path / "more_images"
    clinic = tmp_path / "data" / "clinic"
    for folder in (data / "images", clinic / "scans", more):
        folder.mkdir(parents=True)
    shutil.copy(phantoms / "Data_Entry_2017_v2020.csv", data)
    drawn = sorted((phantoms / "images").iterdir())
    for image in drawn[:16]:
        shutil.copy(image, data / "images")
        shutil.copy(image, clinic / "scans")
    rows = [
        f"{image.name},{row // 2},{row % 2},{'' if row == 3 else row % 3 - 1}"
        for row, image in enumerate(drawn[:16])
    ]
    (clinic / "clinic.csv").write_text("\n".join(["image,patient,Edema,Mass", *rows]))
    shutil.copytree(data, tmp_path / "films")
    shutil.copy(drawn[16], tmp_path / "image.png")
    shutil.copy(drawn[17], more)
    return tmp_path


def run_code(code, *args, cwd):
    done = subprocess.run(
        [sys.executable, "-c", code, *args], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_functions_that_one_meets_first_have_examples():
    assert {"run.py", "registry.py"} <= {path.name for path in WITH_EXAMPLES}


@pytest.mark.slow
@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstring_examples_give_what_they_say(path, desk):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    run_code(DOCTEST, name, cwd=desk)


PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if "```python" in page.read_text(encoding="utf-8")
]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page, desk, run):
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    if "network.onnx" in "".join(blocks):
        onnx_file.export(run.folder, desk / "network.onnx")
    for block in blocks:
        run_code(block, cwd=desk)


@pytest.mark.slow
def test_the_commands_of_the_tutorial_run_as_they_stand(tmp_path):
    """On fewer epochs and images, which nothing else depends on."""
    page = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 6
    script = (
        "\n".join(blocks).replace("--epochs 12", "--epochs 2").replace("--size 96", "--size 64")
    )
    run = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("cxr-keras", "python -m cxr_keras")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    first = tmp_path / "saved_models" / "first"
    for name in ("model.keras", "card.md", "reliability.png"):
        assert (first / name).is_file()
    assert (tmp_path / "findings.csv").is_file()
    assert (tmp_path / "films.pdf").is_file()


def test_the_readme_has_an_example():
    assert ROOT / "README.md" in PAGES
