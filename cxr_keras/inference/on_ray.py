"""`predict --ray`: the images of one prediction over the workers of a Ray cluster.

Ray schedules the parts, tries one again whose worker died, and hands the answers back in order; see
https://docs.ray.io/en/latest/data/batch_inference.html. Workers need this package, the same backend
and the images at the same paths (a disk that all machines see); the model is sent to them.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
import re
import socket
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cxr_keras.errors import CxrError
from cxr_keras.inference.files import Prediction
from cxr_keras.inference.forward import BATCH_SIZE
from cxr_keras.inference.opened import Opened
from cxr_keras.inference.options import Precision, Tta

PART = 2 * BATCH_SIZE  # images that a worker is given at a time
_TRIES_AGAIN = 5  # of a part whose worker died: an image that kills every worker must end, too


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Ray, connected for the body's duration.

    Args:
        address: of a running cluster, such as "auto", "head:6379" or "ray://head:10001"; "" for
            $RAY_ADDRESS, or where that is not set, for a cluster of this machine alone.

    Raises:
        CxrError: Ray is not installed, that is no address, or nothing answers there.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise CxrError(
            f'This needs the extra ray: pip install "cxr-keras[ray]" ({error}).'
        ) from error
    if address and not re.fullmatch(r"auto|local|(ray://)?[^/\s]+:\d+", address):
        raise CxrError(
            f"A Ray cluster is auto, HOST:PORT or ray://HOST:PORT. Received: {address!r}; to name "
            "no cluster, put --ray behind everything else."
        )
    if ray.is_initialized():  # a Python program's own
        yield ray
        return
    about = {"KERAS_BACKEND": keras.backend.backend()}
    if "KERAS_TORCH_DEVICE" in os.environ:  # a worker sees the GPU that Ray gives it, and no other
        about["KERAS_TORCH_DEVICE"] = os.environ["KERAS_TORCH_DEVICE"].split(":")[0]
    # Ray itself would join a cluster that somebody else has started on this machine
    address = address or os.environ.get("RAY_ADDRESS", "") or "local"
    try:
        if ":" in address:  # Ray itself would try for minutes
            host, port = address.removeprefix("ray://").rsplit(":", 1)
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(
            address=address,
            runtime_env={"env_vars": about},
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        raise CxrError(
            f"No Ray cluster answers at {address}: {error}. Start one with "
            "`ray start --head`, or give --ray without an address; for one that asks for a token, "
            "set RAY_AUTH_MODE=token."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def predict_on_ray(
    file: Path,
    files: Sequence[Path],
    *,
    tta: Tta,
    precision: Precision,
    fix_orientation: bool,
    identifiers: bool,
    address: str,
) -> Iterator[Prediction]:
    """Predict `files` on a Ray cluster, an actor with the network on each GPU or processor core.

    Args:
        file: the `.keras` file.
        files: the images.
        tta: test-time augmentation.
        precision: what the network computes in.
        fix_orientation: see `prediction.predict`.
        identifiers: see there; without, none leaves a worker.
        address: of the cluster, see `cluster`.

    Yields:
        One row per image, in order, as `Predictor` gives them but without pixels.

    Raises:
        CxrError: see `cluster`; or the workers that tried a part died every time.
    """
    if not files:  # an empty part
        return
    with cluster(address) as ray:
        answers = _answers(ray, file, files, (tta, precision, fix_orientation, identifiers))
        for path in files:
            row = next(answers, None)
            if row is None:
                raise CxrError(f"Ray ended before {path} was predicted.")
            error = row.error.replace(str(row.path), str(path))
            yield dataclasses.replace(row, path=path, error=error)


def _answers(
    ray: Any, file: Path, files: Sequence[Path], options: tuple[Tta, Precision, bool, bool]
) -> Iterator[Prediction]:
    """The row of each file, in order, under its absolute path."""
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    on_gpu = os.environ.get("KERAS_TORCH_DEVICE", "cuda") != "cpu"
    gpus = int(ray.cluster_resources().get("GPU", 0)) if on_gpu else 0
    cores = int(ray.cluster_resources().get("CPU", 1))
    with ray.data.DataContext.current(context):
        paths = [{"path": os.fsencode(path.absolute())} for path in files]
        parts = ray.data.from_items(paths, override_num_blocks=-(-len(files) // PART))
        with warnings.catch_warnings():  # up to Ray 2.63 the tries have no parameter of their own
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
            rows = parts.map_batches(
                _Worker,
                fn_constructor_args=(file.read_bytes(), *options),
                batch_size=PART,
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=gpus or cores),
                num_gpus=1 if gpus else None,
                num_cpus=1,
                max_task_retries=_TRIES_AGAIN,
            )
        try:
            for part in rows.iter_batches(batch_size=None):
                yield from map(pickle.loads, part["row"])
        except ray.exceptions.RayError as error:
            raise CxrError(f"Ray could not predict all images: {_reason(error)}") from error


class _Worker:
    """A network on one worker, which predicts part after part."""

    def __init__(self, model: bytes, tta: Tta, precision: Precision, fix: bool, identifiers: bool):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.keras"
            file.write_bytes(model)
            opened = Opened(file, precision)
            self.predictor = opened.predictor(tta=tta, fix_orientation=fix)
        self.identifiers = identifiers

    def __call__(self, part: dict[str, np.ndarray]) -> dict[str, Any]:
        files = [Path(os.fsdecode(path)) for path in part["path"]]
        rows = self.predictor.predict(files)
        less: dict[str, Any] = {"pixels": None} | ({} if self.identifiers else {"header": {}})
        return {"row": [pickle.dumps(dataclasses.replace(row, **less)) for row in rows]}


def _reason(error: BaseException) -> str:
    """The last line of Ray's message, which says what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
