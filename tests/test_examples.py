"""The examples in docstrings, on pages and in the notebook are run, as they stand."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.places import ROOT, module_at

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
DOCTESTS = """
import doctest, importlib, sys
for name in sys.argv[1:]:
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted and not found.failed, name
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


def run_shell(script, *, cwd):
    """Commands as a person types them; cxr-keras is that of this checkout."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script.replace("cxr-keras", "python -m cxr_keras")],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr[-3000:]


def blocks_of(page, *kinds):
    """(kind, text) of a page's blocks of these kinds, "sh" or "python", in its order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"```({'|'.join(kinds)})\n(.*?)```", text, re.DOTALL)


def test_the_functions_that_one_meets_first_have_examples():
    assert {"run.py", "registry.py"} <= {path.name for path in WITH_EXAMPLES}


@pytest.mark.slow
def test_docstring_examples_give_what_they_say(desk):
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in WITH_EXAMPLES]
    run_code(DOCTESTS, *names, cwd=desk)


PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if "```python" in page.read_text(encoding="utf-8")
]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page, desk, run):
    """On fewer epochs, as the tutorial."""
    blocks = [block for _, block in blocks_of(page, "python")]
    if "network.onnx" in "".join(blocks):
        onnx_file.export(run.folder, desk / "network.onnx")
    for block in blocks:
        run_code(block.replace("epochs=30", "epochs=3"), cwd=desk)


@pytest.mark.slow
def test_the_commands_of_the_tutorial_run_as_they_stand(tmp_path):
    """On fewer epochs and images, which nothing else depends on."""
    blocks = [block for _, block in blocks_of(ROOT / "docs" / "tutorial.md", "sh")]
    assert len(blocks) >= 6
    script = "\n".join(blocks)
    fewer = {"--epochs 12": "--epochs 2", "--size 96": "--size 64", "--count 500": "--count 140"}
    for usual, here in fewer.items():
        assert usual in script
        script = script.replace(usual, here)
    run_shell(script, cwd=tmp_path)
    first = tmp_path / "saved_models" / "first"
    for name in ("model.keras", "card.md", "reliability.png"):
        assert (first / name).is_file()
    assert (tmp_path / "findings.csv").is_file()
    assert (tmp_path / "films.pdf").is_file()


def test_the_readme_has_an_example():
    assert ROOT / "README.md" in PAGES


HOW_TO = sorted((ROOT / "docs" / "how_to").glob("*.md"))


@pytest.mark.slow
@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_how_to_runs_from_top_to_bottom(page, tmp_path):
    for kind, block in blocks_of(page, "sh", "python"):
        (run_shell if kind == "sh" else run_code)(block, cwd=tmp_path)


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_how_to_begins_with_nothing_and_is_found(page):
    """Its first block draws what the others use; the overview and the site name it."""
    kind, block = blocks_of(page, "sh", "python")[0]
    assert kind == "sh"
    assert block.startswith("cxr-keras phantom films --count ")
    for file in ("README.md", "mkdocs.yml"):
        assert f"how_to/{page.name}" in (ROOT / "docs" / file).read_text(encoding="utf-8")


NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def outputs_of(notebook):
    """What each cell of code shows."""
    return [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_committed_with_small_clean_outputs():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 200_000
    shown = outputs_of(json.loads(text))
    assert all(shown)
    kinds = [(one["output_type"], one.get("name")) for outputs in shown for one in outputs]
    assert not {("stream", "stderr"), ("error", None)} & set(kinds)
    assert sum("image/png" in one.get("data", {}) for outputs in shown for one in outputs) == 3
    assert not re.search(r"/(home|root|tmp|work|Users)/", text)


@pytest.mark.slow
def test_the_notebook_runs_and_each_cell_shows_something(tmp_path, monkeypatch):
    for name in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(name, reason="needs the extra docs")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    found = module_at(ROOT / "docs" / "make_notebook.py").executed(tmp_path)
    assert all(outputs_of(found))
