"""Rejection notes in the index: what is hidden, counted, shown again, whatever comes first."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import event, text

from storage.archive import incidents, listing, rejections, search, studies
from storage.archive import instances as archive
from storage.archive.incidents import Kind
from storage.archive.instances import Scope
from storage.archive.model import Level, Query, ReceivedInstance, Verdict
from storage.archive.rejection_rules import Note, Title
from storage.base.errors import Conflict, NotFound
from storage.db.criteria import Wanted
from storage.db.engine import Session, transaction
from tests.fixtures.index import CT, Index, received
from tests.fixtures.rejection_notes import received_note
from tests.fixtures.statements import counted

EXPIRED, QUALITY, SAFETY, WRONG_ENTRY = Title
SR = {"Modality": "SR", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}


def hidden(index: Index) -> dict[str, str]:
    """Return of each instance why it is hidden, by the end of its UID."""
    with transaction(index.engine) as session:
        found = session.execute(text("SELECT sop_instance_uid, hidden FROM instances"))
        return {uid.removeprefix("2.25."): why for uid, why in found}


def counters(index: Index) -> list[tuple[Any, ...]]:
    """Return what is told of every study."""
    return [
        (
            match["NumberOfStudyRelatedSeries"],
            match["NumberOfStudyRelatedInstances"],
            match["ModalitiesInStudy"],
            match["SOPClassesInStudy"],
        )
        for match in index.find(Level.STUDY)
    ]


def withdraw(index: Index, note: ReceivedInstance) -> rejections.RejectionNote:
    with transaction(index.engine) as session:
        return rejections.withdraw(session, note.attributes["SOPInstanceUID"], "admin")


def test_rejected_object_is_out_of_every_search_and_count(index: Index) -> None:
    kept, bad, report = received("1", "1"), received("2", "1"), received("1", "2", **SR)
    index.record(kept, bad, report)

    index.record(received_note("1", QUALITY, bad, report))

    assert index.uids(Level.IMAGE) == ["2.25.1.1.1"]
    assert index.uids(Level.SERIES) == ["2.25.1.1"]
    assert counters(index) == [(1, 1, ("CT",), (CT,))]
    [series] = index.find(Level.SERIES)
    [patient] = index.find(Level.PATIENT)
    assert series["NumberOfSeriesRelatedInstances"] == 1
    assert patient["NumberOfPatientRelatedInstances"] == 1
    assert patient["NumberOfPatientRelatedSeries"] == 1
    found = [one.sop_instance_uid for one in index.locate(StudyInstanceUID="2.25.1")]
    assert found == ["2.25.1.1.1"]


@pytest.mark.parametrize("level", [Level.STUDY, Level.SERIES, Level.IMAGE])
def test_study_that_is_rejected_as_a_whole_is_in_no_search(index: Index, level: Level) -> None:
    image = received("1")
    index.record(image, received("1", study="2"))

    index.record(received_note("1", SAFETY, image))

    assert [match["StudyInstanceUID"] for match in index.find(level)] == ["2.25.2"]
    [patient] = index.find(Level.PATIENT)
    assert patient["NumberOfPatientRelatedStudies"] == 1
    with transaction(index.engine) as session:
        page = search.find(session, Query(Level.STUDY), limit=1, count=10)
        ids = listing.find_studies(session, Wanted(), {})
        assert (page.after, len(ids)) == (None, 1)
        assert listing.count_studies(session, [], {}) == 1
        assert len(listing.load_studies(session, ids)) == 1
        [rejected] = {*listing.ids_of(session, ["2.25.1"]).values()}
        assert listing.load_studies(session, [rejected]) == {}


def test_patient_of_whom_everything_is_rejected_is_not_found(index: Index) -> None:
    image = received("1")
    index.record(image, received("1", study="2", PatientID="BN2", PatientName="LÊ^BA"))

    index.record(received_note("1", SAFETY, image))

    assert index.uids(Level.PATIENT) == ["BN2"]
    assert index.uids(Level.PATIENT, PatientID="BN1") == []


def test_nothing_is_deleted(index: Index) -> None:
    image = received("1")
    note = received_note("1", WRONG_ENTRY, image)
    index.record(image)
    index.record(note)

    with transaction(index.engine) as session:
        keys = {"StudyInstanceUID": "2.25.1"}
        kept = archive.locate(session, keys, Scope.KEPT)
        vouched = archive.locate(session, keys, Scope.VOUCHED)
        described = studies.describe(session, "2.25.1")
        assert studies.missing(session, ["2.25.1.1.1"]) == 0
        assert studies.held(session, ["2.25.1"]) == {"2.25.1"}
    assert [one.sop_instance_uid for one in kept] == ["2.25.1.1.1", "2.25.1.900.1"]
    assert [one.sop_instance_uid for one in vouched] == ["2.25.1.900.1"]
    assert described is not None
    assert (described.instances, described.series, described.modalities) == (0, (), ())


ARRIVALS = [*permutations(["first", "second", "note"])]


@pytest.mark.parametrize("order", ARRIVALS, ids="-".join)
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "one by one"])
def test_order_of_arrival_changes_nothing(
    index: Index, order: tuple[str, ...], *, together: bool
) -> None:
    first, second = received("1"), received("2")
    some = {"first": first, "second": second, "note": received_note("1", SAFETY, first)}
    batch = [some[name] for name in order]

    if together:
        index.record(*batch)
    else:
        for one in batch:
            index.record(one)

    assert hidden(index) == {"1.1.1": "113037", "1.1.2": "", "1.900.1": "note"}
    assert counters(index) == [(1, 1, ("CT",), (CT,))]


def test_first_object_that_is_shown_counts_its_series(index: Index) -> None:
    first = received("1")
    index.record(received_note("1", QUALITY, first), first)
    assert index.find(Level.STUDY) == []

    index.record(received("2"), received("3"), received("1", "2"))

    assert counters(index) == [(2, 3, ("CT",), (CT,))]


def test_note_fills_no_blanks_of_its_study(index: Index) -> None:
    image = received("1", StudyDescription="")
    index.record(image)

    note = received_note("1", QUALITY)
    index.record(replace(note, attributes={**note.attributes, "StudyDescription": "a note"}))

    [study] = index.find(Level.STUDY)
    assert study["StudyDescription"] == ""


@pytest.mark.parametrize("order", [*permutations([QUALITY, SAFETY, WRONG_ENTRY, EXPIRED])], ids=str)
def test_strongest_of_several_notes_decides(index: Index, order: tuple[Title, ...]) -> None:
    image = received("1")
    index.record(image)

    notes = [received_note(str(number), title, image) for number, title in enumerate(order)]
    for note in notes:
        index.record(note)
        before = order[: notes.index(note) + 1]
        assert hidden(index)["1.1.1"] == max(before, key=[*Title].index)

    withdraw(index, notes[order.index(WRONG_ENTRY)])
    assert hidden(index)["1.1.1"] == SAFETY


def test_note_that_comes_again_does_nothing(index: Index) -> None:
    image = received("1")
    note = received_note("1", QUALITY, image)
    index.record(image)
    index.record(note)
    withdraw(index, note)

    [outcome] = index.record(note)

    assert outcome.verdict is Verdict.DUPLICATE
    assert hidden(index)["1.1.1"] == ""


@pytest.mark.parametrize("title", [QUALITY, SAFETY, WRONG_ENTRY])
def test_rejected_object_that_comes_again_stays_hidden(index: Index, title: Title) -> None:
    image = received("1")
    index.record(image)
    index.record(received_note("1", title, image))

    [outcome] = index.record(image)

    assert outcome.verdict is Verdict.DUPLICATE
    assert hidden(index)["1.1.1"] == title


def test_object_whose_retention_expired_is_shown_when_it_comes_again(index: Index) -> None:
    first, second = received("1"), received("2")
    index.record(first, second)
    index.record(received_note("1", EXPIRED, first, second))
    assert index.find(Level.STUDY) == []

    index.record(first)

    assert hidden(index) == {"1.1.1": "", "1.1.2": "113039", "1.900.1": "note"}
    assert counters(index) == [(1, 1, ("CT",), (CT,))]
    with transaction(index.engine) as session:
        again, gone = rejections.named_by(session, "2.25.1.900.1")
    assert (again.withdrawn_by, gone.withdrawn_at) == (rejections.CAME_AGAIN, None)


def test_other_rejection_outlives_the_retention(index: Index) -> None:
    image = received("1")
    index.record(image)
    index.record(received_note("1", EXPIRED, image), received_note("2", SAFETY, image))

    index.record(image)

    assert hidden(index)["1.1.1"] == SAFETY


def test_withdrawn_rejection_shows_everything_again(index: Index) -> None:
    image, report = received("1"), received("1", "2", **SR)
    note = received_note("1", SAFETY, image, report)
    index.record(image, report, received("2"))
    before = counters(index)
    index.record(note)

    shown = withdraw(index, note)

    assert counters(index) == before
    assert (shown.named, shown.in_force) == (2, 0)
    assert hidden(index) == {"1.1.1": "", "1.1.2": "", "1.2.1": "", "1.900.1": "note"}
    with pytest.raises(Conflict):
        withdraw(index, note)


def test_object_that_comes_after_the_note_was_withdrawn_is_shown(index: Index) -> None:
    image = received("1")
    note = received_note("1", SAFETY, image)
    index.record(note)
    withdraw(index, note)

    index.record(image)

    assert hidden(index)["1.1.1"] == ""


def test_unknown_note_cannot_be_withdrawn(index: Index) -> None:
    with pytest.raises(NotFound):
        withdraw(index, received("1"))


def test_note_rejects_objects_of_several_studies(index: Index) -> None:
    images = [received("1", study=study) for study in "123"]
    index.record(*images)

    index.record(received_note("1", SAFETY, *images[:2]))

    assert index.uids(Level.STUDY) == ["2.25.3"]


def test_object_of_another_study_than_the_note_says_is_not_rejected(index: Index) -> None:
    image = received("1")
    elsewhere = replace(image, attributes={**image.attributes, "StudyInstanceUID": "2.25.77"})
    index.record(image)

    index.record(received_note("1", SAFETY, elsewhere))

    assert hidden(index)["1.1.1"] == ""


def test_note_can_be_rejected_and_stays_hidden_when_that_is_withdrawn(index: Index) -> None:
    image = received("1")
    note = received_note("1", QUALITY, image)
    other = received_note("2", SAFETY, note)
    index.record(image, note, other)
    assert hidden(index) == {"1.1.1": "113001", "1.900.1": "113037", "1.900.2": "note"}

    withdraw(index, other)

    assert hidden(index) == {"1.1.1": "113001", "1.900.1": "note", "1.900.2": "note"}


def test_note_with_a_fault_is_kept_and_told(index: Index) -> None:
    note = replace(received_note("1", QUALITY), note=Note(QUALITY, (), fault="names nothing"))
    image = received("1")
    index.record(image)

    index.record(note)

    assert hidden(index) == {"1.1.1": "", "1.900.1": "note"}
    with transaction(index.engine) as session:
        [told] = incidents.list_open(session)
        [listed] = rejections.list_notes(session)
    assert (told.kind, told.study_instance_uid) == (Kind.REJECTION_NOTE, "2.25.1")
    assert (listed.fault, listed.named, listed.in_force) == ("names nothing", 0, 0)


def test_note_of_another_patient_rejects_nothing(index: Index) -> None:
    image = received("1")
    index.record(image)
    note = received_note("1", SAFETY, image)
    stranger = {"PatientID": "BN2", "PatientName": "LÊ^THỊ BA", "PatientBirthDate": "19900101"}

    [outcome] = index.record(replace(note, attributes={**note.attributes, **stranger}))

    assert outcome.verdict is Verdict.CONFLICT
    assert hidden(index) == {"1.1.1": ""}


def test_notes_are_listed_with_what_they_name(index: Index) -> None:
    here, missing = received("1"), received("2")
    index.record(here)
    index.record(received_note("1", QUALITY, here, missing))
    index.record(received("1", study="2"), received_note("1", SAFETY, study="2"))

    with transaction(index.engine) as session:
        both = rejections.list_notes(session)
        [one] = rejections.list_notes(session, study_instance_uid="2.25.1")
        named = rejections.named_by(session, one.sop_instance_uid)

    assert {note.title for note in both} == {QUALITY, SAFETY}
    assert (one.title, one.author, one.named, one.in_force) == (QUALITY, "TRẦN^MINH", 2, 2)
    assert [(each.sop_instance_uid, each.held, each.hidden) for each in named] == [
        ("2.25.1.1.1", True, "113001"),
        ("2.25.1.1.2", False, ""),
    ]


def test_metadata_of_a_series_is_out_of_date_when_one_of_it_is_rejected(index: Index) -> None:
    first = received("1")
    index.record(first, received("2"))
    with transaction(index.engine) as session:
        settled = "UPDATE series SET metadata_changed_at = changed_at, metadata_instances = 2"
        session.execute(text(settled))

    index.record(received_note("1", QUALITY, first))

    with transaction(index.engine) as session:
        unsettled = session.scalar(
            text("SELECT metadata_changed_at <> changed_at FROM series WHERE series_number = 1")
        )
    assert unsettled


def test_note_that_dies_before_its_commit_rejects_nothing(index: Index) -> None:
    image, note = received("1"), received_note("1", QUALITY, received("1"))
    index.record(image)

    def die() -> None:
        with transaction(index.engine) as session:
            archive.record(session, [note])
            assert session.scalar(text("SELECT count(*) FROM rejections")) == 1
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        die()
    assert hidden(index) == {"1.1.1": ""}
    with transaction(index.engine) as session:
        assert session.scalar(text("SELECT count(*) FROM rejection_notes")) == 0

    index.record(note)
    assert hidden(index) == {"1.1.1": "113001", "1.900.1": "note"}


def test_what_arrives_is_looked_up_by_an_index_however_many_are_rejected(index: Index) -> None:
    with transaction(index.engine) as session:
        session.execute(text("INSERT INTO rejection_notes (noted_at) VALUES (now())"))
        session.execute(
            text(
                "INSERT INTO rejections (note_ref, sop_instance_uid, study_instance_uid, title) "
                "SELECT id, '2.25.9.' || number, '2.25.9', '113039' "
                "FROM rejection_notes, generate_series(1, 20000) AS number"
            )
        )
        session.execute(text("ANALYZE rejections"))
        asked = {f"2.25.9.{number}": "2.25.9" for number in range(256)}
        plans: list[str] = []
        with planned(session, plans):
            found = rejections.titles_of(session, asked)

    assert len(found) == 255
    [plan] = plans
    assert "Index" in plan
    assert "Seq Scan" not in plan


@contextmanager
def planned(session: Session, plans: list[str]) -> Iterator[None]:
    """Note the plan of every statement of a session."""
    connection = session.connection()

    def explain(_c: object, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        cursor.execute(f"EXPLAIN {statement}", parameters)
        plans.append("\n".join(line for (line,) in cursor.fetchall()))

    event.listen(connection, "before_cursor_execute", explain)
    try:
        yield
    finally:
        event.remove(connection, "before_cursor_execute", explain)


def test_batch_without_notes_costs_one_question_more(index: Index) -> None:
    index.record(received("1"))
    index.record(received_note("1", QUALITY, received("99")))

    with counted(index.engine) as statements:
        index.record(*[received(str(number)) for number in range(2, 200)])

    asked = [one for one in statements if "rejection" in one]
    assert len(asked) == 1, "\n".join(asked)
