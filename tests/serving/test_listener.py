"""`listen`: what is acknowledged is answered, whatever is killed; what cannot be is refused."""

import os
import signal
import socket
import subprocess

import numpy as np
import pydicom
import pytest
from helpers.dicom_files import SECRET_NAME, film, written
from helpers.processes import wait_until
from helpers.refusals import refusal
from helpers.senders import acknowledged_in, answered_in, films, start_listener, start_sender
from pydicom.uid import generate_uid
from pynetdicom import AE, evt

from cxr_keras.serving.listener import FULL, MISMATCH, Listener, Receiver

CR, EXPLICIT = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.1.2.1"


@pytest.fixture
def listening(run, tmp_path):
    """A listener, its port and its folder; ended by Ctrl-C."""
    out = tmp_path / "out"
    process, port = start_listener(run.folder, out)
    yield process, port, out
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0


def associate(port, context=CR, title="CXRKERAS"):
    entity = AE(ae_title="SENDER")
    entity.add_requested_context(context, EXPLICIT)
    return entity.associate("127.0.0.1", port, ae_title=title)


def whole_film(**elements):
    pixels = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype("uint16")
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    return film(pixels, BitsStored=12, **(uids | elements))


def test_images_are_answered_and_what_is_none_is_refused(listening, capfd):
    process, port, out = listening
    association = associate(port)
    good, cut = whole_film(), whole_film()
    cut.PixelData = cut.PixelData[:100]
    strange = whole_film(Rows=60000, Columns=60000)
    homeless = whole_film(StudyInstanceUID=None)
    statuses = [association.send_c_store(one) for one in (cut, good, strange, homeless)]
    assert [one.Status == 0 for one in statuses] == [False, True, False, False]
    assert statuses[0].Status >> 12 == 0xC
    assert statuses[3].Status == MISMATCH
    assert "StudyInstanceUID" in statuses[3].ErrorComment
    association.release()
    assert not associate(port, context="1.2.840.10008.5.1.4.1.1.88.22").accepted_contexts
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(os.urandom(4096))
    wait_until(lambda: answered_in(out) == [good.SOPInstanceUID], process)
    assert not list((out / "queue").iterdir())
    (file,) = (out / "reports").iterdir()
    report = pydicom.dcmread(file)
    assert report.StudyInstanceUID == good.StudyInstanceUID
    assert str(report.PatientName) == SECRET_NAME
    assert "research use only" in str(report).lower()
    assert process.poll() is None


@pytest.mark.slow
def test_a_kill_after_the_acknowledgement_loses_nothing(run, tmp_path):
    out, sent = tmp_path / "out", films(tmp_path / "films", 24)
    process, port = start_listener(run.folder, out)
    said = tmp_path / "said"
    sender = start_sender(port, sent, said)
    wait_until(lambda: len(acknowledged_in(said)) >= 12, process)
    process.kill()
    process.wait()
    sender.wait(timeout=60)
    told = acknowledged_in(said)
    process, port = start_listener(run.folder, out)
    wait_until(lambda: not list((out / "queue").iterdir()), process)
    assert set(told) <= set(answered_in(out))
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0


@pytest.mark.slow
def test_reports_wait_for_the_receiver_and_reach_it_once(run, tmp_path, unused_tcp_port):
    out, taken = tmp_path / "out", []
    place = f"PACS@127.0.0.1:{unused_tcp_port}"
    process, port = start_listener(run.folder, out, "--forward", place)
    sender = start_sender(port, films(tmp_path / "films", 3), tmp_path / "said")
    assert sender.wait(timeout=60) == 0
    wait_until(lambda: len(list((out / "outbox").glob("*.dcm"))) == 3, process)

    def store(event):
        taken.append(str(event.dataset.SOPInstanceUID))
        return 0

    receiver = AE(ae_title="PACS")
    receiver.add_supported_context("1.2.840.10008.5.1.4.1.1.88.22", EXPLICIT)
    server = receiver.start_server(
        ("127.0.0.1", unused_tcp_port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        wait_until(lambda: not list((out / "outbox").iterdir()), process)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
        server.shutdown()
    reports = [pydicom.dcmread(file) for file in (out / "reports").iterdir()]
    assert sorted(taken) == sorted(str(report.SOPInstanceUID) for report in reports)


def test_strangers_are_kept_out_where_names_are_given(run, tmp_path):
    process, port = start_listener(run.folder, tmp_path, "--accept", "FRIEND")
    assert not associate(port).is_established
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0


def test_a_full_disk_is_said_and_nothing_is_acknowledged(run, tmp_path, monkeypatch):
    """In this process, whose queue can be made to fail."""
    from cxr_keras.inference.opened import Opened
    from cxr_keras.serving import spool

    listener = Listener(Opened(run.folder), tmp_path)
    monkeypatch.setattr(spool.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))

    class Event:
        def __init__(self, dataset, path):
            self.request = type("R", (), {"AffectedSOPInstanceUID": dataset.SOPInstanceUID})()
            self.path = written(dataset, path)

        def encoded_dataset(self):
            return self.path.read_bytes()

    status = listener._store(Event(whole_film(), tmp_path / "film.dcm"))
    assert status.Status == FULL
    assert not list((tmp_path / "queue").iterdir())


def test_a_receiver_is_read_or_refused():
    assert Receiver.of("PACS@10.0.0.5:104") == Receiver("PACS", "10.0.0.5", 104)
    for text in ("PACS", "PACS@host", "@host:1", "PACS@host:0", "A" * 17 + "@host:104"):
        assert "AE@HOST:PORT" in refusal(Receiver.of, text)


@pytest.mark.slow
def test_four_senders_at_once_one_of_them_killed(run, tmp_path):
    """200 films; whatever was acknowledged, also to the killed sender, is answered once."""
    out = tmp_path / "out"
    process, port = start_listener(run.folder, out)
    folders = [films(tmp_path / f"films{number}", 50, seed=number) for number in range(4)]
    said = [tmp_path / f"said{number}" for number in range(4)]
    senders = [start_sender(port, *pair) for pair in zip(folders, said, strict=True)]
    wait_until(lambda: len(acknowledged_in(said[0])) >= 10, process)
    senders[0].kill()
    for sender in senders:
        sender.wait(timeout=300)
    told = [uid for file in said for uid in acknowledged_in(file)]
    assert all(len(acknowledged_in(file)) == 50 for file in said[1:])
    wait_until(lambda: set(told) <= set(answered_in(out)), process, seconds=240)
    wait_until(lambda: not list((out / "queue").iterdir()), process)
    found = answered_in(out)
    assert len(found) == len(set(found)) <= 200
    assert set(found) - set(told) <= {  # one may have been taken as its sender was killed
        str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID)
        for file in folders[0].iterdir()
    }
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0


@pytest.mark.slow
def test_dcmtk_sends_too(run, tmp_path):
    import shutil

    storescu = next((p for p in ("/usr/bin/storescu", shutil.which("storescu")) if p), None)
    if storescu is None or not os.path.exists(storescu) or b"dcmtk" not in version_of(storescu):
        pytest.skip("DCMTK's storescu is not installed here; .ci/run installs it")
    out, sent = tmp_path / "out", films(tmp_path / "films", 5)
    process, port = start_listener(run.folder, out)
    command = [storescu, "-aec", "CXRKERAS", "127.0.0.1", str(port), "+sd", str(sent)]
    assert subprocess.run(command, capture_output=True).returncode == 0
    wait_until(lambda: len(answered_in(out)) == 5, process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0


def version_of(program):
    return subprocess.run([program, "--version"], capture_output=True).stdout
