"""Processes of their own, which can be killed or confined."""

from __future__ import annotations

import subprocess
import sys


def in_process(code: str, *args: object) -> subprocess.Popen[str]:
    """Python code in a process of its own, which can be killed or confined."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)], stderr=subprocess.PIPE, text=True
    )
