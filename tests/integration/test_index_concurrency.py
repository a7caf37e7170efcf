"""Batches recorded at the same time: one study, one patient, one instance, no deadlock."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from sqlalchemy import text

from storage.archive import instances, rejections
from storage.archive.model import Level, Outcome, ReceivedInstance, Verdict
from storage.archive.quarantine import Reason
from storage.archive.rejection_rules import Title
from storage.db.engine import transaction
from tests.fixtures.index import Index, received
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.rejection_notes import received_note


def together(*works: Callable[[], list[Outcome]]) -> list[list[Outcome]]:
    """Run all at the same moment, each in a thread of its own."""
    start = threading.Barrier(len(works))

    def run(work: Callable[[], list[Outcome]]) -> list[Outcome]:
        start.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [*pool.map(run, works)]


def recording(index: Index, batch: Sequence[ReceivedInstance]) -> Callable[[], list[Outcome]]:
    return lambda: index.record(*batch)


@pytest.mark.parametrize("_attempt", range(5))
def test_same_new_study_in_two_transactions_is_one(index: Index, _attempt: int) -> None:
    batches = [
        [received(f"{100 * worker + n}", f"{n % 3}") for n in range(20)] for worker in range(1, 5)
    ]

    outcomes = together(*(recording(index, batch) for batch in batches))

    assert {one.verdict for some in outcomes for one in some} == {Verdict.STORED}
    [study] = index.find(Level.STUDY)
    assert study["NumberOfStudyRelatedSeries"] == 3
    assert study["NumberOfStudyRelatedInstances"] == 80
    assert len(index.find(Level.PATIENT)) == 1


@pytest.mark.parametrize("_attempt", range(5))
def test_same_new_patient_in_two_transactions_is_one(index: Index, _attempt: int) -> None:
    batches = [[received(study=f"{worker}{n}") for n in range(10)] for worker in range(1, 5)]

    together(*(recording(index, batch) for batch in batches))

    [patient] = index.find(Level.PATIENT)
    assert patient["NumberOfPatientRelatedStudies"] == 40


@pytest.mark.parametrize("_attempt", range(5))
def test_same_instance_in_two_transactions_is_stored_once(index: Index, _attempt: int) -> None:
    batch = [received(str(n)) for n in range(30)]

    outcomes = together(*[recording(index, batch)] * 4)

    found = Counter(one.verdict for some in outcomes for one in some)
    assert found == {Verdict.STORED: 30, Verdict.DUPLICATE: 90}
    assert index.find(Level.STUDY)[0]["NumberOfStudyRelatedInstances"] == 30


@pytest.mark.parametrize("_attempt", range(5))
def test_one_uid_claimed_by_two_studies_goes_to_the_first(index: Index, _attempt: int) -> None:
    """No lock is shared here: only the database's unique key decides."""
    shared = [f"2.25.777.{n}" for n in range(10)]
    claims = [
        [
            received("1", str(n), study, PatientID=study, SOPInstanceUID=uid)
            for n, uid in enumerate(random.Random(study).sample(shared, len(shared)))
        ]
        for study in ("1", "2", "3")
    ]

    outcomes = together(*(recording(index, claim) for claim in claims))

    found = Counter(one.reason or one.verdict for some in outcomes for one in some)
    assert found == {Verdict.STORED: 10, Reason.OTHER_PARENT: 20}
    studies = index.find(Level.STUDY)
    assert sum(study["NumberOfStudyRelatedInstances"] for study in studies) == 10
    assert all(study["NumberOfStudyRelatedInstances"] for study in studies)
    assert len(index.find(Level.SERIES)) == 10
    assert len(index.find(Level.PATIENT)) == len(studies)


def test_loser_of_a_race_sees_what_the_winner_committed(index: Index) -> None:
    """The loser waits inside its INSERT, is undone, and judges anew."""
    claim = received("1", "1", "2", PatientID="BN2", SOPInstanceUID="2.25.1.1.1")
    with ThreadPoolExecutor(1) as pool:
        with transaction(index.engine) as session:
            instances.record(session, [received()])
            losing = pool.submit(index.record, claim)
            with pytest.raises(TimeoutError):
                losing.result(timeout=0.5)
        [outcome] = losing.result(timeout=PATIENCE_S)

    assert outcome.reason == Reason.OTHER_PARENT
    assert index.uids(Level.STUDY) == ["2.25.1"]
    assert index.uids(Level.PATIENT) == ["BN1"]


def test_parallel_batches_over_the_same_studies_never_deadlock(index: Index) -> None:
    chance = random.Random(7)
    names = ("", "NGUYỄN^VĂN AN", "TRẦN^BÌNH")

    def batches(worker: int) -> list[list[ReceivedInstance]]:
        return [
            [
                received(
                    f"{worker}{round_}{n}",
                    str(chance.randrange(2)),
                    str(study := chance.randrange(6)),
                    PatientID=chance.choice(["", f"BN{study % 3}"]),
                    PatientName=chance.choice(names),
                    PatientBirthDate="",
                )
                for n in range(15)
            ]
            for round_ in range(8)
        ]

    def working(worker: int) -> Callable[[], list[Outcome]]:
        mine = batches(worker)
        return lambda: [one for batch in mine for one in index.record(*batch)]

    outcomes = together(*map(working, range(1, 5)))

    with transaction(index.engine) as session:
        counted = session.execute(
            text(
                "SELECT count(*) FROM studies s WHERE number_of_instances <> (SELECT count(*) FROM"
                " instances i JOIN series e ON e.id = i.series_ref WHERE e.study_ref = s.id)"
                " OR number_of_series <> (SELECT count(*) FROM series e WHERE e.study_ref = s.id)"
                " OR patient_name_key <> (SELECT patient_name_key FROM patients p"
                " WHERE p.id = s.patient_ref)"
            )
        ).scalar_one()
    assert counted == 0
    stored = sum(one.verdict is Verdict.STORED for some in outcomes for one in some)
    assert stored == len(index.find(Level.IMAGE)) > 0


@pytest.mark.parametrize("_attempt", range(3))
def test_image_that_comes_with_its_note_at_once_is_hidden(index: Index, _attempt: int) -> None:
    images = [received(str(number)) for number in range(20)]
    notes = [
        received_note("1", Title.QUALITY, *images[:15]),
        received_note("2", Title.SAFETY, *images[10:]),
    ]

    together(
        *(recording(index, images[first : first + 5]) for first in range(0, 20, 5)),
        *(recording(index, [note]) for note in notes),
    )

    assert index.find(Level.STUDY) == []
    with transaction(index.engine) as session:
        found = session.execute(text("SELECT hidden, count(*) FROM instances GROUP BY hidden"))
        assert {why: number for why, number in found} == {  # noqa: C416 - a Row is no tuple
            Title.QUALITY: 10,
            Title.SAFETY: 10,
            "note": 2,
        }


@pytest.mark.parametrize("_attempt", range(3))
def test_notes_on_each_others_studies_never_wait_in_a_circle(index: Index, _attempt: int) -> None:
    studies = [[received(str(n), study=study) for n in range(10)] for study in "12"]
    index.record(*studies[0], *studies[1])
    crossed = [
        received_note("1", Title.SAFETY, *studies[1][:5], *studies[0][:3], study="1"),
        received_note("1", Title.SAFETY, *studies[0][:5], *studies[1][:3], study="2"),
    ]

    together(*(recording(index, [note]) for note in crossed))

    counted = [found["NumberOfStudyRelatedInstances"] for found in index.find(Level.STUDY)]
    assert counted == [5, 5]


def test_notes_withdrawn_while_images_come_leave_right_counts(index: Index) -> None:
    images = [received(str(number)) for number in range(40)]
    notes = [received_note(str(n), Title.SAFETY, *images[n::4]) for n in range(4)]
    index.record(*notes, *images[:20])

    def withdraw(note: ReceivedInstance) -> list[Outcome]:
        with transaction(index.engine) as session:
            rejections.withdraw(session, note.attributes["SOPInstanceUID"], "hoa")
        return []

    together(
        *(partial(withdraw, note) for note in notes[:3]),
        recording(index, images[20:30]),
        recording(index, images[30:]),
    )

    [study] = index.find(Level.STUDY)
    assert study["NumberOfStudyRelatedInstances"] == 30
    assert len(index.find(Level.IMAGE)) == 30
