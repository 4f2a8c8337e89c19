"""Keras is most of what a command waits for at its start; its unused parts are left out."""

from __future__ import annotations

import functools
import gc
import os
import sys
from collections.abc import Callable
from typing import Any

# Keras imports these where they are, for image galleries, RemoteMonitor and scikit-learn's
# interface: a third of its time.
_UNUSED = ("matplotlib", "requests", "sklearn")


def needs_keras(command: Callable[..., Any]) -> Callable[..., Any]:
    """Import Keras before `command` runs, as it is where those packages are not installed.

    They can be imported as usual afterwards. In Python, outside the command line, Keras is whole.
    """

    @functools.wraps(command)
    def start(*args: Any, **kwargs: Any) -> Any:
        if "keras" not in sys.modules:
            _import_keras()
        return command(*args, **kwargs)

    return start


def _import_keras() -> None:
    unused = _UNUSED if os.environ["KERAS_BACKEND"] == "torch" else ()  # TensorFlow needs requests
    hidden = [name for name in unused if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: not to be found
    gc.disable()  # an import makes no garbage, and what it makes stays
    try:
        import keras  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()
        for name in hidden:
            del sys.modules[name]
