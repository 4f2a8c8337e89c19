"""A listener in a process of its own, and senders of DICOM images to it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from helpers.dicom_files import film, written

# Sends each file of a folder, and writes the UID of what was acknowledged to a file at once
SENDER = """
import sys
from pathlib import Path
import pydicom
from pynetdicom import AE

port, folder, acknowledged = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
entity = AE(ae_title="SENDER")
entity.add_requested_context("1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.1.2.1")
association = entity.associate("127.0.0.1", port, ae_title="CXRKERAS")
assert association.is_established
with acknowledged.open("a") as said:
    for file in sorted(folder.iterdir()):
        dataset = pydicom.dcmread(file)
        status = association.send_c_store(dataset)
        if status.Status == 0:
            print(dataset.SOPInstanceUID, file=said, flush=True)
association.release()
"""


def start_listener(run: Path, out: Path, *options: str) -> tuple[subprocess.Popen[str], int]:
    """`cxr-keras listen` on a free port; the process and its port."""
    command = [sys.executable, "-m", "cxr_keras", "listen", str(run), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--port", "0", *options],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"listens on [\d.]+:(\d+)", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()  # never fills up
            return process, int(found.group(1))
    raise AssertionError("".join(said))


def start_sender(port: int, folder: Path, acknowledged: Path) -> subprocess.Popen[bytes]:
    """A sender of every file in `folder`, in a process of its own."""
    command = [sys.executable, "-c", SENDER, str(port), str(folder), str(acknowledged)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def films(folder: Path, count: int, seed: int = 0) -> Path:
    """A folder of small films of one study."""
    from pydicom.uid import generate_uid

    folder.mkdir(parents=True)
    rng, study, series = np.random.default_rng(seed), generate_uid(), generate_uid()
    for number in range(count):
        pixels = rng.integers(0, 4096, (96, 80)).astype("uint16")
        made = film(pixels, BitsStored=12, StudyInstanceUID=study, SeriesInstanceUID=series)
        written(made, folder / f"{number:03d}.dcm")
    return folder


def acknowledged_in(file: Path) -> list[str]:
    """UIDs that a sender was told are taken."""
    return file.read_text().split() if file.exists() else []


def answered_in(out: Path) -> list[str]:
    """UIDs of the images that the reports in a listener's folder refer to."""
    import pydicom

    found = []
    for file in sorted((out / "reports").glob("*.dcm")):
        report = pydicom.dcmread(file)
        (study,) = report.CurrentRequestedProcedureEvidenceSequence
        (series,) = study.ReferencedSeriesSequence
        (image,) = series.ReferencedSOPSequence
        found.append(str(image.ReferencedSOPInstanceUID))
    return found
