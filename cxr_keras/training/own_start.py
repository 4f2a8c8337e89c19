"""Start a training from an own model file: a run folder or a `.keras` file.

Its weights go into the new network by layer name, its list of training images into the new file's.
A copy of it lies in the run folder while training: a checkpoint holds what trains and no more, so
a resumed run takes the rest from the copy, whatever became of the file since.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from cxr_keras.data.preparation import Prepared, PreparedSplit
from cxr_keras.data.splits import TEST, VAL
from cxr_keras.models.own_weights import copy_body, copy_head
from cxr_keras.models.registry import IMAGENET, RANDOM
from cxr_keras.runs import model_file, run_folder
from cxr_keras.runs.image_lists import ImageList
from cxr_keras.runs.opening import resumed_folder
from cxr_keras.training.config import TrainConfig, weights_name
from cxr_keras.utils.arguments import PathLike
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import atomic_file


@dataclass(frozen=True)
class OwnStart:
    """The model file that a training starts from.

    Attributes:
        given: as it was named.
        name: the same without the path.
        file: the `.keras` file that is read.
    """

    given: str
    name: str
    file: Path

    def put_into(self, network: keras.Model, labels: Sequence[str]) -> None:
        """Copy its weights into `network`, the head too where it predicts the same `labels`.

        A calibrated file gives the outputs as they were trained.

        Raises:
            ModelError: the file cannot be read, or holds an ensemble or another architecture.
        """
        source = model_file.load_network(self.file)
        copy_body(source, network, origin=self.given)
        if self._labels() == tuple(labels) and copy_head(source, network):
            notice(f"The head is that of {self.given}, too: it predicts the same labels.")
        else:
            notice(f"The head is new: that of {self.given} does not predict these labels.")

    def say_seen(self, prepared: Prepared) -> None:
        """Say how many images of validation and test its weights were trained on."""
        listed = model_file.read_list(self.file, model_file.TRAINED_ON)
        if listed is None:
            notice(
                f"{self.given} does not say which images it was trained on: if some are now in "
                "validation or test, they flatter the numbers."
            )
            return
        for split, name in ((VAL, "validation"), (TEST, "test")):
            digests = prepared.manifest.loc[prepared.manifest["split"] == split, "digest"]
            if count := listed.count(digests):
                notice(
                    f"{self.given} was trained on {count:,} of the {len(digests):,} images of the "
                    f"{name} split: they flatter the numbers."
                )

    def kept_in(self, folder: Path) -> OwnStart:
        """The same, from a copy in a run folder that is made unless it is there."""
        copy = folder / run_folder.STARTED_FROM
        if not copy.is_file():
            with atomic_file(copy) as temporary:
                shutil.copyfile(self.file, temporary)
        return OwnStart(self.given, self.name, copy)

    def _labels(self) -> tuple[str, ...] | None:
        """The labels of its head; None for a file without a card, which does not say them."""
        with zipfile.ZipFile(self.file) as archive:
            if model_file.CARD_MEMBER not in archive.namelist():
                return None
        return model_file.read_card(self.file).labels


def own_start(config: TrainConfig, *, resume: bool) -> OwnStart | None:
    """The own model file that a run starts from; None where its weights are of another kind.

    Args:
        config: the run.
        resume: take the copy that the interrupted run kept, where there is one.

    Raises:
        ModelError: there is no such file.
    """
    given = config.weights
    if given is None or not _names_own_file(given):
        return None
    kept = resumed_folder(config.run_folder) / run_folder.STARTED_FROM
    file = kept if resume and kept.is_file() else model_file.find_model(given)
    return OwnStart(str(given), weights_name(given), file)


def listed(member: str, images: PreparedSplit, start: OwnStart | None) -> ImageList:
    """A list of a run's file: these images, and those in the list of the file it started from.

    Args:
        member: which list, see `model_file.LISTS`.
        images: a split of the run.
        start: what it started from.
    """
    own = ImageList.of(images.rows["digest"])
    before = model_file.read_list(start.file, member) if start else None
    return own if before is None else ImageList.joined([own, before])


def _names_own_file(weights: PathLike) -> bool:
    """Whether this is a run folder or a `.keras` file, or the name of one that is not there."""
    if weights in (IMAGENET, RANDOM):
        return False
    path = Path(weights).expanduser()
    known = path.suffix in (".pth", ".pt") or path.is_file()
    return path.is_dir() or path.suffix == ".keras" or not known
