"""Files that a trained network leaves: `model.keras` with its card inside, and the run folder.

The card is a member `card.json` of the `.keras` zip: labels, thresholds, what data the network
was trained on and how. Beside it `trained_on.txt` lists the digests of the films it was trained
on, and `tuned_on.txt` of those that chose its epoch and thresholds. Keras ignores all three, so
the file loads with a bare `load_model` anywhere.
"""

from __future__ import annotations

import errno
import json
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_keras.data.images import SIDE, VERSION
from cxr_keras.data.labels import LABELS
from cxr_keras.errors import ModelError, RunError
from cxr_keras.metrics.calibration import Scaling
from cxr_keras.utils.files import atomic_file, write_text

if TYPE_CHECKING:
    import keras

CARD_MEMBER, TRAINED_ON, TUNED_ON = "card.json", "trained_on.txt", "tuned_on.txt"
CARD_FORMAT = "cxr-keras card 1"
_DIGESTS = f"digests of pixels, decoding {VERSION}"  # first line of both lists
MODEL, HISTORY, PREDICTIONS = "model.keras", "history.csv", "predictions.csv"
VAL_PREDICTIONS, RUN = "predictions_val.csv", "run.json"
LOSS_PLOT, CHECKPOINT = "loss.png", "checkpoint.npz"


@dataclass(frozen=True)
class Card:
    """What a `.keras` file says about itself.

    Attributes:
        labels: names of the outputs, in order.
        thresholds: per output; a label is called at or above it. Chosen on the validation split.
        scaling: makes the outputs calibrated probabilities, see `calibration.Scaling`; empty
            for none.
        data: the training data: root, fingerprint, phantoms, per_class, split, split_digest,
            seed, sizes, base_rates.
        settings: how it was trained.
        notice: a sentence that belongs beside every result, empty if none does.
    """

    labels: tuple[str, ...] = LABELS
    thresholds: tuple[float, ...] = (0.5,) * len(LABELS)
    scaling: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    notice: str = ""

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """The network's outputs (n, n_labels) as the card scales them."""
        if not self.scaling:
            return outputs
        return Scaling.from_dict(self.scaling).apply(outputs)

    def to_json(self) -> str:
        """The card as it stands in the archive."""
        return json.dumps({"format": CARD_FORMAT} | self.__dict__, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Card:
        """Read a card back.

        Raises:
            ValueError: it is not a card of this format.
        """
        content: dict[str, Any] = json.loads(text)
        found = content.pop("format", None)
        if found != CARD_FORMAT:
            raise ValueError(
                f"its format is {found!r}, this version reads {CARD_FORMAT!r}: a newer cxr-keras "
                "may have written it, install that one"
            )
        for name in ("labels", "thresholds"):
            content[name] = tuple(content[name])
        labels, thresholds = content["labels"], content["thresholds"]
        if len(labels) != len(thresholds):
            raise ValueError("it has not one threshold a label")
        if len(set(labels)) < len(labels) or not set(labels) <= set(LABELS):
            raise ValueError("its labels are not those of ChestX-ray14")
        if not all(isinstance(t, float | int) and 0 <= t <= 1 for t in thresholds):
            raise ValueError("its thresholds are not numbers in 0…1")
        scaling = content.get("scaling")
        if scaling and len(Scaling.from_dict(scaling).slope) != len(labels):
            raise ValueError("its scaling has not one slope a label")
        return cls(**content)


def save_model(
    model: keras.Model,
    card: Card,
    target: Path,
    *,
    trained_on: Iterable[str] | None = None,
    tuned_on: Iterable[str] | None = None,
) -> None:
    """Write an uncompiled `model` and its card to `target` (a `.keras` path), atomically.

    Args:
        model: the network.
        card: what the file says about itself.
        target: the file.
        trained_on: digests of the films it was trained on, see `cache.pixel_digest`; None if
            they are not known.
        tuned_on: digests of the films that chose its epoch and thresholds.
    """
    with atomic_file(target) as temporary:
        archive = temporary.with_name(f"{temporary.name}.keras")
        try:
            _save_network(model, archive)
            with zipfile.ZipFile(archive, "a") as file:
                file.writestr(CARD_MEMBER, card.to_json())
                for member, digests in ((TRAINED_ON, trained_on), (TUNED_ON, tuned_on)):
                    if digests is not None:
                        listed = "\n".join([_DIGESTS, *sorted(digests)])
                        file.writestr(member, listed, compress_type=zipfile.ZIP_DEFLATED)
            archive.replace(temporary)
        finally:
            archive.unlink(missing_ok=True)


def _save_network(model: keras.Model, archive: Path) -> None:
    try:
        model.save(archive)
    except RuntimeError as error:  # HDF5's, when it closes a file that could not be written
        raise OSError(errno.ENOSPC, str(error)) from error


def replace_card(file: Path, card: Card) -> None:
    """Give the model file another card, atomically; the network stays as it is."""
    with (
        atomic_file(file) as temporary,
        zipfile.ZipFile(file) as old,
        zipfile.ZipFile(temporary, "w") as new,
    ):
        for member in old.infolist():
            if member.filename != CARD_MEMBER:
                with old.open(member) as source, new.open(member, "w") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
        new.writestr(CARD_MEMBER, card.to_json())


def read_films(path: str | Path, member: str) -> frozenset[str] | None:
    """Digests of the films in a list of a model file, `TRAINED_ON` or `TUNED_ON`.

    None if it has no such list, or one of films that another version decoded to other pixels.
    """
    try:
        with zipfile.ZipFile(find_model(path)) as archive:
            first, *digests = archive.read(member).decode("ascii").split("\n")
    except KeyError:
        return None
    return frozenset(digests) if first == _DIGESTS else None


def results_folder(file: Path) -> Path:
    """Where results of a model file belong: its run folder, or for a file on its own one beside it.

    So the results of two `.keras` files in one folder do not overwrite each other.
    """
    in_run = file.name == MODEL and (file.parent / RUN).exists()
    return file.parent if in_run else file.with_suffix("")


def find_model(path: str | Path) -> Path:
    """The `.keras` file that `path` names: itself, or the one in a run folder.

    Raises:
        ModelError: there is none.
    """
    path = Path(path).expanduser()
    file = path / MODEL if path.is_dir() else path
    if not file.is_file():
        hint = "The run is not finished; go on with --resume." if path.is_dir() else ""
        raise ModelError(
            f"There is no model file {file}. Name a run folder or a .keras file. {hint}".strip()
        )
    return file


def load_model(path: str | Path) -> keras.Model:
    """Load a network from a run folder or a `.keras` file; nothing in the file is executed.

    Returns:
        The network: grey pixels (N, 256, 256, 1) in 0…255 → (N, n_labels) probabilities.

    Raises:
        ModelError: no such file, not a Keras file, or a network of another shape.
    """
    file = find_model(path)
    import keras  # here, so that a wrong path is answered at once

    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
        shape, outputs = model.input_shape, model.output_shape[-1]
    except Exception as error:  # Keras raises anything from KeyError to BadZipFile
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{file} cannot be loaded as a Keras model: {first_line}") from error
    expected = read_card(file).labels
    if tuple(shape[1:]) != (SIDE, SIDE, 1) or outputs != len(expected):
        raise ModelError(
            f"{file} is not a cxr-keras network: it takes {shape} and gives {outputs} outputs; "
            f"expected (N, {SIDE}, {SIDE}, 1) and {len(expected)}."
        )
    return model


def read_card(path: str | Path) -> Card:
    """The card in a `.keras` file, or the default card for one without.

    Raises:
        ModelError: no such file, not a zip, or a card that cannot be read.
    """
    file = find_model(path)
    try:
        with zipfile.ZipFile(file) as archive:
            if CARD_MEMBER not in archive.namelist():
                return Card()
            return Card.from_json(archive.read(CARD_MEMBER).decode("utf-8"))
    except zipfile.BadZipFile as error:
        raise ModelError(f"{file} is not a .keras file, or it is cut short.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{file} holds a card that cannot be read ({error}).") from error


def write_run(folder: Path, content: dict[str, Any]) -> None:
    """Write run.json."""
    write_text(folder / RUN, json.dumps(content, indent=1) + "\n")


def read_run(folder: Path) -> dict[str, Any]:
    """Read run.json.

    Raises:
        RunError: there is none, or it is not JSON.
    """
    file = folder / RUN
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read: {folder} is no run folder ({error}).") from error
    return content
