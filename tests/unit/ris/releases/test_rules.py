from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import product

import pytest

from ris.releases import rules
from ris.releases.model import Basis, BasisKind, Facts, Reason, Sensitive, State
from ris.releases.rules import Present

NOW = datetime(2026, 11, 26, tzinfo=UTC)
SENSITIVE = [frozenset(), *(frozenset({one}) for one in Sensitive)]


def basis(kind: BasisKind = BasisKind.CONSENT, **values: object) -> Basis:
    given = {
        "id": 1,
        "uid": "b",
        "kind": kind,
        "station_id": 7,
        "patient_id": 3,
        "order_id": None,
        "via": "written",
        "evidence": "e",
        "covers": frozenset(),
        "starts_at": NOW - timedelta(days=1),
        "ends_at": None,
        "recorded_by": "admin",
        "recorded_at": NOW,
        "withdrawn_at": None,
        "withdrawn_by": "",
        "reason": "",
        "reviewed_at": None,
        "reviewed_by": "",
        "review": "",
    }
    return Basis(**{**given, **values})  # type: ignore[arg-type]


FACTS = Facts(
    report_uid="r",
    revision=5,
    version=2,
    state=State.RELEASED,
    patient_id=3,
    patient_ids=frozenset({3, 4}),
    order_ids=frozenset({11}),
    sensitive=frozenset(),
)
PRESENT = Present(station_id=7, basis=basis(), revision=5, state=State.RELEASED)


def test_without_a_basis_nobody_is_entitled() -> None:
    assert rules.entitled([], FACTS, NOW) == {}


@pytest.mark.parametrize(
    ("changed", "held"),
    [
        ({}, True),
        ({"patient_id": 4}, True),
        ({"patient_id": 5}, False),
        ({"patient_id": None}, False),
        ({"patient_id": None, "order_id": 11}, True),
        ({"patient_id": 3, "order_id": 12}, False),
        ({"starts_at": NOW + timedelta(seconds=1)}, False),
        ({"ends_at": NOW}, False),
        ({"ends_at": NOW + timedelta(seconds=1)}, True),
        ({"withdrawn_at": NOW - timedelta(days=1)}, False),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, dict) else str(value),
)
def test_a_basis_is_about_its_own_patient_or_order_while_it_holds(
    changed: dict[str, object], *, held: bool
) -> None:
    assert rules.covers(basis(**changed), FACTS, NOW) is held


@pytest.mark.parametrize(
    ("kind", "classes", "named"),
    [*product(BasisKind, SENSITIVE, [False, True])],
    ids=lambda value: "+".join(sorted(value)) if isinstance(value, frozenset) else str(value),
)
def test_what_is_sensitive_is_shown_by_who_names_it(
    kind: BasisKind, classes: frozenset[Sensitive], *, named: bool
) -> None:
    held = basis(kind, covers=classes if named else frozenset())
    of_child = classes == {Sensitive.MINOR}
    known = of_child and kind in {BasisKind.REFERRAL, BasisKind.EMERGENCY}

    shown = rules.covers(held, replace(FACTS, sensitive=classes), NOW)

    assert shown is (not classes or named or known)


def test_the_strongest_basis_counts() -> None:
    emergency = basis(BasisKind.EMERGENCY, id=1)
    referral = basis(BasisKind.REFERRAL, id=2)

    assert rules.entitled([emergency, referral], FACTS, NOW) == {7: referral}
    assert rules.rebased([replace(PRESENT, basis=emergency)], [emergency, referral], FACTS, NOW)


STATES = [*State]


@pytest.mark.parametrize(
    ("before", "after", "allowed"), [*product([None, *STATES], STATES, [False, True])]
)
def test_what_is_written_for_each_state_before_and_after(
    before: State | None, after: State, *, allowed: bool
) -> None:
    present = [replace(PRESENT, state=before)] if before else []
    held = [basis()] if allowed else []

    found = rules.changes(present, held, replace(FACTS, state=after), NOW)

    keeps = allowed and after is not State.DELETED
    if keeps and (before is not None or after is State.RELEASED):
        wanted = None if before is after else after
    elif not keeps and before not in {None, State.DELETED}:
        wanted = State.DELETED
    else:
        wanted = None
    assert [one.state for one in found] == ([wanted] if wanted else [])


@pytest.mark.parametrize(
    ("facts", "used", "reason"),
    [
        (replace(FACTS, state=State.DELETED), basis(), Reason.RETRACTED),
        (FACTS, basis(withdrawn_at=NOW), Reason.WITHDRAWN),
        (FACTS, basis(BasisKind.REFERRAL, withdrawn_at=NOW), Reason.ENDED),
        (FACTS, basis(BasisKind.EMERGENCY, ends_at=NOW), Reason.ENDED),
        (replace(FACTS, sensitive=frozenset({Sensitive.HIV})), basis(), Reason.RESTRICTED),
        (replace(FACTS, patient_ids=frozenset({9})), basis(), Reason.MOVED),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_copy_is_deleted_for_a_reason(facts: Facts, used: Basis, reason: Reason) -> None:
    [change] = rules.changes([replace(PRESENT, basis=used)], [used], facts, NOW)

    assert (change.state, change.reason) == (State.DELETED, reason)


@pytest.mark.parametrize(
    ("code", "born", "found"),
    [
        ("", date(1960, 1, 1), set()),
        ("u", None, set()),
        ("HIV", None, {Sensitive.HIV}),
        (" vip ", None, {Sensitive.VIP}),
        ("BÍ MẬT", None, {Sensitive.RESTRICTED}),
        ("", date(2010, 11, 27), {Sensitive.MINOR}),
        ("", date(2010, 11, 26), set()),
        ("PSY", date(2020, 1, 1), {Sensitive.PSYCHIATRIC, Sensitive.MINOR}),
    ],
)
def test_orders_and_ages_tell_what_is_sensitive(
    code: str, born: date | None, found: set[Sensitive]
) -> None:
    assert rules.sensitive_of(code, born, NOW.date()) == found
