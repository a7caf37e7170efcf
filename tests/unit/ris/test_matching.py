"""Which order a study belongs to."""

from dataclasses import replace
from datetime import date, datetime
from typing import Any

import pytest

from ris.matching import Decision, Order, Outcome, Person, Reason, Step, Study, decide, mismatches

PERSON = Person(
    identifiers=frozenset({("BN-7", "BVDK")}),
    name="NGUYỄN VĂN AN",
    birth_date=date(1960, 3, 2),
    sex="M",
)
OTHER = Person(
    identifiers=frozenset({("BN-8", "BVDK")}), name="TRẦN THỊ BÌNH", birth_date=date(1971, 5, 6)
)
STUDY = Study(
    study_instance_uid="2.25.100",
    person=Person(identifiers=frozenset({("BN-7", "")}), name="NGUYEN^VAN AN"),
    modalities=frozenset({"CT", "SR"}),
    begun=datetime(2026, 3, 2, 8, 20),
    stations=frozenset({"CT01"}),
)
STEP = Step(
    scheduled_procedure_step_id="S1",
    modality="CT",
    stations=frozenset({"CT01"}),
    start=datetime(2026, 3, 2, 8, 0),
)
ORDER = Order(
    id=1,
    person=PERSON,
    study_instance_uid="2.25.1",
    accession_number="A1",
    placer_order_number="7781001",
    requested_procedure_id="R1",
    steps=(STEP,),
)


def study(**changes: Any) -> Study:
    return replace(STUDY, **changes)


def order(number: int = 1, **changes: Any) -> Order:
    return replace(ORDER, **{"id": number, **changes})


def outcome(decision: Decision) -> tuple[Outcome, list[int]]:
    return decision.outcome, [one.order.id for one in decision.scored]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (study(study_instance_uid="2.25.1"), Outcome.ATTACH),
        (study(accession_number="A1"), Outcome.ATTACH),
        (study(accession_number="7781001"), Outcome.ATTACH),
        (study(scheduled_step_ids=frozenset({"S1"}), begun=None), Outcome.ATTACH),
        (STUDY, Outcome.ATTACH),
        (study(stations=frozenset()), Outcome.PROPOSE),
        (study(stations=frozenset(), begun=datetime(2026, 3, 3, 7, 0)), Outcome.PROPOSE),
        (study(begun=datetime(2026, 2, 2, 8, 0), stations=frozenset()), Outcome.PROPOSE),
        (study(modalities=frozenset({"MR"}), begun=None), Outcome.NONE),
        (study(person=Person(name="NGUYEN VAN AN"), stations=frozenset()), Outcome.PROPOSE),
        (study(person=OTHER), Outcome.PROPOSE),
        (study(person=OTHER, begun=None), Outcome.NONE),
        (study(person=OTHER, accession_number="A1"), Outcome.CONFLICT),
        (study(person=OTHER, study_instance_uid="2.25.1"), Outcome.CONFLICT),
    ],
    ids=[
        "study uid",
        "accession number",
        "placer number typed as accession number",
        "step id and patient",
        "patient, modality, station, day",
        "patient, modality, day",
        "patient, modality, within a day",
        "patient, modality",
        "another modality",
        "name alone",
        "another person on the same station and day",
        "another person",
        "accession number of another person",
        "study uid of another person",
    ],
)
def test_study_is_taken_proposed_or_left(one: Study, expected: Outcome) -> None:
    assert decide(one, [ORDER]).outcome is expected


def test_every_rule_says_why_and_how_much() -> None:
    [scored] = decide(study(accession_number="A1"), [ORDER]).scored

    assert scored.reasons == (
        Reason("accession_number", 60),
        Reason("patient_id", 30),
        Reason("patient_name", 10),
        Reason("modality", 15),
        Reason("station", 10),
        Reason("same_day", 20),
    )
    assert scored.points == 145


def test_two_orders_that_fit_alike_are_proposed() -> None:
    assert outcome(decide(STUDY, [ORDER, order(2)])) == (Outcome.PROPOSE, [1, 2])


def test_order_that_fits_far_better_is_taken() -> None:
    weaker = order(2, steps=(replace(STEP, modality="MR"),))

    assert outcome(decide(STUDY, [weaker, ORDER])) == (Outcome.ATTACH, [1])


def test_orders_of_one_study_uid_are_taken_together() -> None:
    group = [order(number, study_instance_uid="2.25.100") for number in (1, 2)]

    assert outcome(decide(STUDY, group)) == (Outcome.ATTACH, [1, 2])


def test_orders_that_the_performed_step_names_are_taken_together() -> None:
    decision = decide(STUDY, [order(1, performed=True), order(2, performed=True), order(3)])

    assert outcome(decision) == (Outcome.ATTACH, [1, 2])


def test_cancelled_order_is_never_taken() -> None:
    named = order(study_instance_uid="2.25.100", cancelled=True)

    assert decide(STUDY, [named]).outcome is Outcome.CONFLICT
    assert decide(study(accession_number="A1"), [order(cancelled=True)]).outcome is Outcome.CONFLICT
    assert decide(STUDY, [order(cancelled=True)]).outcome is Outcome.PROPOSE


def test_entry_that_was_chosen_by_mistake_is_left_to_a_person() -> None:
    mistaken = order(study_instance_uid="2.25.100", wrong_entry=True)

    assert decide(STUDY, [mistaken]).outcome is Outcome.CONFLICT


def test_order_that_has_a_study_is_not_taken_again_by_likeness() -> None:
    assert decide(study(accession_number="A1"), [order(taken=True)]).outcome is Outcome.PROPOSE
    assert decide(STUDY, [order(taken=True)]).outcome is Outcome.PROPOSE


def test_nothing_fits_a_study_without_facts() -> None:
    bare = Study(study_instance_uid="2.25.9", person=Person())

    assert decide(bare, [ORDER, Order(id=2, person=Person())]).outcome is Outcome.NONE
    assert decide(bare, []).outcome is Outcome.NONE


@pytest.mark.parametrize("wanted", ["DX", "CR", "RG"])
def test_modalities_of_one_kind_are_alike(wanted: str) -> None:
    xray = study(modalities=frozenset({"DX"}))
    [scored] = decide(xray, [order(steps=(replace(STEP, modality=wanted),))]).scored

    assert Reason("modality", 15) in scored.reasons


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ()),
        ({"name": "nguyen an van"}, ()),
        ({"name": "NGUYỄN VĂN AN 5TH"}, ()),
        ({"name": ""}, ()),
        ({"name": "NGUYỄN VĂN BA"}, ("name",)),
        ({"birth_date": None}, ()),
        ({"birth_date": date(1960, 1, 1)}, ()),
        ({"birth_date": date(1960, 4, 2), "birth_year_only": True}, ()),
        ({"birth_date": date(1961, 1, 1)}, ("birth_date",)),
        ({"birth_date": date(1960, 3, 3)}, ("birth_date",)),
        ({"sex": "F"}, ("sex",)),
        ({"sex": "O"}, ()),
        ({"identifiers": frozenset({("BN-7", "")})}, ()),
        ({"identifiers": frozenset({("BN-7", "OTHER")})}, ("patient_id",)),
        ({"identifiers": frozenset({("BN-9", "BVDK"), ("BN-7", "BVDK")})}, ()),
        ({"identifiers": frozenset()}, ()),
    ],
    ids=str,
)
def test_persons_contradict_where_both_are_known_and_differ(
    change: dict[str, Any], expected: tuple[str, ...]
) -> None:
    assert mismatches(PERSON, replace(PERSON, **change)) == expected
