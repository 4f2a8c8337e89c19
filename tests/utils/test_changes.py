"""Several files that change together or not at all."""

import subprocess
import sys

import pytest

from cxr_keras.errors import CxrError
from cxr_keras.utils.changes import change_together, finish_change
from cxr_keras.utils.files import write_text


@pytest.fixture
def target(tmp_path):
    """A file with another beside it."""
    for name in ("a", "b"):
        (tmp_path / name).write_text("old")
    return tmp_path / "a"


def state(target):
    files = [path for path in target.parent.rglob("*") if path.is_file()]
    return {str(path.relative_to(target.parent)): path.read_text() for path in files}


def test_all_files_change(target):
    with change_together(target) as new:
        for name in ("a", "c"):
            (new / name).write_text("new")
        (new / "folder").mkdir()
        (new / "folder" / "d").write_text("new")
        assert target.read_text() == "old"
    assert state(target) == {"a": "new", "b": "old", "c": "new", "folder/d": "new"}
    assert {path.name for path in target.parent.iterdir()} == {"a", "b", "c", "folder"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_changes_nothing(target, error):
    def change():
        with change_together(target) as new:
            (new / "a").write_text("new")
            raise error

    with pytest.raises(error):
        change()
    assert state(target) == {"a": "old", "b": "old"}
    assert len(list(target.parent.iterdir())) == 2


def test_what_cannot_be_written_is_named_by_its_own_place(target):
    with pytest.raises(CxrError) as caught, change_together(target) as new:
        write_text(new / "missing" / "b", "new")
    assert str(caught.value).startswith(f"{target.parent}/missing/b cannot be written (No such")
    assert state(target) == {"a": "old", "b": "old"}


def test_what_a_killed_change_left_is_in_nobodys_way(target):
    undecided = target.with_name(f".{target.name}.new.tmp")
    undecided.mkdir()
    (undecided / "b").write_text("half")
    finish_change(target)
    assert target.with_name("b").read_text() == "old"
    with change_together(target) as new:
        (new / "a").write_text("new")
    assert state(target) == {"a": "new", "b": "old"}


KILLED = """
import os, sys
from pathlib import Path
from cxr_keras.utils.changes import change_together
replace, left = os.replace, int(sys.argv[2])
def killed(source, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), 9)
    replace(source, target)
os.replace = killed
with change_together(Path(sys.argv[1])) as new:
    for name in ("a", "b", "c"):
        (new / name).write_text("new")
"""


@pytest.mark.parametrize("moved", [0, 2])
def test_killed_while_files_are_moved_it_is_finished_by_whoever_comes_next(target, moved):
    result = subprocess.run(
        [sys.executable, "-c", KILLED, str(target), str(moved)], timeout=60, check=False
    )
    assert result.returncode == -9
    assert target.with_name("c").exists() is False
    for _ in range(2):
        finish_change(target)
        assert state(target) == {"a": "new", "b": "new", "c": "new"}
        assert len(list(target.parent.iterdir())) == 3
