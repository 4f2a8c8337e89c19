"""`listen`: images come by C-STORE, a Structured Report is written and may be sent on.

An image is acknowledged when it has been decoded and lies on disk; it leaves the queue when its
report is written, and the report leaves the outbox when the other side has taken it. So a kill at
any moment loses nothing that was acknowledged; at worst an answer is made twice, under one UID.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cxr_keras.data.dicom import pydicom
from cxr_keras.data.images import read_radiograph
from cxr_keras.errors import CxrError, ImageError
from cxr_keras.inference.dicom_answers import Algorithm, save, source_of, structured_report
from cxr_keras.inference.files import Prediction, predict_files
from cxr_keras.inference.forward import BATCH_SIZE
from cxr_keras.inference.opened import Opened
from cxr_keras.serving.spool import Spool
from cxr_keras.utils.console import notice

PORT, TITLE, HOST = 11112, "CXRKERAS", "127.0.0.1"
QUEUE, OUTBOX, REPORTS, FAILED = "queue", "outbox", "reports", "failed"
SUCCESS, FULL, MISMATCH, UNREADABLE = 0x0000, 0xA700, 0xA900, 0xC000
_ASSOCIATIONS = 16  # senders at a time
_PATIENCE = 30.0  # seconds without a word after which a sender is given up
_AGAIN = 10.0  # seconds until a report is sent again that was not taken
_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
    "1.2.840.10008.5.1.4.1.1.1.1.1",  # Digital X-Ray, for processing: refused with the reason
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture
)
_SYNTAXES = (
    *("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"),
    *("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"),
    *("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),
    *("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"),
    "1.2.840.10008.1.2.5",
)


@dataclass(frozen=True)
class Receiver:
    """Where reports are sent.

    Attributes:
        title: its application entity's title.
        host: its name or address.
        port: its port.
    """

    title: str
    host: str
    port: int

    @classmethod
    def of(cls, text: str) -> Receiver:
        """Of "AE@HOST:PORT".

        Raises:
            CxrError: it is nothing of that kind.
        """
        title, _, place = text.partition("@")
        host, _, port = place.rpartition(":")
        if not (0 < len(title) <= 16 and host and port.isdigit() and 0 < int(port) < 65536):
            raise CxrError(
                f"A receiver is AE@HOST:PORT, such as PACS@10.0.0.5:104. Received: {text}."
            )
        return cls(title, host, int(port))


class Listener:
    """A DICOM storage provider that answers each image with a report.

    Args:
        opened: the network.
        out: folder of its queue, outbox, reports and of what failed.
        title: its own application entity's title.
        forward: where reports are sent; None for nowhere.
        accept: titles of senders that are let in; empty for all.
    """

    def __init__(
        self,
        opened: Opened,
        out: Path,
        *,
        title: str = TITLE,
        forward: Receiver | None = None,
        accept: tuple[str, ...] = (),
    ):
        opened.refuse({"listen": True})
        self._network = pynetdicom()
        self._opened, self._title, self._forward = opened, title, forward
        self._algorithm = Algorithm.of(opened.file, opened.card)
        self._queue, self._outbox = Spool(out / QUEUE), Spool(out / OUTBOX)
        self._reports, self._failed = out / REPORTS, out / FAILED
        self._stop = threading.Event()
        try:
            self._entity = self._network.AE(ae_title=title)
        except (TypeError, ValueError) as error:
            raise CxrError(f"{title!r} is no name of an application entity: {error}") from error
        self._entity.maximum_associations = _ASSOCIATIONS
        self._entity.network_timeout = self._entity.dimse_timeout = _PATIENCE
        self._entity.acse_timeout = _PATIENCE
        self._entity.require_calling_aet = list(accept)
        self._entity.add_supported_context("1.2.840.10008.1.1")  # C-ECHO
        for image in _IMAGES:
            self._entity.add_supported_context(image, list(_SYNTAXES))

    def run(self, host: str = HOST, port: int = PORT) -> None:
        """Listen until `stop` or Ctrl-C; then answer what is under way and end.

        Raises:
            CxrError: the port cannot be had.
        """
        _ = self._opened.network  # loaded before anyone is let in
        handlers = [(self._network.evt.EVT_C_STORE, self._store)]
        try:
            server = self._entity.start_server((host, port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise CxrError(f"Port {port} of {host} cannot be listened on: {error}.") from error
        sender = threading.Thread(target=self._send, daemon=True)
        if self._forward:
            sender.start()
        bound = server.socket.getsockname()[1]
        notice(f"{self._title} listens on {host}:{bound}. Ctrl-C ends it.")
        try:
            while not self._stop.is_set():
                if not self.answer_some():
                    self._queue.filled.wait(0.5)
        except KeyboardInterrupt:
            notice("Ending: what was acknowledged and is not answered yet waits in the queue.")
        finally:
            self._stop.set()
            server.shutdown()
            if self._forward:
                sender.join(timeout=_PATIENCE)

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._stop.set()
        self._queue.filled.set()

    def answer_some(self) -> int:
        """Answer a batch of what waits; how many images that were."""
        files = self._queue.waiting()[:BATCH_SIZE]
        opened = self._opened
        rows = predict_files(opened.network, files, card=opened.card, guard=opened.guard)
        for row in rows:
            self._answer(row)
        return len(files)

    def _answer(self, row: Prediction) -> None:
        name = row.path.stem
        try:
            if row.error:
                raise CxrError(row.error)
            source = source_of(row)
            assert source is not None
            report = structured_report(row, source, self._opened.card, self._algorithm)
            number = hashlib.sha256(f"{self._algorithm.digest} {name}".encode()).hexdigest()[:32]
            report.SOPInstanceUID = f"2.25.{int(number, 16)}"
            report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID
            target = self._reports / f"{name}.sr.dcm"
            save(report, target)
        except Exception as error:  # a header can hold anything, and the next image must go on
            self._set_aside(row.path, error)
            return
        if self._forward:
            self._outbox.put(target.name, target.read_bytes())
        row.path.unlink()
        found = ", ".join(row.findings) or "nothing found"
        notice(f"{name[:12]}…: {found}{' (unlike training!)' if row.unlike_training else ''}")

    def _set_aside(self, file: Path, error: Exception) -> None:
        """Keep an acknowledged image that cannot be answered, with the reason beside it."""
        self._failed.mkdir(parents=True, exist_ok=True)
        (self._failed / f"{file.stem}.txt").write_text(f"{error}\n", encoding="utf-8")
        file.replace(self._failed / file.name)
        notice(f"{file.stem[:12]}… cannot be answered, and lies in {self._failed}: {error}")

    def _store(self, event: Any) -> Any:
        """Take one image: decode it, put it on disk, and only then say so."""
        request = event.request
        try:
            content = event.encoded_dataset()
            check = partial(self._check, uid=str(request.AffectedSOPInstanceUID))
            name = hashlib.sha256(str(request.AffectedSOPInstanceUID).encode()).hexdigest()
            self._queue.put(f"{name}.dcm", content, check)
        except _Mismatch as error:
            return _status(MISMATCH, error)
        except OSError as error:
            notice(f"An image was refused: {error}")
            return _status(FULL, error)
        except ImageError as error:
            return _status(UNREADABLE, error)
        except Exception as error:  # whatever a stranger sends, the listener goes on
            return _status(UNREADABLE, type(error).__name__)
        return SUCCESS

    def _check(self, file: Path, uid: str) -> None:
        """Refuse what could not be answered.

        Raises:
            _Mismatch: its UID is not the one that was announced, or it lacks one of the others.
            ImageError: it is no image that can be read.
        """
        header = pydicom().dcmread(file, stop_before_pixels=True)
        for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID"):
            if not header.get(name):
                raise _Mismatch(f"it has no {name}")
        if str(header.get("SOPInstanceUID")) != uid:
            raise _Mismatch("its SOPInstanceUID is not the one announced")
        read_radiograph(file, self._opened.card.framing)

    def _send(self) -> None:
        """Send reports until they are taken, as long as the listener runs."""
        assert self._forward is not None
        while not self._stop.is_set():
            files = self._outbox.waiting()
            if files and not self._deliver(files):
                self._stop.wait(_AGAIN)
            else:
                self._outbox.filled.wait(0.5)

    def _deliver(self, files: list[Path]) -> bool:
        """Send some reports; whether the other side took all of them."""
        to = self._forward
        assert to is not None
        entity = self._network.AE(ae_title=self._title)
        entity.network_timeout = entity.dimse_timeout = entity.acse_timeout = _PATIENCE
        entity.connection_timeout = _PATIENCE
        entity.add_requested_context("1.2.840.10008.5.1.4.1.1.88.22")  # Enhanced SR
        association = entity.associate(to.host, to.port, ae_title=to.title)
        if not association.is_established:
            notice(f"{to.title}@{to.host}:{to.port} does not answer; reports wait in the outbox.")
            return False
        try:
            for file in files:
                status = association.send_c_store(pydicom().dcmread(file))
                if status.get("Status") != SUCCESS:
                    said = f"0x{status.Status:04X}" if "Status" in status else "no answer"
                    notice(f"{to.title} did not take a report ({said}); it waits in the outbox.")
                    return False
                file.unlink()
        finally:
            association.release()
        return True


class _Mismatch(Exception):
    """A data set that is not what was announced."""


def pynetdicom() -> Any:
    """The package pynetdicom, which says nothing of its own.

    Raises:
        CxrError: it is not installed.
    """
    try:
        import pynetdicom as package
    except ImportError as error:
        raise CxrError(
            'listen needs pynetdicom, of the extra dicom: pip install "cxr-keras[dicom]".'
        ) from error
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    return package


def _status(code: int, error: object) -> Any:
    status = pydicom().Dataset()
    status.Status = code
    status.ErrorComment = str(error).encode("ascii", "replace").decode()[:64]
    return status
