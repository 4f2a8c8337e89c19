"""Shared data of the tests: real images where they are at hand, a few phantoms everywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.mirror import Mirror
from helpers.places import SHARED
from helpers.processes import cxr
from helpers.shared import assert_untouched, shared
from hypothesis import settings
from PIL import Image

# a busy machine is slow, and no test may fail of that
settings.register_profile("cxr-keras", deadline=None)
settings.load_profile("cxr-keras")

os.environ.setdefault("KERAS_BACKEND", "torch")
if "PYTEST_XDIST_WORKER" in os.environ:  # a process a core, so a thread a process
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import gc

    import keras  # noqa: F401

    from cxr_keras.utils.memory import keep_freed_memory

    # both as the command line does: what was imported stays, and is not looked through again
    keep_freed_memory()
    gc.freeze()

SAMPLE = SHARED / "nih-sample"
TABLE_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder of the tests' own, so that nothing of the user's is touched."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CXR_KERAS_CACHE"] = str(folder)
    os.environ.pop("CXR_KERAS_DATA", None)
    return folder


@pytest.fixture(scope="session", autouse=True)
def notices() -> None:
    """Notices on stderr, as the command line prints them."""
    from cxr_keras.utils.console import print_notices

    print_notices()


@pytest.fixture(scope="session")
def sample() -> Path:
    if not SAMPLE.is_dir():
        pytest.skip(f"the real images are not here ({SAMPLE})")
    return SAMPLE


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    """No test writes into what others read."""
    yield
    assert_untouched()


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[Path]:
    """40 phantoms in NIH's layout, which tests read and do not change."""
    from cxr_keras.data.phantom import write_phantoms

    folder = tmp_path_factory.mktemp("data")
    write_phantoms(folder / "phantoms", count=40, seed=3)
    with shared(folder):
        yield folder / "phantoms"


@pytest.fixture(scope="session")
def tiny_model() -> str:
    """The name of a network small enough to train in a second."""
    import keras

    from cxr_keras.models.registry import list_models, register_model

    if "tiny_test_net" not in [spec.name for spec in list_models()]:

        @register_model(source="the tests")
        def tiny_test_net(x):
            x = keras.layers.Conv2D(6, 7, strides=8, name="conv1")(x)
            x = keras.layers.BatchNormalization(name="conv1_bn")(x)
            x = keras.layers.ReLU(name="conv1_relu")(x)
            x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
            return keras.layers.Dropout(0.2, name="dropout")(x)

    return "tiny_test_net"


@pytest.fixture(scope="session")
def run(phantoms: Path, tiny_model: str, tmp_path_factory: pytest.TempPathFactory):
    """A finished run that tests read and do not change."""
    from cxr_keras import train

    folder = tmp_path_factory.mktemp("runs")
    finished = train(tiny_model, phantoms, epochs=3, lr=0.002, folder=str(folder))
    with shared(folder):
        yield finished


@pytest.fixture(scope="session")
def no_test_run(phantoms: Path, tiny_model: str, tmp_path_factory: pytest.TempPathFactory):
    """A finished run without a test split, which tests read and do not change."""
    from cxr_keras import train

    folder = tmp_path_factory.mktemp("no_test")
    shares = {"val_share": 0.25, "test_share": 0}
    finished = train(tiny_model, phantoms, epochs=1, lr=0.002, folder=folder, **shares)
    with shared(folder):
        yield finished


@pytest.fixture
def copy(run, tmp_path: Path) -> Path:
    """A copy of `run` that a test may change."""
    return shutil.copytree(run.folder, tmp_path / "copy")


@pytest.fixture(scope="session")
def many_labels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """120 images of noise with many labels each, so that small splits hold enough to fit on."""
    from cxr_keras.data.labels import FINDINGS

    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("many") / "labels"
    (folder / "images").mkdir(parents=True)
    lines = [TABLE_HEADER]
    for i in range(120):
        cell = "|".join(np.array(FINDINGS)[rng.random(14) < 0.45]) if i % 6 else "No Finding"
        lines.append(f"{i}.png,{cell or 'Mass'},0,{i},50,{'MF'[i % 2]},PA,256,256,0.1,0.1")
        pixels = rng.integers(0, 2 * i + 15, (256, 256), dtype="uint8")
        Image.fromarray(pixels).save(folder / "images" / f"{i}.png")
    (folder / "Data_Entry_2017_v2020.csv").write_text("\n".join(lines) + "\n")
    with shared(folder):
        yield folder


@pytest.fixture(scope="session")
def many_labels_run(many_labels: Path, tiny_model: str, tmp_path_factory: pytest.TempPathFactory):
    """A finished run on them that tests read and do not change."""
    from cxr_keras import train

    folder = tmp_path_factory.mktemp("many_runs")
    finished = train(tiny_model, many_labels, epochs=2, lr=0.01, folder=folder)
    with shared(folder):
        yield finished


@pytest.fixture
def many_copy(many_labels_run, tmp_path: Path) -> Path:
    """A copy of `many_labels_run` that a test may change."""
    return shutil.copytree(many_labels_run.folder, tmp_path / "copy")


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a data folder in NIH's layout from (name, labels, patient) rows."""

    def make(
        rows: list[tuple[str, str, int]], *, images: list[str] | None = None, **files: str
    ) -> Path:
        folder = tmp_path / "nih"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        lines = [f"{name},{labels},0,{who},50,M,PA,256,256,0.1,0.1" for name, labels, who in rows]
        text = "\n".join([TABLE_HEADER, *lines]) + "\n"
        (folder / "Data_Entry_2017_v2020.csv").write_text(text)
        for index, name in enumerate(images if images is not None else [r[0] for r in rows]):
            pixels = np.random.default_rng(index).integers(0, 255, (256, 256), dtype="uint8")
            Image.fromarray(pixels).save(folder / "images" / name)
        for name, content in files.items():
            (folder / f"{name}.txt").write_text(content)
        return folder

    return make


@pytest.fixture
def run_cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `python -m cxr_keras …` as a process of its own."""
    return cxr


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A server on this machine, whose files and faults a test chooses."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Mirror() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.released.set()
        server.shutdown()


@pytest.fixture
def unused_tcp_port() -> int:
    """A port of this machine on which nothing listens."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
