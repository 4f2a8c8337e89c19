"""A network as an ONNX file, for programs without Keras; its card is in the file's metadata."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from cxr_keras import __version__
from cxr_keras.errors import CxrError, ModelError
from cxr_keras.runs import model_file
from cxr_keras.runs.card import Card
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.files import atomic_file

SUFFIX = ".onnx"
PIXELS, PROBABILITIES = "pixels", "probabilities"  # names of input and output
TOLERANCE = 1e-5  # by which a probability may differ from the Keras file's
_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
_CARD = "cxr_keras"  # the metadata that holds it
_HINT = 'They are an extra: pip install "cxr-keras[onnx]".'
_ABOUT = (
    "Chest radiographs, multi-label. For research and teaching; no medical device. Input: float32 "
    "(N, {side}, {side}, 1), grey values 0…255, {framing}; output: a probability a label."
)


class OnnxNetwork:
    """A network in an ONNX file, run by ONNX Runtime.

    Args:
        file: that `export` wrote.

    Attributes:
        card: what the file says about itself.
        layers: none that Keras knows.

    Raises:
        ModelError: no such file, or none that `export` wrote.
        CxrError: ONNX Runtime is not installed.
    """

    layers: tuple[Any, ...] = ()

    def __init__(self, file: Path):
        runtime, onnx = _package("onnxruntime"), _package("onnx")
        if not file.is_file():
            raise ModelError(f"There is no model file {file}.")
        here = runtime.get_available_providers()
        try:
            content = file.read_bytes()
            if _names_files(onnx.load_model_from_string(content)):
                raise ValueError("it takes weights from other files, which are not opened")
            self._session = runtime.InferenceSession(
                content, providers=[name for name in _PROVIDERS if name in here]
            )
            metadata = self._session.get_modelmeta().custom_metadata_map
        except Exception as error:  # a class of the runtime's own for each kind of damage
            first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{file} cannot be loaded as an ONNX model: {first_line}") from error
        if _CARD not in metadata:
            raise ModelError(
                f"{file} is an ONNX model that `cxr-keras export` did not write: it does not say "
                "its labels. Name a file of cxr-keras."
            )
        try:
            self.card = Card.from_json(metadata[_CARD])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(f"{file} holds a card that cannot be read ({error}).") from error
        self._check_shapes(file)

    def _check_shapes(self, file: Path) -> None:
        side, count = self.card.framing.stored, len(self.card.labels)
        ends = (*self._session.get_inputs(), *self._session.get_outputs())
        found = [(one.name, list(one.shape[1:])) for one in ends]
        if found != [(PIXELS, [side, side, 1]), (PROBABILITIES, [count])]:
            raise ModelError(
                f"{file} is no network as its card says: it has {found}; expected {PIXELS} "
                f"(N, {side}, {side}, 1) and {PROBABILITIES} (N, {count})."
            )

    def predict_on_batch(self, pixels: np.ndarray) -> np.ndarray:
        """Grey pixels (N, side, side, 1) in 0…255 → probabilities, float32 (N, n_labels)."""
        given = {PIXELS: np.asarray(pixels, dtype="float32")}
        found: np.ndarray = self._session.run([PROBABILITIES], given)[0]
        return found


def export(run: PathLike, target: PathLike) -> float:
    """Write a trained network as an ONNX file, and compare the two.

    Args:
        run: a run folder or a `.keras` file.
        target: the `.onnx` file; one that is there is replaced.

    Returns:
        The largest difference of a probability between the two on test images.

    Raises:
        ModelError: the network cannot be used, or its ONNX file would say something else.
        CxrError: the extra onnx is not installed, another backend than torch, the file cannot be
            written, or its name does not end in .onnx.
    """
    target = Path(target).expanduser()
    if target.suffix != SUFFIX:
        raise CxrError(f"An ONNX file's name ends in {SUFFIX}. Received: {target}.")
    onnx = _package("onnx")
    _package("onnxscript"), _package("onnxruntime")
    file = model_file.find_model(run)
    card = model_file.read_card(file)
    import keras

    if keras.backend.backend() != "torch":
        raise CxrError(
            f"export writes from torch, and KERAS_BACKEND is {keras.backend.backend()}. Set it to "
            "torch: the .keras file is the same on every backend."
        )
    model = model_file.load_model(file)
    probes = _probes(card)
    expected = np.asarray(model.predict_on_batch(probes))
    with atomic_file(target) as temporary:
        scratch = temporary.with_name(f"{temporary.name}{SUFFIX}")
        try:
            _write(model, scratch)
            content = onnx.load(scratch)
            _describe(content, card)
            onnx.checker.check_model(content)
            onnx.save(content, scratch)
            found = OnnxNetwork(scratch).predict_on_batch(probes)
            gap = float(np.abs(found - expected).max())
            if not gap <= TOLERANCE:
                raise ModelError(
                    f"{file} as ONNX would give other probabilities, by up to {gap:.2g}; nothing "
                    "is written."
                )
            scratch.replace(temporary)
        finally:
            scratch.unlink(missing_ok=True)
    return gap


def _package(name: str) -> Any:
    """An optional package of the extra onnx."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CxrError(f"ONNX files need {name}. {_HINT}") from error


def _names_files(message: Any) -> bool:
    """Whether any tensor of an ONNX model lies in another file, wherever in it the tensor is."""
    if message.DESCRIPTOR.name == "TensorProto":
        return bool(message.data_location == message.EXTERNAL or message.external_data)
    for field, value in message.ListFields():
        if field.message_type is not None:
            parts = [value] if hasattr(value, "ListFields") else value
            if any(_names_files(part) for part in parts):
                return True
    return False


def _write(model: Any, target: Path) -> None:
    """By torch's own exporter: Keras's `export` uses the older one, which fails on some layers."""
    import torch

    class Network(torch.nn.Module):
        def forward(self, pixels: Any) -> Any:
            return model(pixels, training=False)

    given = torch.zeros(2, *model.input_shape[1:])
    model.trainable = False
    logger = logging.getLogger("torch.onnx")
    before, logger.level = logger.level, logging.ERROR  # it misses torchvision, which nothing needs
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                Network().eval(),
                (given,),
                target,
                dynamo=True,
                input_names=[PIXELS],
                output_names=[PROBABILITIES],
                dynamic_shapes={PIXELS: {0: torch.export.Dim("batch", min=1)}},
                external_data=False,
                verbose=False,
            )
    finally:
        logger.level = before


def _describe(content: Any, card: Card) -> None:
    """Put the card, and what other programs need of it, into the file's metadata."""
    framing = card.framing
    content.producer_name, content.producer_version = "cxr-keras", __version__
    content.doc_string = _ABOUT.format(side=framing.stored, framing=framing)
    said = {
        _CARD: card.to_json(),
        "labels": json.dumps(card.labels),
        "thresholds": json.dumps(card.thresholds),
        "size": str(framing.size),
        "stored": str(framing.stored),
        "fit": framing.fit,
        "notice": card.notice,
    }
    for key, value in said.items():
        content.metadata_props.add(key=key, value=value)


def _probes(card: Card) -> np.ndarray:
    """Images on which the two files are compared: noise, black, white, a gradient, a disc."""
    side = card.framing.stored
    rows, columns = np.mgrid[:side, :side] / side
    images = [
        np.random.default_rng(0).integers(0, 256, (side, side)),
        np.zeros((side, side)),
        np.full((side, side), 255),
        255 * rows,
        np.where((rows - 0.5) ** 2 + (columns - 0.4) ** 2 < 0.05, 220, 40),
    ]
    return np.stack(images).astype("uint8")[..., np.newaxis]
