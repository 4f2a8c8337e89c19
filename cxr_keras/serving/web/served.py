"""A network as it is served: what it is, its predictions, its heat maps, its test split."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cxr_keras.data.content import ImageFile
from cxr_keras.data.dataset import IMAGE
from cxr_keras.errors import CxrError
from cxr_keras.evaluation.kept import Kept
from cxr_keras.inference.files import Prediction
from cxr_keras.inference.opened import Opened
from cxr_keras.inference.options import METHODS, Precision
from cxr_keras.inference.prediction import to_records
from cxr_keras.runs import run_folder
from cxr_keras.runs.model_file import MODEL
from cxr_keras.serving.web.known import KnownImages
from cxr_keras.serving.web.pictures import over_whole_image
from cxr_keras.serving.web.problems import Problem
from cxr_keras.serving.web.results import observed, records_of
from cxr_keras.utils.console import quiet


class Served:
    """A network that is served under a name.

    Args:
        name: of the run, as the page and the API call it.
        opened: the network.

    Attributes:
        results: of its test split; None for a file on its own.
    """

    def __init__(self, name: str, opened: Opened):
        self.name, self.opened, self.card = name, opened, opened.card
        self.predictor = opened.predictor()
        self._kernels = ExitStack()
        if not opened.is_onnx:
            # for good: to put them in and out takes 7 ms, a third of what a single image does
            self._kernels.enter_context(self.predictor.kernels())
        self.results = None if opened.is_onnx else Kept.of(opened.file, opened.card)
        self._explainers: dict[str, Any] = {}
        self._lock = threading.Lock()

    @cached_property
    def about(self) -> dict[str, Any]:
        """What /v1/model says of it."""
        card, results = self.card, self.results
        return {
            "name": self.name,
            "network": str(card.settings.get("model", "")),
            "labels": list(card.labels),
            "normal": card.normal,
            "thresholds": list(card.thresholds),
            "size": card.framing.size,
            "fit": card.framing.fit,
            "notice": card.notice,
            "limits": self.opened.limits,
            "heatmaps": not self.opened.is_onnx,
            "guard": self.opened.guard is not None,
            "guarantee": card.guarantee,
            "data": _public(card.data),
            "training": _public(card.settings),
            "split": card.measured_split,
            "results": results is not None,
            "metrics": [] if results is None else records_of(results.metrics),
            "observed": None if results is None else observed(results),
        }

    def row(self, name: str, found: Prediction, truth: dict[str, Any] | None) -> dict[str, Any]:
        """A prediction as the API answers it."""
        record = to_records([found])[0]
        del record["path"]
        return {"name": name} | record | {"truth": truth}

    def index_of(self, label: str) -> int:
        """The place of a label.

        Raises:
            Problem: it is none of this network's.
        """
        if label not in self.card.labels:
            raise Problem(
                404,
                f"{self.name} has no label {label[:80]!r}. It has: {', '.join(self.card.labels)}.",
            )
        return self.card.labels.index(label)

    def check_map(self, label: str, method: str) -> None:
        """Refuse a heat map that cannot be made.

        Raises:
            Problem: there is no such method or label, or the network has no layers.
        """
        if method not in METHODS:
            raise Problem(
                422,
                f"There is no heat map method {method[:40]!r}. There are: {', '.join(METHODS)}.",
            )
        if self.opened.is_onnx:
            raise Problem(409, "An ONNX file gives probabilities alone; serve the .keras file.")
        self.index_of(label)

    def heat_map(
        self, pixels: np.ndarray, size: tuple[int, int], label: str, method: str
    ) -> np.ndarray | None:
        """The map of an image, see `over_whole_image`; on the thread that may use networks.

        Args:
            pixels: of the image, as the network takes them.
            size: width and height of the whole image.
            label: what the map is of.
            method: of the map.

        Returns:
            None where nothing in the layer speaks for the label.
        """
        heat = self._explainer(method)(pixels, [self.index_of(label)])[0]
        return over_whole_image(heat, self.card.framing, *size) if heat.any() else None

    def _explainer(self, method: str) -> Any:
        from cxr_keras.inference.heat_maps import heat_maps

        if method not in self._explainers:
            try:
                self._explainers[method] = heat_maps(self.opened.network, method)
            except CxrError as error:
                raise Problem(409, str(error)) from error
        return self._explainers[method]

    @cached_property
    def _known(self) -> KnownImages | None:
        try:
            with quiet():
                return KnownImages(*run_folder.own_data(self.opened.file, self.card))
        except CxrError:
            return None

    @property
    def known(self) -> KnownImages | None:
        """The data set it was trained on; None where that is not on this machine. Slow at first."""
        with self._lock:
            return self._known

    def split_image(self, row: int) -> tuple[str, ImageFile]:
        """The name and the file of an image of the test split.

        Raises:
            Problem: there is no such row, or its file is not on this machine.
        """
        count = 0 if self.results is None else len(self.results.predictions)
        if self.results is None or not 0 <= row < count:
            raise Problem(404, f"{self.name} has {count:,} images to show. Received: {row}.")
        name = str(self.results.predictions[IMAGE].iloc[row])
        file = None if self.known is None else self.known.file_of(name)
        if file is None:
            raise Problem(404, "The image is not on this machine: its data set lies elsewhere.")
        return name, file


def open_runs(runs: Iterable[Path], precision: Precision) -> list[Served]:
    """Open networks to be served, each under its folder's or file's name.

    Raises:
        ModelError: one cannot be used.
        CxrError: two have one name.
    """
    served: dict[str, Served] = {}
    for run in runs:
        opened = Opened(run, precision)
        file = opened.file
        name = file.resolve().parent.name if file.name == MODEL else file.stem
        if name in served:
            raise CxrError(f"Two runs are called {name!r}; rename the folder of one of them.")
        served[name] = Served(name, opened)
        _ = served[name].about  # made once
    return list(served.values())


def _public(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings for a reader; a card has no path of a machine."""
    return {name: value for name, value in settings.items() if value is not None}
