"""`listen`: what is acknowledged is answered, whatever is killed; what cannot be is refused."""

import os
import signal
import socket
import subprocess
import threading
import time
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from helpers.dicom_files import SECRET_NAME, film, written
from helpers.processes import wait_until
from helpers.refusals import refusal
from helpers.senders import acknowledged_in, answered_in, films, start_listener, start_sender
from pydicom.uid import generate_uid
from pynetdicom import AE, evt

from cxr_keras.inference.files import Predictor
from cxr_keras.inference.opened import Opened
from cxr_keras.serving import spool
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
    for status in (statuses[0], statuses[2]):
        assert status.ErrorComment
        assert "queue" not in status.ErrorComment  # no path of the server
    association.release()
    assert not associate(port, context="1.2.840.10008.5.1.4.1.1.88.22").accepted_contexts
    with socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(os.urandom(4096))
    wait_until(lambda: answered_in(out) == [good.SOPInstanceUID], process)
    wait_until(lambda: not list((out / "queue").iterdir()), process)
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


@pytest.mark.slow
def test_strangers_are_kept_out_where_names_are_given(run, tmp_path):
    process, port = start_listener(run.folder, tmp_path, "--accept", "FRIEND")
    assert not associate(port).is_established
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) == 0


@pytest.fixture
def idle(run, tmp_path):
    """A listener in this process that does not listen: its steps one by one."""
    listener = Listener(Opened(run.folder), tmp_path / "out", forward=Receiver("PACS", "x", 1))
    listener.open_queues()
    return listener


class Arrival:
    """What pynetdicom hands over as a C-STORE comes in."""

    def __init__(self, dataset, path):
        self.request = SimpleNamespace(AffectedSOPInstanceUID=dataset.SOPInstanceUID)
        self._path = written(dataset, path)

    def encoded_dataset(self):
        return self._path.read_bytes()


def test_a_full_disk_is_said_and_nothing_is_acknowledged(idle, tmp_path, monkeypatch):
    monkeypatch.setattr(spool.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    status = idle.store(Arrival(whole_film(), tmp_path / "film.dcm"))
    assert status.Status == FULL
    assert not list((tmp_path / "out" / "queue").iterdir())


def test_the_same_instance_sent_again_while_it_is_answered_is_another_image(
    idle, tmp_path, monkeypatch
):
    """A corrected name must not meet the answer to the image before, and both are answered."""
    first = whole_film(PatientName="Alpha^A")
    again = whole_film(PatientName="Beta^B", SOPInstanceUID=first.SOPInstanceUID)
    again.file_meta.MediaStorageSOPInstanceUID = first.SOPInstanceUID
    assert idle.store(Arrival(first, tmp_path / "first.dcm")) == 0
    usual = Predictor.predict

    def answer_late(self, files):
        for row in usual(self, files):
            idle.store(Arrival(again, tmp_path / "again.dcm"))
            yield row

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict", answer_late)
        assert idle.answer_some() == 1
    names = [str(pydicom.dcmread(file).PatientName) for file in outbox_of(tmp_path)]
    assert names == ["Alpha^A"]
    assert idle.answer_some() == 1
    reports = [pydicom.dcmread(file) for file in outbox_of(tmp_path)]
    assert [str(report.PatientName) for report in reports] == ["Alpha^A", "Beta^B"]
    assert len({report.SOPInstanceUID for report in reports}) == 2


def outbox_of(folder):
    return sorted((folder / "out" / "outbox").iterdir())


def test_an_image_answered_twice_has_one_report(idle, tmp_path):
    made = whole_film()
    for _ in range(2):  # as after a kill between report and queue
        assert idle.store(Arrival(made, tmp_path / "film.dcm")) == 0
    assert idle.answer_some() == 2
    one, other = (pydicom.dcmread(file) for file in outbox_of(tmp_path))
    assert one.SOPInstanceUID == other.SOPInstanceUID
    assert one.SeriesInstanceUID == other.SeriesInstanceUID


@pytest.mark.parametrize(
    "header",
    [
        {"PatientName": "Josephine Miller"},
        {"PatientBirthDate": "04/03/1952", "PatientSex": "U", "StudyTime": "99"},
        {"SpecificCharacterSet": ["", "ISO 2022 IR 87"]},
    ],
    ids=str,
)
def test_real_headers_get_their_report_and_no_name_is_said(idle, tmp_path, header, recwarn, capfd):
    made = whole_film(**header)
    recwarn.clear()  # of what pydicom says where the test itself makes the film
    idle.store(Arrival(made, tmp_path / "film.dcm"))
    assert idle.answer_some() == 1
    assert len(outbox_of(tmp_path)) == 1
    said = "".join(capfd.readouterr()) + "".join(str(one.message) for one in recwarn)
    assert not any(word in said for word in ("Josephine", "Miller", "1952"))


def test_one_report_that_is_refused_does_not_hold_up_the_others(idle, tmp_path, unused_tcp_port):
    answers = iter([0xA900, 0xB007, 0x0000, 0xA700])
    for number in range(4):
        idle.store(Arrival(whole_film(), tmp_path / f"{number}.dcm"))
    idle.answer_some()
    idle._forward = Receiver("PACS", "127.0.0.1", unused_tcp_port)
    receiver = AE(ae_title="PACS")
    receiver.add_supported_context("1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.1.2")
    handlers = [(evt.EVT_C_STORE, lambda event: next(answers))]
    server = receiver.start_server(
        ("127.0.0.1", unused_tcp_port), block=False, evt_handlers=handlers
    )
    try:
        assert idle.deliver(outbox_of(tmp_path)) == 1
    finally:
        server.shutdown()
    assert len(outbox_of(tmp_path)) == 1  # there was no room for it
    assert len(list((tmp_path / "out" / "failed").iterdir())) == 1


def test_no_receiver_is_no_end(idle, tmp_path):
    """A name that nobody knows, a title that cannot be: said, and tried again."""
    idle.store(Arrival(whole_film(), tmp_path / "film.dcm"))
    idle.answer_some()
    idle._forward = Receiver("PACS", "no.such.host.invalid", 104)
    thread = threading.Thread(target=idle.send, daemon=True)
    thread.start()
    time.sleep(1.5)
    assert thread.is_alive()
    assert len(outbox_of(tmp_path)) == 1
    idle.stop()
    thread.join(timeout=30)
    assert not thread.is_alive()


def test_a_second_listener_is_refused_its_folder(listening, run):
    _, _, out = listening
    assert "Another listener" in refusal(Listener(Opened(run.folder), out).run, port=0)


def test_a_receiver_is_read_or_refused():
    assert Receiver.of("PACS@10.0.0.5:104") == Receiver("PACS", "10.0.0.5", 104)
    for text in (
        "PACS",
        "PACS@host",
        "@host:1",
        "P@host:0",
        "A" * 17 + "@h:104",
        "PÄCS@h:1",
        "P@h:²",
        "A\\B@h:1",
    ):
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
    wait_until(lambda: not list((out / "queue").iterdir()), process, seconds=240)
    found = answered_in(out)
    assert set(told) <= set(found)
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
