"""`model.keras`: a trained network with its card inside.

The card is a member `card.json` of the `.keras` zip: labels, thresholds, what data the network
was trained on and how. Beside it `trained_on.txt` lists the images it was trained on, and
`tuned_on.txt` those that chose its epoch and thresholds, as salted digests (see `image_lists`);
`guard.npz` says what they look like to it, as statistics (see `inference.guard`). Keras ignores all
four, so the file loads with a bare `load_model` anywhere. docs/model_file.md
says it for users.
"""

from __future__ import annotations

import errno
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_keras.errors import CxrError, ModelError
from cxr_keras.metrics.calibration import Scaling
from cxr_keras.runs.card import Card
from cxr_keras.runs.image_lists import ImageList
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.changes import finish_change
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import atomic_file

if TYPE_CHECKING:
    import keras

MODEL = "model.keras"
CARD_MEMBER, TRAINED_ON, TUNED_ON = "card.json", "trained_on.txt", "tuned_on.txt"
LISTS = (TRAINED_ON, TUNED_ON)
GUARD = "guard.npz"
_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # Keras's names


def save_model(
    model: keras.Model,
    card: Card,
    target: Path,
    *,
    trained_on: Iterable[str] | ImageList | None = None,
    tuned_on: Iterable[str] | ImageList | None = None,
    guard: bytes | None = None,
) -> None:
    """Write an uncompiled `model` and its card to `target` (a `.keras` path), atomically.

    Args:
        model: the network.
        card: what the file says about itself.
        target: the file.
        trained_on: the images it was trained on, as a list or as their digests, see
            `pixel_store.pixel_digest`; None if they are not known or not to be told.
        tuned_on: the images that chose its epoch and thresholds.
        guard: its guard, as `inference.guard.Guard.to_bytes` has it.
    """
    with atomic_file(target) as temporary:
        archive = temporary.with_name(f"{temporary.name}.keras")
        try:
            _save_network(model, archive)
            with zipfile.ZipFile(archive, "a") as file:
                file.writestr(CARD_MEMBER, card.to_json())
                for member, images in zip(LISTS, (trained_on, tuned_on), strict=True):
                    if images is not None:
                        listed = images if isinstance(images, ImageList) else ImageList.of(images)
                        text = listed.to_text()
                        file.writestr(member, text, compress_type=zipfile.ZIP_DEFLATED)
                if guard is not None:
                    file.writestr(GUARD, guard, compress_type=zipfile.ZIP_DEFLATED)
            archive.replace(temporary)
        finally:
            archive.unlink(missing_ok=True)


def _save_network(model: keras.Model, archive: Path) -> None:
    try:
        model.save(archive)
    except RuntimeError as error:  # HDF5's, when it closes a file that could not be written
        raise OSError(errno.ENOSPC, str(error)) from error


def read_list(path: PathLike, member: str) -> ImageList | None:
    """The images in a list of a model file, `TRAINED_ON` or `TUNED_ON`.

    None if it has no such list, or one of images that another version decoded to other pixels.
    """
    try:
        with zipfile.ZipFile(find_model(path)) as archive:
            return ImageList.from_text(archive.read(member).decode("ascii"))
    except KeyError:
        return None


def read_guard(path: PathLike) -> bytes | None:
    """The guard in a model file, see `save_model`; None if it has none."""
    try:
        with zipfile.ZipFile(find_model(path)) as archive:
            return archive.read(GUARD)
    except KeyError:
        return None


def count_listed(path: PathLike, member: str, digests: Iterable[str]) -> int | None:
    """How many of these images are in a list of a model file; None if it has no such list.

    Args:
        path: a run folder or a `.keras` file.
        member: `TRAINED_ON` or `TUNED_ON`.
        digests: of the images' pixels, see `pixel_store.pixel_digest`.
    """
    listed = read_list(path, member)
    return None if listed is None else listed.count(digests)


def find_model(path: PathLike) -> Path:
    """The `.keras` file that `path` names: itself, or the one in a run folder.

    A calibration of it that was cut short is completed first.

    Raises:
        ModelError: there is none.
    """
    path = Path(path).expanduser()
    file = path / MODEL if path.is_dir() else path
    finish_change(file)
    if not file.is_file():
        hint = "The run is not finished; go on with --resume." if path.is_dir() else ""
        raise ModelError(
            f"There is no model file {file}. Name a run folder or a .keras file. {hint}".strip()
        )
    return file


def load_model(path: PathLike, precision: str = "float32") -> keras.Model:
    """Load a network from a run folder or a `.keras` file; nothing in the file is executed.

    Args:
        path: a run folder or a `.keras` file.
        precision: what it computes in, whatever it was trained in: "float32", or "bfloat16", which
            is faster on a GPU or a processor that multiplies in it. Weights are float32.

    Returns:
        The network: grey pixels (N, side, side, 1) in 0…255 → (N, n_labels) probabilities,
        calibrated where the file is. The side is that of its card's framing, 256 by default.

    Raises:
        ModelError: no such file, not a Keras file, or a network of another shape.
        CxrError: there is no such precision.
    """
    file = find_model(path)
    model = load_network(file, precision)
    shape, outputs = model.input_shape, model.output_shape[-1]
    card = read_card(file)
    expected, side = card.labels, card.framing.stored
    if tuple(shape[1:]) != (side, side, 1) or outputs != len(expected):
        raise ModelError(
            f"{file} is not a cxr-keras network: it takes {shape} and gives {outputs} outputs; "
            f"expected (N, {side}, {side}, 1) and {len(expected)}."
        )
    if card.scaling:  # written before the scaling was in the graph
        from cxr_keras.models.scaling import with_scaling

        scaling = Scaling.from_dict(card.scaling)
        model = with_scaling(model, scaling.slope, scaling.shift)
    return model


def load_network(path: PathLike, precision: str = "float32") -> keras.Model:
    """Load whatever network is in a run folder or a `.keras` file; nothing in it is executed.

    Args:
        path: a run folder or a `.keras` file.
        precision: see `load_model`.

    Raises:
        ModelError: no such file, not a Keras file, or more than one input or output.
        CxrError: there is no such precision.
    """
    file = find_model(path)
    if precision not in _POLICIES:
        raise CxrError(
            f"There is no precision {precision!r}. Choose one of: {', '.join(_POLICIES)}."
        )
    import keras  # here, so that a wrong path is answered at once

    try:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
        _ = model.input_shape[1:], model.output_shape[-1]
    except Exception as error:  # Keras raises anything from KeyError to BadZipFile
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{file} cannot be loaded as a Keras model: {first_line}") from error
    from cxr_keras.models.precision import BFLOAT16, best_precision, set_precision

    policy = _POLICIES[precision]
    set_precision(model, policy)
    if policy == BFLOAT16 != best_precision() and keras.backend.backend() == "torch":
        notice("This machine does not multiply in bfloat16: float32 is faster here.")
    return model


def read_card(path: PathLike) -> Card:
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
