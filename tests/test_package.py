"""The package as a whole: its public names, its walls, its versions."""

import ast
import re

import pytest
from helpers.places import ROOT

import cxr_keras

MODULES = sorted((ROOT / "cxr_keras").rglob("*.py"))


def imports_of(path):
    """Full names that a module imports anywhere in it, type-checking blocks left out."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_every_public_name_is_there_and_no_other():
    for name in cxr_keras.__all__:
        assert getattr(cxr_keras, name) is not None
    assert dir(cxr_keras) == sorted(cxr_keras.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = cxr_keras.nonsense


@pytest.mark.parametrize(
    "module",
    [
        *(
            f"metrics/{n}.py"
            for n in ("assessment", "per_label", "bootstrap", "thresholds", "calibration")
        ),
        *("metrics/example_based.py", "metrics/subgroups.py", "data/labels.py"),
        *("data/selection.py", "data/splits.py", "data/images.py", "data/readers/nih.py"),
    ],
)
def test_plain_modules_never_import_keras(module):
    assert not [n for n in imports_of(ROOT / "cxr_keras" / module) if n.split(".")[0] == "keras"]


def test_metrics_know_neither_data_nor_runs_nor_figures():
    allowed = ("cxr_keras.metrics", "cxr_keras.errors", "cxr_keras.utils")
    for path in (ROOT / "cxr_keras" / "metrics").glob("*.py"):
        own = {n for n in imports_of(path) if n.startswith("cxr_keras")}
        assert not [n for n in own if not n.startswith(allowed)], path


def test_models_never_import_data():
    for path in (ROOT / "cxr_keras" / "models").glob("*.py"):
        assert not [n for n in imports_of(path) if n.startswith("cxr_keras.data")], path


def test_nothing_imports_the_command_line():
    for path in MODULES:
        if path.name != "__main__.py" and path.parent.name != "cli":
            assert not [n for n in imports_of(path) if n.startswith("cxr_keras.cli")], path


def test_the_changelog_knows_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {cxr_keras.__version__}" in changelog


def test_the_readme_begins_with_the_two_commands():
    blocks = re.findall(r"```[a-z]*\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks[0].strip() == (
        "python -m pip install -c constraints.txt . && "
        "cxr-keras train alexnet_custom --epochs 30 --lr 0.0005"
    )
    assert blocks[1].strip() == (
        'python -m pip install -c constraints.txt ".[test]" && python -m pytest'
    )
