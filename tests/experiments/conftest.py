"""The report, made from the committed predictions alone."""

import shutil

import pytest
from helpers.experiments import EXAMPLES, script
from helpers.shared import shared


@pytest.fixture(scope="session")
def report(tmp_path_factory):
    """Tables, figures and page made from the committed predictions alone."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(EXAMPLES / "runs-quick", folder / "runs-quick")
    # a backend that does not exist: whatever imported Keras would fail
    done = script("--quick", "--tables-only", "--out", folder, KERAS_BACKEND="none")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(folder / "index.html")
    with shared(folder):
        yield folder


@pytest.fixture(scope="session")
def page(report):
    return (report / "index.html").read_text(encoding="utf-8")
