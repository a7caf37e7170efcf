"""Why an order is on no worklist: ten prepared causes, each found and named."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ris import explain, queries
from ris.explain import Cause, Explanation, Finding, Language
from ris.hl7 import ledger
from ris.hl7.ledger import Received, Result, State
from ris.queries import LastQuery
from ris.tables import PatientRow
from ris.worklist import MODALITY, START_DATE, START_TIME, STATION, STATUS
from storage.access import peers
from storage.access.peers import Peer
from storage.db.engine import Engine, Session, transaction
from tests.fixtures.orders import AT, person, place

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
ASKED = {MODALITY: "CT", START_DATE: "20260105"}
LATER = AT + timedelta(hours=1)


@pytest.fixture
def session(engine: Engine) -> Iterator[Session]:
    with transaction(engine) as opened:
        yield opened


def ask(session: Session, keys: dict[str, str] | None = None, ae_title: str = "CT01") -> None:
    """Let a console ask."""
    asked = ASKED if keys is None else keys
    queries.remember(session, LastQuery(ae_title, asked, LATER, 0))


def causes(found: Explanation) -> list[Cause]:
    return [one.cause for one in found.findings]


def why(session: Session, number: str = "A1", ae_title: str = "CT01") -> Explanation:
    return explain.explain(session, number, ae_title, ZONE)


def message(session: Session, state: State, raw: bytes, reason: str) -> int:
    noted = ledger.note(session, Received(raw, "mllp", "10.0.0.1", identity=raw[-8:]))
    ledger.settle(session, noted.id, Result(state, b"", "AE", reason=reason))
    return noted.id


def test_order_that_matches_is_shown(session: Session) -> None:
    place(session)
    ask(session)

    assert why(session).is_shown
    assert causes(why(session)) == [Cause.SHOWN]


@pytest.mark.parametrize("number", ["A1", "7781001", "F1"])
def test_order_is_known_by_each_of_its_numbers(session: Session, number: str) -> None:
    place(session)
    ask(session)

    assert why(session, number).is_shown


def test_wrong_station_by_calling_ae_title(session: Session) -> None:
    place(session)
    ask(session, ae_title="CT09")

    [finding] = why(session, ae_title="CT09").findings

    assert finding == Finding(
        cause=Cause.STATION, keyword=STATION, asked="CT09", held="CT01", step="S1"
    )


def test_wrong_station_by_key(session: Session) -> None:
    place(session)
    ask(session, {**ASKED, STATION: "CT02"})

    assert [(one.cause, one.asked) for one in why(session).findings] == [(Cause.STATION, "CT02")]


def test_console_of_every_station_is_not_told_of_stations(session: Session) -> None:
    place(session)
    ask(session, ae_title="CT09")
    peers.add(session, Peer("CT09", "10.0.0.9", 104, every_station=True))

    assert why(session, ae_title="CT09").is_shown


@pytest.mark.parametrize(
    ("key", "value"), [(START_DATE, "20260106"), (START_DATE, "20260106-"), (START_TIME, "09-12")]
)
def test_wrong_date(session: Session, key: str, value: str) -> None:
    place(session)
    ask(session, {MODALITY: "CT", key: value})

    [finding] = why(session).findings

    assert (finding.cause, finding.keyword, finding.asked) == (Cause.DATE, key, value)
    assert finding.held in {"20260105", "081500"}


def test_wrong_modality(session: Session) -> None:
    place(session)
    ask(session, {MODALITY: "MR"})

    [finding] = why(session).findings

    assert finding == Finding(
        cause=Cause.MODALITY, keyword=MODALITY, asked="MR", held="CT", step="S1"
    )


@pytest.mark.parametrize("status", ["COMPLETED", "HELD", "DISCONTINUED"])
def test_status_that_is_not_shown(session: Session, status: str) -> None:
    place(session, step={"status": status})
    ask(session)

    [finding] = why(session).findings

    assert (finding.cause, finding.held) == (Cause.STATUS, status)


def test_status_that_is_asked_for(session: Session) -> None:
    place(session)
    ask(session, {STATUS: "ARRIVED"})

    assert causes(why(session)) == [Cause.STATUS]


@pytest.mark.parametrize(
    "name",
    ["NGUYá»„N*", "NGUY\ufffdN*", "NGUY??N*", "Nguyá»…n VÄƒn An", "NGUY\x80N"],
    ids=["utf-8 as latin", "replaced", "lost", "utf-8 as windows", "control"],
)
def test_name_in_a_wrong_character_set(session: Session, name: str) -> None:
    place(session)
    ask(session, {"PatientName": name})

    [finding] = why(session).findings

    assert (finding.cause, finding.keyword) == (Cause.CHARACTER_SET, "PatientName")
    assert finding.held == "NGUYỄN^VĂN AN"


@pytest.mark.parametrize(
    "values",
    [
        {"order": {"state": "CANCELED", "control": "CA"}, "step": {"status": "CANCELED"}},
        {"order": {"state": "CANCELED", "control": "CA", "awaited": True}},
        {"procedure": {"canceled": True}},
        {"step": {"status": "CANCELED"}},
    ],
    ids=["order", "before it came", "procedure", "step"],
)
def test_cancelled(session: Session, values: dict[str, Any]) -> None:
    place(session, **values)
    ask(session)

    assert causes(why(session)) == [Cause.CANCELED]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("PatientID", "BN-2"), ("PatientName", "TRẦN*"), ("PatientBirthDate", "19710506")],
)
def test_wrong_patient(session: Session, keyword: str, value: str) -> None:
    place(session)
    ask(session, {keyword: value})

    [finding] = why(session).findings

    assert (finding.cause, finding.keyword, finding.asked) == (Cause.PATIENT, keyword, value)
    assert finding.held in {"BN-1", "NGUYỄN^VĂN AN", "19600302"}


def test_not_received(session: Session) -> None:
    ask(session)
    message(session, State.DEAD, b"MSH|...|ORC|NW|77810010", "other")

    assert causes(why(session, "7781001")) == [Cause.NOT_RECEIVED]


def test_in_dead_letters(session: Session) -> None:
    ask(session)
    dead = message(session, State.DEAD, b"MSH|...\rORC|NW|7781001\r", "101 PID-3 is required")

    [finding] = why(session, "7781001").findings

    assert finding == Finding(cause=Cause.DEAD_LETTER, held="101 PID-3 is required", message=dead)


def test_profile_refuses_its_message(session: Session) -> None:
    ask(session)
    message(session, State.REFUSED, b"MSH|...\rORC|NW|7781001\r", "201 not for us")

    assert causes(why(session, "7781001")) == [Cause.PROFILE]


def test_profile_finds_neither_modality_nor_station(session: Session) -> None:
    applied = message(session, State.APPLIED, b"MSH|...\rORC|NW|7781001\r", "no modality")
    place(
        session,
        order={"message_id": applied},
        step={"modality": "", "station_ae_titles": []},
    )
    ask(session)

    [finding] = why(session).findings

    assert (finding.cause, finding.held, finding.message) == (
        *(Cause.PROFILE, "no modality", applied),
    )


def test_another_key_is_named(session: Session) -> None:
    place(session)
    ask(session, {"RequestedProcedureID": "R9"})

    [finding] = why(session).findings

    assert (finding.cause, finding.asked, finding.held) == (Cause.KEY, "R9", "R1")


def test_every_key_that_leaves_it_out_is_named(session: Session) -> None:
    place(session)
    ask(session, {MODALITY: "MR", START_DATE: "20260106", STATION: "MR01"})

    assert {*causes(why(session))} == {Cause.MODALITY, Cause.DATE, Cause.STATION}


def test_console_that_never_asked(session: Session) -> None:
    place(session)

    found = why(session)

    assert found.query is None
    assert causes(found) == [Cause.NEVER_ASKED]


def test_console_that_asked_before_the_order_came(session: Session) -> None:
    place(session, order={"changed_at": LATER + timedelta(minutes=5)})
    ask(session)

    assert causes(why(session)) == [Cause.ASKED_BEFORE]


def test_merged_patient_is_asked_for_by_the_survivor(session: Session) -> None:
    prior, survivor = person(session, 1), person(session, 2)
    place(session, patient=prior)
    session.get_one(PatientRow, prior).root_ref = survivor
    ask(session, {"PatientID": "BN-1"})

    [finding] = why(session).findings

    assert (finding.cause, finding.held) == (Cause.PATIENT, "BN-2")


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("cause", Cause)
def test_every_cause_is_a_sentence_in_both_languages(cause: Cause, language: Language) -> None:
    finding = Finding(
        cause=cause, keyword=STATION, asked="asked-value", held="held-value", step="S1", message=7
    )

    text = explain.tell(finding, language)

    assert text.endswith((".", "value"))
    assert "{" not in text
    assert (text == text.encode("ascii", "ignore").decode()) is (
        language is Language.EN and "“" not in text
    )


def test_sentence_names_what_was_asked_and_what_is_held() -> None:
    finding = Finding(cause=Cause.MODALITY, keyword=MODALITY, asked="MR", held="CT", step="S1")

    assert explain.tell(finding, Language.VI) == "Máy hỏi loại máy MR, bước S1 là CT."
    assert explain.tell(finding, Language.EN) == (
        "The console asks for modality MR, step S1 is CT."
    )


def test_number_with_odd_letters_harms_nothing(session: Session) -> None:
    for number in ("", "%", "'; --", "ĐƠN 7"):
        assert causes(why(session, number))[0] is Cause.NOT_RECEIVED
