"""Image files and a network → predictions, and what the network's guard says of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from cxr_keras.data.images import Radiograph, read_radiograph
from cxr_keras.errors import ImageError
from cxr_keras.inference.forward import BATCH_SIZE, forward
from cxr_keras.inference.guard import UNLIKE, Guard
from cxr_keras.inference.guarded import Guarded
from cxr_keras.inference.options import NO_TTA, Tta
from cxr_keras.models.torch_kernels import native_kernels
from cxr_keras.runs.card import Card
from cxr_keras.utils.threads import threaded_map


@dataclass(frozen=True)
class Prediction:
    """What the network says of one file.

    Attributes:
        path: the file, as it was named or found.
        probabilities: label → probability; empty for a file that could not be read.
        findings: labels at or above their threshold, most probable first.
        label_set: labels of which the network's guarantee says how many findings they hold, most
            probable first, see `metrics.conformal`; None for a network without one.
        header: what a DICOM file says of patient and image, see `data.dicom.IDENTIFIERS`.
        familiarity: how usual the image is to the network, 0…1, see `inference.guard`; None where
            the network has no guard.
        warnings: what may be wrong with the image.
        corrected: how it was changed before it was predicted, see `fix_orientation`.
        error: why the file could not be read; empty for a good one.
        pixels: uint8 (side, side), what the network was given; None for a bad file, and in what
            `predict` returns.
    """

    path: Path
    probabilities: dict[str, float] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    label_set: tuple[str, ...] | None = None
    header: dict[str, str] = field(default_factory=dict)
    familiarity: float | None = None
    warnings: tuple[str, ...] = ()
    corrected: str = ""
    error: str = ""
    pixels: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def unlike_training(self) -> bool | None:
        """Whether the image is of another kind than the network was trained on; None: not known."""
        return None if self.familiarity is None else self.familiarity < UNLIKE


class Predictor:
    """A network, ready to predict images batch by batch.

    Args:
        model: the network.
        card: of the network.
        guard: of the network; None to ask none.
        tta: test-time augmentation.
        fix_orientation: see `predict`.
    """

    def __init__(
        self,
        model: Any,
        card: Card,
        guard: Guard | None = None,
        *,
        tta: Tta = NO_TTA,
        fix_orientation: bool = False,
    ):
        self._model, self._card, self._tta, self._fix = model, card, tta, fix_orientation
        self._guarded = None if guard is None else Guarded(model, guard)

    def kernels(self) -> AbstractContextManager[None]:
        """Torch's kernels for the body's duration, not put in and out for each batch."""
        return native_kernels(self._guarded.seen if self._guarded else self._model)

    def predict(self, files: Iterable[Path]) -> Iterator[Prediction]:
        """Predict `files` in order; decoding runs ahead on threads while the network works."""
        decoded = threaded_map(self._decode, files)
        while batch := list(islice(decoded, BATCH_SIZE)):
            yield from self.rows(batch)

    def rows(self, batch: Sequence[tuple[Path, Radiograph | ImageError]]) -> list[Prediction]:
        """Predict images that are decoded, with the card's framing, in one forward pass.

        Args:
            batch: what each is called, and the image, or why it could not be read.
        """
        pixels = [image.pixels for _, image in batch if isinstance(image, Radiograph)]
        answers = self._answers([np.stack(pixels)[..., np.newaxis]] if pixels else [])
        rows = []
        for path, image in batch:
            if isinstance(image, ImageError):
                rows.append(Prediction(path, error=str(image)))
            else:
                values, familiarity = next(answers)
                rows.append(_row(path, image, values, self._card, familiarity))
        return rows if self._guarded is None else self._looked_into(rows, self._guarded)

    def _decode(self, path: Path) -> tuple[Path, Radiograph | ImageError]:
        try:
            return path, read_radiograph(path, self._card.framing)
        except ImageError as error:
            return path, error

    def _answers(self, batches: list[np.ndarray]) -> Iterator[tuple[np.ndarray, float | None]]:
        """The outputs (n_labels,) and the familiarity of one image after the other."""
        if self._guarded is None:
            for outputs in forward(self._model, batches, tta=self._tta):
                yield from ((one, None) for one in outputs)
        else:
            for outputs, familiarity in self._guarded.run(batches, tta=self._tta):
                yield from zip(outputs, map(float, familiarity), strict=True)

    def _looked_into(self, rows: list[Prediction], guarded: Guarded) -> list[Prediction]:
        """The rows, with what would make images familiar that are unlike training, or made so."""
        strange = [place for place, row in enumerate(rows) if row.unlike_training]
        if not strange:
            return rows
        pixels = np.stack([np.asarray(rows[place].pixels) for place in strange])
        for place, found in zip(strange, guarded.corrections(pixels), strict=True):
            row = rows[place]
            if found is None:
                continue
            if not self._fix:
                said = (*row.warnings, f"familiar if {found.name} (--fix-orientation does that)")
                rows[place] = dataclasses.replace(row, warnings=said)
                continue
            image = Radiograph(found.pixels, row.header, (*row.warnings, f"predicted {found.name}"))
            values, familiarity = next(self._answers([found.pixels[np.newaxis, ..., np.newaxis]]))
            fixed = _row(row.path, image, values, self._card, familiarity)
            rows[place] = dataclasses.replace(fixed, corrected=found.name)
        return rows


def _row(
    path: Path, image: Radiograph, values: np.ndarray, card: Card, familiarity: float | None
) -> Prediction:
    probabilities = {name: float(value) for name, value in zip(card.labels, values, strict=True)}
    positive = [
        name
        for name, threshold in zip(card.labels, card.thresholds, strict=True)
        if probabilities[name] >= threshold
    ]
    positive.sort(key=lambda name: -probabilities[name])
    label_set = None
    if card.guarantee:
        held = [
            name for name in card.findings if probabilities[name] >= card.guarantee["threshold"]
        ]
        label_set = tuple(sorted(held, key=lambda name: -probabilities[name]))
    return Prediction(
        path,
        probabilities,
        tuple(positive),
        label_set,
        image.header,
        familiarity,
        image.warnings,
        pixels=image.pixels,
    )
