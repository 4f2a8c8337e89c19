"""The package as a whole: its public names, its walls, its versions."""

import ast
import re

import pytest
from helpers.places import ROOT

import cxr_keras

PACKAGE = ROOT / "cxr_keras"

# What each room may import besides itself, `errors` and `utils`. A new room gets a row.
WALLS = {
    "cli": {
        "serving",
        "training",
        "evaluation",
        "inference",
        "runs",
        "models",
        "data",
        "metrics",
        "framing",
    },
    "training": {
        "evaluation",
        "inference",
        "runs",
        "models",
        "data",
        "metrics",
        "plots",
        "framing",
    },
    "serving": {"evaluation", "inference", "runs", "models", "data", "metrics", "framing"},
    "evaluation": {"inference", "runs", "models", "data", "metrics", "plots", "framing"},
    "inference": {"runs", "models", "data", "metrics", "plots", "framing"},
    "runs": {"models", "data", "metrics", "framing"},
    "models": {"framing"},
    "data": {"metrics", "plots", "framing"},
    "framing": set(),
    "plots": set(),
    "metrics": set(),
    "utils": set(),
    "errors": set(),
}
# Where Keras, and with it torch, may be imported: below, a folder or a module
KERAS = (
    "training",
    "evaluation",
    "inference",
    "runs",
    "models",
    "cli/starting.py",
    "data/augmentation.py",
    "data/loader.py",
)


def imports_of(path):
    """Full names that a module imports anywhere in it, with the line of each."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {(alias.name, node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {(f"{node.module}.{alias.name}", node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            raise AssertionError(f"{path}:{node.lineno} is relative; write the whole name")
    return names


def room_of(path):
    """The room that a module of the package lies in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_public_name_is_there_and_no_other():
    for name in cxr_keras.__all__:
        assert getattr(cxr_keras, name) is not None
    assert dir(cxr_keras) == sorted(cxr_keras.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = cxr_keras.nonsense


def test_the_typed_script_uses_every_public_name():
    """`.ci/run` holds it against `mypy --strict`."""
    tree = ast.parse((ROOT / "tests" / "typed" / "public_names.py").read_text(encoding="utf-8"))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "cxr_keras"
        for alias in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert imported == imported & used == set(cxr_keras.__all__)


def test_every_room_has_its_row_in_the_table():
    rooms = {path.name for path in PACKAGE.iterdir() if list(path.glob("*.py"))}
    single = {path.stem for path in PACKAGE.glob("[!_]*.py")}
    assert rooms | single == set(WALLS)


@pytest.mark.parametrize("room", WALLS)
def test_a_room_imports_only_what_its_row_allows(room):
    allowed = WALLS[room] | {room, "errors", "utils"}
    through = []
    for path in PACKAGE.rglob("*.py"):
        if room_of(path) != room:
            continue
        for name, line in imports_of(path):
            top, _, rest = name.partition(".")
            if top == "cxr_keras" and rest.split(".")[0] not in allowed | {"__version__"}:
                through.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not through


def test_arrows_point_one_way():
    """No room imports another that imports it, at whatever distance."""
    order, left = [], {room: set(allowed) for room, allowed in WALLS.items()}
    while left:
        lowest = [room for room, allowed in left.items() if allowed <= set(order)]
        assert lowest, f"each of these leads back to itself: {sorted(left)}"
        order += lowest
        for room in lowest:
            del left[room]


def test_keras_stays_where_networks_are():
    for path in PACKAGE.rglob("*.py"):
        if not str(path.relative_to(PACKAGE)).startswith(KERAS):
            heavy = [
                (name, line)
                for name, line in imports_of(path)
                if name.split(".")[0] in ("keras", "torch")
            ]
            assert not heavy, path


def test_experiments_use_public_names():
    """The report is made of public names and of what reads data, draws and prints."""
    for path in (ROOT / "experiments").rglob("*.py"):
        for name, line in imports_of(path):
            top, _, rest = name.partition(".")
            if top != "cxr_keras":
                continue
            where = f"{path.relative_to(ROOT)}:{line} imports {name}"
            assert not any(part.startswith("_") for part in rest.split(".")), where
            assert not rest.startswith("cli"), where
            if path.parent.name == "report" or path.name == "reproduce.py":
                allowed = {*cxr_keras.__all__, "data", "models", "plots", "utils"}
                assert rest.split(".")[0] in allowed, where


def private_uses(path):
    """Private names of the package that a module imports, reads or replaces."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ours, found = set(), []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cxr_keras"):
            ours |= {alias.asname or alias.name for alias in node.names}
            found += [alias.name for alias in node.names if is_private(alias.name)]
        elif isinstance(node, ast.Import):
            ours |= {"cxr_keras" for alias in node.names if alias.name.startswith("cxr_keras")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            base = node.value
            while isinstance(base, ast.Attribute):
                base = base.value
            if isinstance(base, ast.Name) and base.id in ours:
                found.append(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".setattr"):
            texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            found += [text for text in texts if isinstance(text, str) and is_private(text)]
    return found


def is_private(name):
    last = name.rpartition(".")[2]
    return last.startswith("_") and not last.endswith("__")


@pytest.mark.parametrize(
    "code",
    [
        "from cxr_keras.metrics.bootstrap import _ranking",
        "from cxr_keras.metrics import bootstrap\nbootstrap._ranking(1)",
        "import cxr_keras.models.registry\ncxr_keras.models.registry._REGISTRY",
        "from cxr_keras.runs import model_file\nmonkeypatch.setattr(model_file, '_DIGESTS', 1)",
        "monkeypatch.setattr('cxr_keras.runs.model_file._DIGESTS', 1)",
    ],
)
def test_a_private_name_is_seen(tmp_path, code):
    (tmp_path / "test_it.py").write_text(code)
    assert private_uses(tmp_path / "test_it.py")


def test_no_test_names_what_is_private():
    for path in (ROOT / "tests").rglob("*.py"):
        assert not private_uses(path), path


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
