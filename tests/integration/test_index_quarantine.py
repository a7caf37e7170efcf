"""What is kept aside, and what a person should look at."""

from datetime import timedelta

import pytest

from storage.archive import incidents, quarantine
from storage.archive.incidents import Incident, Kind
from storage.archive.quarantine import Held, Reason, State
from storage.base.errors import Conflict, NotFound
from storage.db.engine import Engine, transaction
from tests.fixtures.index import RECEIVED_AT


def held(number: int, reason: Reason = Reason.MALFORMED, **values: str) -> Held:
    return Held(
        received_at=RECEIVED_AT + timedelta(seconds=number // 2),
        reason=reason,
        object_key=f"00/ab/{number}",
        dataset_offset=0,
        dataset_size=10,
        dataset_sha256="ab" * 32,
        **values,
    )


@pytest.fixture
def ids(engine: Engine) -> list[int]:
    """Five held objects, oldest first; two and two came at the same instant."""
    with transaction(engine) as session:
        for number in range(5):
            reason = Reason.DUPLICATE_UID if number % 2 else Reason.MALFORMED
            quarantine.hold(session, held(number, reason, study_instance_uid=f"2.25.{number}"))
        return [one.id for one in reversed(quarantine.list_held(session))]


def test_held_object_is_given_back_whole(engine: Engine) -> None:
    kept = held(
        1,
        detail="(0008,0018) is missing",
        wire="c-store",
        source_ae_title="CT01",
        address="192.0.2.1",
        sop_class_uid="1.2",
        sop_instance_uid="1.2.3",
        study_instance_uid="1.2.4",
        transfer_syntax_uid="1.2.840.10008.1.2",
    )
    with transaction(engine) as session:
        quarantine.hold(session, kept)

        [found] = quarantine.list_held(session)

        assert quarantine.get(session, found.id) == found
    values = {name: getattr(found, name) for name in Held.__slots__ if name != "id"}
    assert values == {name: getattr(kept, name) for name in values}


def test_same_object_is_held_once(engine: Engine) -> None:
    with transaction(engine) as session:
        quarantine.hold(session, held(1))
        quarantine.hold(session, held(1, Reason.NOT_DICOM))

        assert [one.reason for one in quarantine.list_held(session)] == [Reason.MALFORMED]


def test_pages_go_from_the_newest_without_gap(engine: Engine, ids: list[int]) -> None:
    seen: list[int] = []
    with transaction(engine) as session:
        while page := quarantine.list_held(session, limit=2, after=seen[-1] if seen else None):
            seen += [one.id for one in page]

    assert seen == ids[::-1]


def test_filters_narrow_the_list_and_the_count(engine: Engine, ids: list[int]) -> None:
    with transaction(engine) as session:
        duplicates = quarantine.list_held(session, reason=Reason.DUPLICATE_UID)
        of_study = quarantine.list_held(session, study_instance_uid="2.25.3")

        assert [one.id for one in duplicates] == [ids[3], ids[1]]
        assert [one.id for one in of_study] == [ids[3]]
        assert quarantine.count(session, reason=Reason.DUPLICATE_UID) == 2
        assert quarantine.count(session) == 5


def test_decided_objects_leave_the_list(engine: Engine, ids: list[int]) -> None:
    with transaction(engine) as session:
        quarantine.mark_discarded(session, ids[0])
        quarantine.mark_released(session, ids[1])
        quarantine.mark_released(session, ids[1])

        assert quarantine.count(session) == 3
        assert quarantine.count(session, state=None) == 5
        assert quarantine.get(session, ids[0]).state is State.DISCARDED
        assert [one.id for one in quarantine.list_held(session, state=State.RELEASED)] == [ids[1]]


def test_a_decision_is_not_turned_round(engine: Engine, ids: list[int]) -> None:
    with transaction(engine) as session:
        quarantine.mark_discarded(session, ids[0])

        with pytest.raises(Conflict, match="discarded"):
            quarantine.mark_released(session, ids[0])


@pytest.mark.parametrize(
    "ask", [quarantine.get, quarantine.mark_released, quarantine.mark_discarded]
)
def test_unknown_id_is_not_found(engine: Engine, ask: object) -> None:
    with transaction(engine) as session, pytest.raises(NotFound):
        ask(session, 4711)  # type: ignore[operator]


def test_unsound_text_is_bounded(engine: Engine) -> None:
    with transaction(engine) as session:
        quarantine.hold(session, held(1, detail="a\0\ud800" + "x" * 100_000))

        [found] = quarantine.list_held(session)

    assert found.detail.startswith("a?xx")
    assert len(found.detail) <= quarantine.MAX_TEXT


def incident(study: str = "2.25.1", kind: Kind = Kind.PATIENT_CONFLICT) -> Incident:
    return Incident(kind, study, "BN1", "BN2", "look", RECEIVED_AT)


def test_open_incident_is_not_repeated(engine: Engine) -> None:
    with transaction(engine) as session:
        incidents.note(session, [incident(), incident(), incident("2.25.2")])
        incidents.note(session, [incident(), incident(kind=Kind.OTHER_PATIENT_ID)])

        found = incidents.list_open(session)

    assert [(one.study_instance_uid, one.kind) for one in found] == [
        ("2.25.1", Kind.OTHER_PATIENT_ID),
        ("2.25.2", Kind.PATIENT_CONFLICT),
        ("2.25.1", Kind.PATIENT_CONFLICT),
    ]


def test_resolved_incident_may_come_again(engine: Engine) -> None:
    with transaction(engine) as session:
        incidents.note(session, [incident()])
        [first] = incidents.list_open(session)
        incidents.resolve(session, first.id)
        assert incidents.list_open(session) == []

        incidents.note(session, [incident()])

        assert [one.id for one in incidents.list_open(session)] != [first.id]


def test_incidents_are_paged_from_the_newest(engine: Engine) -> None:
    with transaction(engine) as session:
        incidents.note(session, [incident(f"2.25.{n}") for n in range(5)])

        first = incidents.list_open(session, limit=2)
        rest = incidents.list_open(session, before=first[-1].id)

    assert [one.study_instance_uid[-1] for one in [*first, *rest]] == ["4", "3", "2", "1", "0"]


def test_resolving_what_is_not_open_is_not_found(engine: Engine) -> None:
    with transaction(engine) as session, pytest.raises(NotFound):
        incidents.resolve(session, 4711)
