from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from ris.hl7 import dispatch, message, profile
from ris.hl7.ack import MissingValue, NoSequence, TrialMessage, UnsupportedEvent
from ris.hl7.dispatch import Task
from ris.requests import Context
from storage.base.errors import ImagingError, NotSupported
from storage.db.engine import Session
from tests.fixtures.hl7 import RecordingVerbs, order_message, segment

GENERIC = profile.named("generic")
CONTEXT = Context(sender="his", sent_at=None)


class NoSession(Session):
    """The recording verbs write nothing."""

    def execute(self, *_: object, **__: object) -> None:  # type: ignore[override]
        """Do nothing."""


def plan(kind: str, *segments: str, name: str = "generic", processing: str = "P") -> Task:
    head = f"MSH|^~\\&|HIS|BV|||20260401090000||{kind}|1|{processing}|2.5.1"
    read = message.read("\r".join([head, *segments]).encode())
    return dispatch.plan(read, profile.named(name), ZoneInfo("Asia/Ho_Chi_Minh"))


def asked(task: Task) -> list[str]:
    """Return the verbs that the task asks for."""
    verbs = RecordingVerbs()
    task.work(NoSession(), verbs, CONTEXT)
    return [verb for verb, _ in verbs.asked]


PAIR = ("PID|||1", "MRG|2")


@pytest.mark.parametrize(
    ("kind", "segments", "verbs"),
    [
        ("ADT^A01", ("PID|||1",), ["admit A01"]),
        ("ADT^A08^ADT_A01", ("PID|||1",), ["admit A08"]),
        ("ADT", ("EVN|A31", "PID|||1"), ["admit A31"]),
        ("ADT^A40", PAIR, ["merge"]),
        ("ADT^A34", PAIR, ["merge"]),
        ("ADT^A47", PAIR, ["renumber"]),
        ("ADT^A24", ("PID|||1", "PID|||2"), ["link"]),
        ("ADT^A37", ("PID|||1", "PID|||2"), ["unlink"]),
        ("ORM^O01", ("PID|||1", "ORC|NW|7", "OBR|1|7", "OBR|2|7"), ["order NW", "order NW"]),
        ("ORM", ("PID|||1", "ORC|CA|7"), ["order CA"]),
        ("OMG^O19", ("PID|||1", "ORC|XO|7", "OBR|1|7"), ["order XO"]),
        ("OMI^O23^OMI_O23", ("PID|||1", "ORC|DC|7", "OBR|1|7"), ["order DC"]),
        ("SIU^S12", ("SCH|7", "PID|||1"), ["appoint"]),
        ("SIU^S15", ("SCH|7",), ["appoint"]),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_message_asks_for_its_verbs(kind: str, segments: tuple[str, ...], verbs: list[str]) -> None:
    assert asked(plan(kind, *segments)) == verbs


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("MDM^T02", NotSupported),
        ("ACK", NotSupported),
        ("", NotSupported),
        ("ADT", UnsupportedEvent),
        ("ADT^A60", UnsupportedEvent),
        ("ADT^A43", UnsupportedEvent),
        ("ORM^O02", UnsupportedEvent),
        ("OMG^O01", UnsupportedEvent),
        ("SIU^S26", UnsupportedEvent),
    ],
)
def test_what_is_not_for_us_is_said_so(kind: str, error: type[ImagingError]) -> None:
    with pytest.raises(error) as raised:
        plan(kind, "PID|||1")
    assert type(raised.value) is error


def test_trial_message_is_not_taken_unless_the_profile_says_so() -> None:
    with pytest.raises(TrialMessage):
        plan("ADT^A01", "PID|||1", processing="T")
    assert asked(plan("ADT^A01", "PID|||1", processing="")) == ["admit A01"]
    assert asked(plan("ADT^A01", "PID|||1", processing="P^T")) == ["admit A01"]

    trial = profile.changed(GENERIC, {"processing_ids": ["P", "T"]})
    read = message.read(order_message(processing="T"))
    assert asked(dispatch.plan(read, trial, ZoneInfo("UTC"))) == ["order NW"]


def test_messages_of_one_patient_or_order_share_a_lock() -> None:
    admission = plan("ADT^A08", "PID|||007^^^BV")
    order = plan("ORM^O01", "PID|||7^^^OTHER", "ORC|NW|4711", "OBR|1|4711")
    change = plan("ORM^O01", "PID|||8", "ORC|XO|4711", "OBR|1|4711")
    merge = plan("ADT^A40", "PID|||8", "MRG|7")
    other = plan("ORM^O01", "PID|||9", "ORC|NW|4712", "OBR|1|4712")
    visit = plan("SIU^S12", segment("SCH", {26: "4711"}))

    def share(one: Task, two: Task) -> bool:
        return bool({*one.locks} & {*two.locks})

    assert share(admission, order)
    assert share(order, change)
    assert share(merge, admission)
    assert share(merge, change)
    assert share(visit, order)
    assert not share(order, other)
    assert not share(merge, other)


def test_people_find_a_message_by_patient_order_and_accession() -> None:
    task = plan(
        "ORM^O01",
        "PID|||7^^^BV~DN1^^^BHYT^HC",
        "ORC|NW|4711",
        segment("OBR", {2: "4711", 18: "A1"}),
    )

    assert task.keys == ("patient:7", "patient:DN1", "order:4711", "accession:A1")
    assert plan("ADT^A40", *PAIR).keys == ("patient:1", "patient:2")
    assert plan("SIU^S12", "SCH|7|8").keys == ("order:7", "order:8")


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ((segment("ORC", {1: "NW", 2: "7", 9: "20260401085500"}),), datetime(2026, 4, 1, 8, 55)),
        (("EVN||20260401085600", "ORC|NW|7"), datetime(2026, 4, 1, 8, 56)),
        ((segment("ORC", {1: "NW", 2: "7", 9: "soon"}),), datetime(2026, 4, 1, 9)),
        (("ORC|NW|7",), datetime(2026, 4, 1, 9)),
    ],
    ids=["ORC-9", "EVN-2", "unreadable", "MSH-7"],
)
def test_time_of_the_event_is_the_closest_that_is_told(
    segments: tuple[str, ...], expected: datetime
) -> None:
    assert plan("ORM^O01", "PID|||1", *segments).sent_at == expected


def test_order_without_patient_and_patient_without_id_are_refused() -> None:
    with pytest.raises(NoSequence, match="PID: there is none"):
        plan("ORM^O01", "ORC|NW|7")
    with pytest.raises(MissingValue, match=r"PID-3\.1"):
        plan("ADT^A01", "PID|1")
