"""Multi-label chest X-ray classification with Keras 3 on PyTorch. No medical device."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# Keras reads this once, when it is first imported; a person's own choice of backend stands.
os.environ.setdefault("KERAS_BACKEND", "torch")

from cxr_keras.data.labels import FINDINGS, LABELS, LabelSet
from cxr_keras.errors import CxrError

if TYPE_CHECKING:
    from cxr_keras.data.dataset import Dataset
    from cxr_keras.data.exploration import explore
    from cxr_keras.data.readers.layout import LabelTable
    from cxr_keras.data.readers.registry import register_dataset
    from cxr_keras.evaluation.comparison import compare
    from cxr_keras.evaluation.ensembling import ensemble
    from cxr_keras.evaluation.evaluation import evaluate
    from cxr_keras.evaluation.localization import localize
    from cxr_keras.evaluation.predictions import assess
    from cxr_keras.evaluation.recalibration import calibrate
    from cxr_keras.inference.prediction import predict
    from cxr_keras.models.registry import build_model, register_model
    from cxr_keras.runs.model_file import load_model
    from cxr_keras.training.run import train
    from cxr_keras.training.tuning import tune

__version__ = "0.2.1"

__all__ = [
    "FINDINGS",
    "LABELS",
    "CxrError",
    "Dataset",
    "LabelSet",
    "LabelTable",
    "__version__",
    "assess",
    "build_model",
    "calibrate",
    "compare",
    "ensemble",
    "evaluate",
    "explore",
    "load_model",
    "localize",
    "predict",
    "register_dataset",
    "register_model",
    "train",
    "tune",
]

# Public names whose modules import Keras: they are loaded on first use, so that
# `cxr-keras --help` answers at once.
_LAZY = {
    "Dataset": "cxr_keras.data.dataset",
    "LabelTable": "cxr_keras.data.readers.layout",
    "assess": "cxr_keras.evaluation.predictions",
    "build_model": "cxr_keras.models.registry",
    "calibrate": "cxr_keras.evaluation.recalibration",
    "compare": "cxr_keras.evaluation.comparison",
    "ensemble": "cxr_keras.evaluation.ensembling",
    "evaluate": "cxr_keras.evaluation.evaluation",
    "explore": "cxr_keras.data.exploration",
    "load_model": "cxr_keras.runs.model_file",
    "localize": "cxr_keras.evaluation.localization",
    "predict": "cxr_keras.inference.prediction",
    "register_dataset": "cxr_keras.data.readers.registry",
    "register_model": "cxr_keras.models.registry",
    "train": "cxr_keras.training.run",
    "tune": "cxr_keras.training.tuning",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
