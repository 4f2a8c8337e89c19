"""A trained network as it is opened to predict: a run folder, a `.keras` or an `.onnx` file."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from cxr_keras.errors import CxrError, ModelError
from cxr_keras.inference.files import Predictor
from cxr_keras.inference.guard import Guard
from cxr_keras.inference.guarded import read_guard
from cxr_keras.inference.options import FULL, NO_TTA, Precision, Tta
from cxr_keras.runs import model_file
from cxr_keras.runs.onnx_file import SUFFIX, OnnxNetwork
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice


class Opened:
    """A network, its card and its guard.

    Args:
        run: a run folder, a `.keras` file, or an `.onnx` file of `export`.
        precision: what the network computes in.

    Attributes:
        file: the model file.
        card: what it says about itself.
        guard: says what is unlike its training; None for a file without one.

    Raises:
        ModelError: there is no such file, or none of this package.
        CxrError: it is an ONNX file and ONNX Runtime is not installed.
    """

    def __init__(self, run: PathLike, precision: Precision = FULL):
        path = Path(run).expanduser()
        self.is_onnx = path.suffix == SUFFIX
        self.file = path if self.is_onnx else model_file.find_model(run)
        self._precision = precision
        if self.is_onnx:
            self.refuse({"another --precision": precision != FULL})
        self.card = self.network.card if self.is_onnx else model_file.read_card(self.file)
        self.guard: Guard | None = None if self.is_onnx else read_guard(self.file)

    @cached_property
    def network(self) -> Any:
        """The network itself, loaded when it is first asked for."""
        if self.is_onnx:
            return OnnxNetwork(self.file)
        return model_file.load_model(self.file, self._precision)

    def predictor(self, *, tta: Tta = NO_TTA, fix_orientation: bool = False) -> Predictor:
        """What predicts images with it, see `Predictor`."""
        return Predictor(
            self.network, self.card, self.guard, tta=tta, fix_orientation=fix_orientation
        )

    def refuse(self, asked: dict[str, bool]) -> None:
        """Stop if an ONNX file is asked for what needs the network's layers.

        Args:
            asked: what, in words → whether it is asked for.

        Raises:
            CxrError: it is.
        """
        for what, wanted in asked.items():
            if wanted and self.is_onnx:
                raise CxrError(
                    f"An ONNX file gives probabilities alone; {what} needs the .keras file. Name "
                    "the run folder or the .keras file."
                )

    def need_guard(self) -> None:
        """Stop if there is none to say how an image lies.

        Raises:
            ModelError: there is none.
        """
        if self.guard is None:
            raise ModelError(
                f"{self.file} has no guard, which tells how an image lies. Leave --fix-orientation "
                "out."
            )

    @property
    def limits(self) -> list[str]:
        """Sentences that belong beside everything that this network predicts."""
        phantoms = (
            "This network was trained on phantoms (synthetic drawings): "
            "what it predicts for a radiograph means nothing."
        )
        said = [phantoms if self.card.data.get("phantoms") else "", self.card.prevalence_notice]
        return [sentence for sentence in said if sentence]

    def say_limits(self) -> None:
        """Say them."""
        for sentence in self.limits:
            notice(sentence)
