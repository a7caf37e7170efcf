"""Reports that are signed, corrected, taken back: what waits for whom, and when."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from ris.hl7 import destinations, outgoing, reporting
from ris.hl7.destinations import Destination
from ris.hl7.outgoing import Outgoing, Wanted
from ris.reports import criticals, documents
from ris.reports.documents import Document
from ris.reports.model import Report
from ris.reports.signing.model import Evidence
from ris.reports.states import Action
from storage.base.clock import utc_now
from storage.db.engine import Engine, transaction
from storage.objects import keys
from storage.objects.directory import DirectoryStore
from tests.fixtures.hl7 import VIETNAM
from tests.fixtures.hl7_receiver import value
from tests.fixtures.reports import HEAD, OTHER_HEAD, READER, STUDY, TEXT, Desk

PDF: Final = b"%PDF-1.7 signed"
KEY: Final = keys.document_key("paper", hashlib.sha256(PDF).hexdigest())
EVIDENCE: Final = Evidence(
    method="local",
    qualified=False,
    level="B-B",
    algorithm="SHA256withRSA",
    subject="",
    issuer="",
    serial_number="",
    certificate=b"",
    signed_at=datetime(2026, 1, 5, tzinfo=UTC),
    time_stamped_at=None,
)
LONG: Final = timedelta(hours=1)


class Teller:
    """A desk with two orders for one study, and the messages of what is done there."""

    def __init__(self, engine: Engine, desk: Desk, folder: Path) -> None:
        self.engine, self.desk, self.folder = engine, desk, folder
        self.store = DirectoryStore(folder / "objects")
        patient = desk.patient()
        self.orders = tuple(desk.order(patient, study=STUDY) for _ in range(2))

    def add(self, name: str = "his", **options: object) -> None:
        told = {"tells": "reports", "result_parts": "findings,impression", **options}
        with transaction(self.engine) as session:
            destinations.add(session, Destination(name, "127.0.0.1", 2575), told)

    def signed(self) -> Report:
        return self.desk.signed(order_ids=self.orders)

    def tell(self, later: timedelta = timedelta()) -> int:
        return reporting.tell(self.engine, VIETNAM, self.store, utc_now() + later)

    def messages(self, name: str = "his") -> list[Outgoing]:
        with transaction(self.engine) as session:
            return [*reversed(outgoing.search(session, Wanted(destination=name), 100))]

    def statuses(self, name: str = "his") -> list[tuple[str, str]]:
        """Return OBR-25 and the first OBX-11 of what waits for the first order."""
        own = f"order:{self.orders[0]}"
        return [
            (value(one.payload, b"OBR", 25), value(one.payload, b"OBX", 11))
            for one in self.messages(name)
            if one.queue == own
        ]

    def papers(self, name: str = "his") -> list[bool]:
        """Return of each message whether it has the paper."""
        return [b"|ED|" in one.payload for one in self.messages(name)]

    def document(self, report: Report, content: bytes = PDF) -> None:
        """Let the paper of the newest version be there; `content` is what the store keeps."""
        source = self.folder / "paper"
        source.write_bytes(content)
        self.store.put_files([(KEY, source)])
        sha256 = hashlib.sha256(PDF).hexdigest()
        made = Document(report.revision, KEY, len(PDF), sha256, EVIDENCE)
        with transaction(self.engine) as session:
            documents.save(session, report.uid, made)


@pytest.fixture
def teller(engine: Engine, desk: Desk, tmp_path: Path) -> Teller:
    return Teller(engine, desk, tmp_path)


def test_each_order_is_told_under_its_own_number(teller: Teller) -> None:
    teller.add()
    report = teller.signed()

    assert teller.tell() == 1
    assert teller.tell() == 0

    found = teller.messages()
    assert [one.queue for one in found] == [f"order:{number}" for number in teller.orders]
    assert len({one.control_id for one in found}) == 2
    for one in found:
        assert one.kind == "ORU^R01 F"
        placer = value(one.payload, b"OBR", 2)
        assert value(one.payload, b"ORC", 2) == placer
        assert {f"order:{placer}", f"report:{report.uid}", "patient:BN1"} <= {*one.keys}
    assert len({value(one.payload, b"OBR", 2) for one in found}) == 2
    assert "Hiện không thấy tổn thương".encode() in found[0].payload


def test_every_issued_version_is_told_in_its_order(teller: Teller) -> None:
    teller.add()
    desk = teller.desk
    opened = desk.open(order_ids=teller.orders)
    released = desk.act(Action.RELEASE, desk.release(opened), READER)
    signed = desk.act(Action.APPROVE, released, HEAD)
    corrected = desk.act(Action.CORRECT, signed, HEAD, content=TEXT, reason="nhầm bên")
    added = desk.act(Action.ADDEND, corrected, HEAD, addendum="Đã hội chẩn.")
    withdrawn = desk.act(Action.UNAPPROVE, added, HEAD, reason="xem lại")
    asked = desk.act(Action.REQUEST_RETRACTION, withdrawn, HEAD, reason="nhầm người")
    desk.act(Action.RETRACT, asked, OTHER_HEAD)

    teller.tell()

    assert teller.statuses() == [
        *(("P", "P"), ("F", "F"), ("C", "C"), ("C", "F"), ("C", "C"), ("C", "W"))
    ]
    texts = [one.payload.decode() for one in teller.messages()][::2]
    assert "ĐÍNH CHÍNH phiên bản" in texts[2]
    assert "nhầm bên" in texts[2]
    assert "Đã hội chẩn." in texts[3]
    assert "Hiện không thấy tổn thương" not in texts[5]


def test_most_pressing_critical_finding_is_marked(teller: Teller) -> None:
    teller.add()
    report = teller.desk.open(order_ids=teller.orders)
    with transaction(teller.engine) as session:
        for level in ("yellow", "red", "orange"):
            criticals.raise_critical(session, READER, report.uid, level, "Tràn khí màng phổi")
    released = teller.desk.act(Action.RELEASE, teller.desk.release(report), READER)
    teller.desk.act(Action.APPROVE, released, HEAD)

    teller.tell()

    told = [one.payload.decode().split("\r") for one in teller.messages()]
    flags = [[line.split("|")[8] for line in one if line.startswith("OBX")] for one in told]
    assert flags == [["", "AA"]] * len(told)
    assert {one.kind for one in teller.messages()} == {"ORU^R01 P", "ORU^R01 F"}


def test_drafts_are_told_to_nobody(teller: Teller) -> None:
    teller.add()
    teller.desk.open(order_ids=teller.orders)

    assert teller.tell() == 0
    assert teller.messages() == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"results": "F,C"}, [("F", "F")]),
        ({"tells": "orders"}, []),
        ({"senders": "another"}, []),
        ({"tells": "orders,reports"}, [("P", "P"), ("F", "F")]),
    ],
    ids=str,
)
def test_destination_gets_what_it_wants(
    teller: Teller, options: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    teller.add(**options)
    desk = teller.desk
    released = desk.act(Action.RELEASE, desk.release(desk.open(order_ids=teller.orders)), READER)
    desk.act(Action.APPROVE, released, HEAD)

    teller.tell()

    assert teller.statuses() == expected


def test_who_wants_the_paper_waits_for_it(teller: Teller) -> None:
    teller.add(result_parts="findings,impression,pdf")
    report = teller.signed()
    early = teller.tell()

    teller.document(report)
    teller.tell()

    assert early == 0
    assert teller.papers() == [True, True]
    assert teller.tell(LONG) == 0


def test_paper_that_is_late_comes_in_a_second_message(teller: Teller) -> None:
    teller.add("with", result_parts="findings,impression,pdf")
    teller.add("without")
    report = teller.signed()

    teller.tell(LONG)
    without = teller.papers("with")
    teller.document(report)
    teller.document(report)
    teller.tell(LONG)

    assert without == [False, False]
    assert teller.papers("with") == [False, False, True, True]
    assert teller.papers("without") == [False, False]
    assert teller.tell(LONG) == 0


def test_correction_waits_behind_the_version_before_it(teller: Teller) -> None:
    teller.add(result_parts="findings,impression,pdf")
    signed = teller.signed()
    corrected = teller.desk.act(Action.CORRECT, signed, HEAD, content=TEXT, reason="nhầm bên")
    teller.document(corrected)

    held = teller.tell()
    teller.tell(LONG)

    assert held == 0
    assert teller.statuses() == [("F", "F"), ("C", "C")]


def test_paper_that_is_not_what_was_signed_is_not_sent(teller: Teller) -> None:
    teller.add(result_parts="findings,impression,pdf")
    teller.document(teller.signed(), b"rotten")

    teller.tell()

    assert teller.papers() == [False, False]


def test_report_without_an_order_concerns_no_placer(teller: Teller, engine: Engine) -> None:
    teller.add()
    study = teller.desk.study("7")
    teller.desk.signed(study_instance_uids=(study,))

    assert reporting.tell(engine, VIETNAM, None) == 1
    assert teller.messages() == []
