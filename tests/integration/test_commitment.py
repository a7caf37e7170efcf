"""Storage commitment from the request to the report, with pynetdicom as the modality."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.events import Event

from pacs import service
from pacs.scp import commitment, models
from storage.access import peers
from storage.access.peers import Peer
from storage.archive import commitments
from storage.base.clock import utc_now
from storage.base.errors import NotFound
from storage.db.engine import transaction
from tests.fixtures.dicom_files import ct_slice, encode
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.raw_peer import RawPeer, store_request
from tests.fixtures.server import DicomServer, in_thread
from tests.fixtures.serving import free_port

CT = "1.2.840.10008.5.1.4.1.1.2"
TRANSACTION = "2.25.99"


@dataclass
class Console:
    """A modality: asks for commitment, and takes the report on a port of its own."""

    server: DicomServer
    port: int = field(default_factory=free_port)
    reports: list[tuple[int, Dataset, str]] = field(default_factory=list)
    answer: int = 0x0000

    def ask(self, *uids: str, sop_class_uid: str = CT) -> int:
        """Send an N-ACTION and return its status."""
        ae = AE("CT01")
        ae.add_requested_context(models.STORAGE_COMMITMENT)
        association = ae.associate("127.0.0.1", self.server.port, ae_title="ARCHIVE")
        assert association.is_established
        asked = Dataset()
        asked.TransactionUID = TRANSACTION
        asked.ReferencedSOPSequence = []
        for uid in uids:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, uid
            asked.ReferencedSOPSequence.append(item)
        status, _ = association.send_n_action(
            asked, 1, models.STORAGE_COMMITMENT, models.STORAGE_COMMITMENT_INSTANCE
        )
        association.release()
        return int(status.Status)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take reports while the block lasts."""
        ae = AE("CT01")
        ae.add_supported_context(models.STORAGE_COMMITMENT, scu_role=False, scp_role=True)
        handlers = [(evt.EVT_N_EVENT_REPORT, self._take)]
        running = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        assert running is not None
        try:
            yield
        finally:
            running.shutdown()

    def _take(self, event: Event) -> tuple[int, None]:
        kind = int(event.request.EventTypeID)
        caller = event.assoc.requestor.ae_title
        self.reports.append((kind, event.event_information, caller))
        return self.answer, None


@pytest.fixture
def console(dicom_server: DicomServer) -> Console:
    """A registered modality that has sent two slices, which are in the archive."""
    made = Console(dicom_server)
    with transaction(dicom_server.engine) as session:
        peers.add(session, Peer("CT01", "127.0.0.1", made.port))
    with RawPeer(dicom_server.port) as peer:
        peer.associate()
        for number in (1, 2):
            dataset = ct_slice(SOPInstanceUID=f"2.25.{number}", InstanceNumber=number)
            assert peer.store(store_request(f"2.25.{number}"), encode(dataset)).status == 0
    assert dicom_server.ingest() == 2
    return made


@pytest.fixture
def reporter(console: Console) -> commitment.Reporter:
    server = console.server
    return service.reporter(server.settings, server.engine, server.store)


def uids(sequence: list[Dataset]) -> list[str]:
    return [item.ReferencedSOPInstanceUID for item in sequence]


def test_held_instances_are_vouched_for(console: Console, reporter: commitment.Reporter) -> None:
    assert console.ask("2.25.1", "2.25.2") == 0

    with console.listening():
        assert reporter.run_once()

    [(kind, report, caller)] = console.reports
    assert (kind, caller) == (1, "ARCHIVE")
    assert report.TransactionUID == TRANSACTION
    assert report.RetrieveAETitle == "ARCHIVE"
    assert uids(report.ReferencedSOPSequence) == ["2.25.1", "2.25.2"]
    assert "FailedSOPSequence" not in report
    assert not reporter.run_once()


def test_bytes_that_rotted_are_not_vouched_for(
    console: Console, reporter: commitment.Reporter
) -> None:
    server = console.server
    [held] = reporter.locate({"SOPInstanceUID": "2.25.1"})
    path = next(
        path
        for path in Path(server.settings.data_dir / "objects").rglob("*")
        if path.is_file() and path.stat().st_size and held.object_key.endswith(path.name)
    )
    content = bytearray(path.read_bytes())
    content[held.dataset_offset + held.dataset_size - 1] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)
    console.ask("2.25.1", "2.25.2")

    with console.listening():
        reporter.run_once()

    [(kind, report, _)] = console.reports
    assert kind == 2
    assert uids(report.ReferencedSOPSequence) == ["2.25.2"]
    assert [
        (one.ReferencedSOPInstanceUID, one.FailureReason) for one in report.FailedSOPSequence
    ] == [("2.25.1", 0x0110)]


def test_instance_that_is_another_class_is_not_vouched_for(
    console: Console, reporter: commitment.Reporter
) -> None:
    console.ask("2.25.1", sop_class_uid="1.2.840.10008.5.1.4.1.1.4")

    with console.listening():
        reporter.run_once()

    [(kind, report, _)] = console.reports
    assert kind == 2
    assert [one.FailureReason for one in report.FailedSOPSequence] == [0x0119]
    assert "ReferencedSOPSequence" not in report


def test_instance_on_its_way_is_waited_for(console: Console, reporter: commitment.Reporter) -> None:
    console.ask("2.25.1", "2.25.3")

    with console.listening():
        reporter.run_once()
        early = list(console.reports)
        reporter.run_once(utc_now() + commitment.PATIENCE)

    assert early == []
    [(kind, report, _)] = console.reports
    assert kind == 2
    assert [
        (one.ReferencedSOPInstanceUID, one.FailureReason) for one in report.FailedSOPSequence
    ] == [("2.25.3", 0x0112)]


def test_report_waits_for_a_console_that_is_away(
    console: Console, reporter: commitment.Reporter
) -> None:
    console.ask("2.25.1")
    reporter.run_once()
    too_early = reporter.run_once()

    with console.listening():
        reporter.run_once(utc_now() + commitment.FIRST_PAUSE)

    assert not too_early
    assert [kind for kind, _, _ in console.reports] == [1]


def test_report_that_is_refused_is_repeated(
    console: Console, reporter: commitment.Reporter
) -> None:
    console.ask("2.25.1")
    console.answer = 0x0110

    with console.listening():
        reporter.run_once()
        console.answer = 0x0000
        reporter.run_once(utc_now() + commitment.FIRST_PAUSE)

    assert len(console.reports) == 2
    with transaction(console.server.engine) as session:
        assert commitments.count(session, commitments.REPORTED) == 1


def test_console_that_never_comes_back_is_given_up_after_days(
    console: Console, reporter: commitment.Reporter
) -> None:
    console.ask("2.25.1")

    reporter.run_once(utc_now() + commitment.GIVE_UP + timedelta(seconds=1))

    with transaction(console.server.engine) as session:
        assert commitments.count(session, commitments.PARKED) == 1


def test_what_is_claimed_is_claimed_again_when_its_lease_ends(
    console: Console, reporter: commitment.Reporter
) -> None:
    console.ask("2.25.1")
    now = utc_now()
    with transaction(console.server.engine) as session:
        assert commitments.claim(session, now, commitment.LEASE)

    with console.listening():
        at_once = reporter.run_once(now)
        later = reporter.run_once(now + commitment.LEASE)

    assert (at_once, later) == (False, True)
    assert len(console.reports) == 1


def test_same_request_again_is_reported_again(
    console: Console, reporter: commitment.Reporter
) -> None:
    with console.listening():
        for _ in range(2):
            assert console.ask("2.25.1") == 0
            reporter.run_once()

    assert len(console.reports) == 2


def test_transaction_uid_of_other_instances_is_refused(console: Console) -> None:
    console.ask("2.25.1")

    assert console.ask("2.25.2") == 0x0110


def test_parked_report_is_listed_and_can_be_tried_again(
    console: Console, reporter: commitment.Reporter
) -> None:
    console.ask("2.25.1")
    reporter.run_once(utc_now() + commitment.GIVE_UP + timedelta(seconds=1))

    with transaction(console.server.engine) as session:
        [parked] = commitments.list_open(session)
        commitments.retry(session, parked.id, utc_now())
    with console.listening():
        reporter.run_once()

    assert (parked.state, parked.transaction_uid) == (commitments.PARKED, TRANSACTION)
    assert len(console.reports) == 1
    with transaction(console.server.engine) as session:
        assert commitments.list_open(session) == []
        with pytest.raises(NotFound, match="no open commitment"):
            commitments.retry(session, parked.id, utc_now())


def test_worker_reports_without_being_told(console: Console) -> None:
    server, stop = console.server, threading.Event()
    work = partial(service.work, server.settings, server.engine, server.store, server.spool, stop)
    worker = in_thread(work)

    with console.listening():
        console.ask("2.25.1")
        deadline = time.monotonic() + PATIENCE_S
        while not console.reports and time.monotonic() < deadline:
            time.sleep(0.05)
    stop.set()
    worker.join(10)

    assert [kind for kind, _, _ in console.reports] == [1]
