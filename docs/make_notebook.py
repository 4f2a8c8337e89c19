"""Run docs/tutorial.ipynb and keep what its cells show.

python docs/make_notebook.py

The notebook is its own source: change its cells, then run this, which needs the extra docs. A test
runs it, too.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FILE = Path(__file__).parent / "tutorial.ipynb"


def executed(folder: Path) -> nbformat.NotebookNode:
    """The notebook with what its cells show now; an error in a cell is one here.

    Args:
        folder: where it runs, and where its files go.
    """
    notebook = nbformat.read(FILE, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=os.environ | {"TMPDIR": str(folder), "IPYTHONDIR": str(folder / "ipython")})
    notebook.metadata["language_info"] = {"name": "python"}  # not which one this machine has
    return notebook


def main() -> None:
    """Run it, and write it over itself."""
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(executed(Path(folder)), FILE)


if __name__ == "__main__":
    main()
