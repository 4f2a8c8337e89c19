"""Files and folders get the rights that the system gives new ones, and the umask stays alone."""

import os
import stat
import subprocess
import sys

import pytest

from cxr_keras.errors import CxrError
from cxr_keras.utils.files import atomic_file, atomic_folder, write_text

WRITE = """
import os, sys
from pathlib import Path
from cxr_keras.utils.files import atomic_folder, write_text

os.umask(int(sys.argv[2], 8))

def refuse(mask):
    raise AssertionError("the umask of the whole process was touched")

os.umask = refuse
folder = Path(sys.argv[1])
write_text(folder / "file", "text")
with atomic_folder(folder / "new") as new:
    write_text(new / "inside", "text")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
@pytest.mark.parametrize("mask", ["022", "027", "077", "002"])
def test_the_umask_is_respected_and_not_touched(tmp_path, mask):
    command = [sys.executable, "-c", WRITE, str(tmp_path), mask]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for name, rights in (("file", 0o666), ("new", 0o777), ("new/inside", 0o666)):
        found = stat.S_IMODE((tmp_path / name).stat().st_mode)
        assert oct(found) == oct(rights & ~int(mask, 8)), name


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    def fail(make, name):
        with make(tmp_path / name):
            raise ZeroDivisionError

    write_text(tmp_path / "file", "old")
    for make, name in ((atomic_file, "file"), (atomic_folder, "folder")):
        with pytest.raises(ZeroDivisionError):
            fail(make, name)
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.parametrize("target", ["missing/file", "file/below"])
def test_what_cannot_be_written_is_one_sentence(tmp_path, target):
    (tmp_path / "file").touch()
    with pytest.raises(CxrError, match=r"cannot be written \(.*Choose a folder that you can write"):
        write_text(tmp_path / target, "text")
