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
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from cxr_keras.data.dicom import pydicom
from cxr_keras.data.images import read_radiograph
from cxr_keras.errors import CxrError, ImageError
from cxr_keras.inference.dicom_answers import (
    Algorithm,
    DicomError,
    encoded,
    source_of,
    structured_report,
    uid_of,
)
from cxr_keras.inference.files import Prediction, Predictor
from cxr_keras.inference.forward import BATCH_SIZE
from cxr_keras.inference.opened import Opened
from cxr_keras.serving.options import HOST, PORT, TITLE
from cxr_keras.serving.spool import Spool, write_synced
from cxr_keras.utils.console import notice
from cxr_keras.utils.files import hold_lock

QUEUE, OUTBOX, REPORTS, FAILED = "queue", "outbox", "reports", "failed"
_REPORT = "1.2.840.10008.5.1.4.1.1.88.22"  # Enhanced SR
SUCCESS, FULL, MISMATCH, UNREADABLE = 0x0000, 0xA700, 0xA900, 0xC000
_TAKEN = (SUCCESS, 0x0111)  # 0x0111: it has it already
_ASSOCIATIONS = 16  # senders at a time
_PATIENCE = 30.0  # seconds without a word after which a sender is given up
_AGAIN = 10.0  # seconds until a report is sent again that was not taken
_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.1",  # Computed Radiography
    "1.2.840.10008.5.1.4.1.1.1.1",  # Digital X-Ray, for presentation
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
        number = int(port) if port.isascii() and port.isdigit() else 0
        if not (_is_title(title) and host and 0 < number < 65536):
            raise CxrError(
                f"A receiver is AE@HOST:PORT, such as PACS@10.0.0.5:104. Received: {text}."
            )
        return cls(title, host, number)


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
        self._reports, self._failed = out / REPORTS, out / FAILED
        self._stop = threading.Event()
        for name in (title, *accept):
            if not _is_title(name):
                raise CxrError(
                    f"The name of an application entity has 1 to 16 ASCII characters and no "
                    f"backslash. Received: {name!r}."
                )
        self._out = out
        self._entity = self._network.AE(ae_title=title)
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
        _ = self._predictor  # the network is loaded before anyone is let in
        try:
            with hold_lock(self._out / "listener", waiting=None):
                self._run(host, port)
        except BlockingIOError as error:
            raise CxrError(
                f"Another listener uses {self._out}. End it, or give another --out."
            ) from error

    @cached_property
    def _predictor(self) -> Predictor:
        return self._opened.predictor()

    def open_queues(self) -> None:
        """Take up what waits in the folder from before."""
        self._queue, self._outbox = Spool(self._out / QUEUE), Spool(self._out / OUTBOX)

    def _run(self, host: str, port: int) -> None:
        self.open_queues()
        handlers = [(self._network.evt.EVT_C_STORE, self.store)]
        try:
            server = self._entity.start_server((host, port), block=False, evt_handlers=handlers)
        except OSError as error:
            raise CxrError(f"Port {port} of {host} cannot be listened on: {error}.") from error
        sender = threading.Thread(target=self.send, daemon=True)
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
        if not files:
            return 0
        try:
            for row in self._predictor.predict(files):
                self._answer(row)
        except OSError as error:  # of the disk: what is not answered stays in the queue
            notice(f"An answer cannot be written, and its image waits: {error}")
            self._stop.wait(_AGAIN)
        return len(files)

    def _answer(self, row: Prediction) -> None:
        name = row.path.stem.rsplit("-", 1)[-1]
        try:
            report = self._report(row)
        except (CxrError, DicomError) as error:
            self._set_aside(row.path, error)
            return
        write_synced(self._reports / f"{name}.sr.dcm", report)
        if self._forward:
            self._outbox.put(f"{name}.sr.dcm", report)
        row.path.unlink()
        found = ", ".join(row.findings) or "nothing found"
        notice(f"{name[:12]}…: {found}{' (unlike training!)' if row.unlike_training else ''}")

    def _report(self, row: Prediction) -> bytes:
        """The report of a row, the same for the same image and network."""
        if row.error:
            raise CxrError(row.error.removeprefix(f"{row.path}: "))
        content = hashlib.sha256(row.path.read_bytes()).hexdigest()
        source = source_of(row)
        assert source is not None
        return encoded(
            lambda: structured_report(
                row,
                source,
                self._opened.card,
                self._algorithm,
                uid=uid_of(self._algorithm.digest, content),
                series=uid_of(self._algorithm.digest, content, "series"),
            )
        )

    def _set_aside(self, file: Path, error: Exception) -> None:
        """Keep an acknowledged image that cannot be answered, with the reason beside it."""
        write_synced(self._failed / f"{file.stem}.txt", f"{error}\n".encode())
        file.replace(self._failed / file.name)
        notice(f"An image cannot be answered, and lies in {self._failed}: {error}")

    def store(self, event: Any) -> Any:
        """Take one image: decode it, put it on disk, and only then say so."""
        uid = str(event.request.AffectedSOPInstanceUID)
        try:
            name = hashlib.sha256(uid.encode()).hexdigest()
            self._queue.put(f"{name}.dcm", event.encoded_dataset(), partial(self._check, uid=uid))
        except _Mismatch as error:
            return _status(MISMATCH, str(error))
        except ImageError as error:
            return _status(UNREADABLE, str(error))
        except OSError as error:
            notice(f"An image was refused: {error}")
            return _status(FULL, "no room on the disk")
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
        try:
            read_radiograph(file, self._opened.card.framing)
        except ImageError as error:  # without the path, which is nobody's matter
            raise ImageError(str(error).removeprefix(f"{file}: ")) from error

    def send(self) -> None:
        """Send reports until they are taken, as long as the listener runs."""
        while not self._stop.is_set():
            files = self._outbox.waiting()
            try:
                left = self.deliver(files) if files else 0
            except Exception as error:  # the network can fail in any way, and is tried again
                left = len(files)
                self._say_waiting(left, f"{type(error).__name__}: {error}")
            if left:
                self._stop.wait(_AGAIN)
            else:
                self._outbox.filled.wait(0.5)

    def deliver(self, files: list[Path]) -> int:
        """Send reports; how many still wait, for the other side did not take them now."""
        to = self._forward
        assert to is not None
        entity = self._network.AE(ae_title=self._title)
        entity.network_timeout = entity.dimse_timeout = entity.acse_timeout = _PATIENCE
        entity.connection_timeout = _PATIENCE
        entity.add_requested_context(_REPORT, list(_SYNTAXES[:2]))
        association = entity.associate(to.host, to.port, ae_title=to.title)
        if not association.is_established:
            self._say_waiting(len(files), "it does not answer, or takes no reports")
            return len(files)
        left = 0
        try:
            for file in files:
                status = association.send_c_store(pydicom().dcmread(file)).get("Status")
                if status in _TAKEN or (status or 0) & 0xF000 == 0xB000:  # with a warning, too
                    file.unlink()
                elif status is not None and status >> 12 in (0xA, 0xC) and status >> 8 != 0xA7:
                    self._failed.mkdir(parents=True, exist_ok=True)
                    file.replace(self._failed / file.name)
                    notice(
                        f"{to.title} refused a report (0x{status:04X}); it lies in {self._failed}."
                    )
                else:  # no answer, or no room at present
                    left += 1
        finally:
            association.release()
        if left:
            self._say_waiting(left, "it did not take them")
        return left

    def _say_waiting(self, count: int, why: str) -> None:
        to = self._forward
        assert to is not None
        notice(f"{count:,} reports for {to.title}@{to.host}:{to.port} wait in the outbox: {why}")


class _Mismatch(Exception):
    """A data set that is not what was announced."""


def _is_title(name: str) -> bool:
    """Whether `name` can be that of an application entity."""
    printable = name.isascii() and name.isprintable() and "\\" not in name
    return printable and 0 < len(name.strip()) <= len(name) <= 16


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


def _status(code: int, reason: str) -> Any:
    status = pydicom().Dataset()
    status.Status = code
    status.ErrorComment = reason.encode("ascii", "replace").decode()[:64]
    return status
