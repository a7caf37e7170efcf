"""New orders placed many at once: those that meet nothing, in a handful of statements for all.

    hold     what `ordering.apply` would wait for, as far as it is free
    look     who is known, and what is there that an order would meet
    write    all rows of all orders in one statement

An order is placed here when it is new, of a new patient or of one of whom it tells nothing new,
and when nobody has to be told of it. All others are left to `ordering.apply`, one by one: what
becomes of an order is decided there, and both make its rows by the same functions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

from ris import (
    archive_patients,
    contents,
    identity,
    ordering,
    orders,
    registration,
    telling,
    visits,
)
from ris.model import VisitStatus
from ris.outbox import OrderEventRow
from ris.requests import Applied, Context, Identifier, OrderRequest, PatientRequest, VisitRequest
from ris.tables import (
    IdentifierRow,
    OrderRow,
    PatientChangeRow,
    PatientRow,
    ProcedureRow,
    StepRow,
    VisitRow,
)
from ris.transitions import Effect
from storage.archive import corrections
from storage.base.errors import Malformed
from storage.db import together
from storage.db.columns import Base
from storage.db.engine import Session
from storage.db.together import Answer, Question

_KINDS: Final = (
    PatientRow,
    IdentifierRow,
    PatientChangeRow,
    VisitRow,
    OrderRow,
    ProcedureRow,
    StepRow,
    OrderEventRow,
)
"""Those first that others refer to."""
_MOST: Final = 8
"""Steps of one order, and further numbers of one patient."""

# Scalar subqueries, since the planner may answer EXISTS by reading a whole table once.
_LOOK: Final = """
SELECT x.n,
    (SELECT true FROM ris_patient_identifiers i
        WHERE i.identifies AND i.issuer_key = x.issuer AND i.loose_key = x.loose
        LIMIT 1) IS NOT NULL AS is_alike,
    (SELECT true FROM ris_patient_identifiers i
        WHERE i.value_key = ANY(x.others) LIMIT 1) IS NOT NULL AS shares,
    x.placer > '' AND (SELECT true FROM orders o
        WHERE o.placer_order_number = x.placer AND o.sender = x.sender LIMIT 1) IS NOT NULL
    OR x.filler > '' AND (SELECT true FROM orders o
        WHERE o.filler_order_number = x.filler AND o.sender = x.sender LIMIT 1) IS NOT NULL
    OR x.placer > '' AND (SELECT true FROM appointments a
        WHERE a.order_ref IS NULL AND a.sender = x.sender
        AND a.placer_order_numbers @> ARRAY[x.placer] LIMIT 1) IS NOT NULL
    OR x.filler > '' AND (SELECT true FROM appointments a
        WHERE a.order_ref IS NULL AND a.sender = x.sender
        AND a.filler_order_numbers @> ARRAY[x.filler] LIMIT 1) IS NOT NULL
    OR x.study > '' AND (SELECT true FROM requested_procedures p
        WHERE p.study_instance_uid = x.study LIMIT 1) IS NOT NULL AS is_met,
    nextval(pg_get_serial_sequence('ris_patients', 'id')) AS new_patient,
    nextval(pg_get_serial_sequence('visits', 'id')) AS new_visit,
    ARRAY[
        nextval('ris_order_numbers'),
        nextval(pg_get_serial_sequence('orders', 'id')),
        nextval(pg_get_serial_sequence('requested_procedures', 'id'))
    ] || ARRAY(SELECT nextval(pg_get_serial_sequence('scheduled_steps', 'id'))
        FROM generate_series(1, x.steps)) AS numbers
FROM json_to_recordset(%s::json) AS x(n int, sender text, issuer text, loose text,
    others text[], placer text, filler text, study text, steps int)
"""
_PERSONS: Final = f"""
SELECT x.n, p.id, p.sent_at, p.sent_by, {", ".join(f"p.{name}" for name in telling.BLANK)},
    p.merged_into IS NOT NULL
    OR (SELECT true FROM ris_patients c WHERE c.merged_into = p.id
        LIMIT 1) IS NOT NULL AS is_merged,
    ARRAY(SELECT i.value_key || E'\\n' || i.kind FROM ris_patient_identifiers i
        WHERE i.patient_ref = p.id AND x.others > 0) AS others,
    v.id AS visit, {", ".join(f"v.{name} AS visit_{name}" for name in visits.CONFIRMED)}
FROM json_to_recordset(%s::json)
    AS x(n int, sender text, issuer text, value text, number text, others int)
JOIN ris_patient_identifiers i ON i.identifies AND i.value_key = x.value AND i.issuer_key = x.issuer
    AND NOT i.retired
JOIN ris_patients p ON p.id = i.patient_ref
LEFT JOIN LATERAL (
    SELECT * FROM visits v WHERE v.patient_ref = p.id AND v.sender = x.sender
    AND CASE WHEN x.number > '' THEN v.admission_id = x.number
        ELSE v.status NOT IN ('{VisitStatus.DISCHARGED}', '{VisitStatus.CANCELED}') END
    ORDER BY v.id DESC LIMIT 1
) v ON true
FOR UPDATE OF p SKIP LOCKED
"""  # noqa: S608 - names of ours
_CONFIRM: Final = """
WITH told AS (
    UPDATE ris_patients p SET sent_at = COALESCE(x.sent_at, p.sent_at), sent_by = x.sender
    FROM json_to_recordset(%s::json) AS x(id bigint, sent_at timestamp, sender text)
    WHERE p.id = x.id
)
UPDATE visits v SET sent_at = x.sent_at
FROM json_to_recordset(%s::json) AS x(id bigint, sent_at timestamp)
WHERE v.id = x.id AND x.sent_at IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """One order that a message asks for."""

    context: Context
    patient: PatientRequest
    visit: VisitRequest
    order: OrderRequest
    holds: Sequence[str] = ()
    """Names of what else must be held; no two that are placed at once may share one."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What became of orders that were asked for."""

    done: Sequence[Applied | None]
    """None for each that is left to `ordering.apply`."""
    writes: Sequence[Question] = ()
    """How the others are written: for the caller to send in the same transaction."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """An order that may be placed, and what it has to be the only one with."""

    number: int
    """Which of those that are asked for."""
    asked: Asked
    keys: identity.Keys
    others: Mapping[tuple[str, str], Identifier]
    """Further numbers of the patient, by key and kind."""
    names: frozenset[str]

    def looks(self) -> dict[str, object]:
        """Return what is looked for."""
        order = self.asked.order
        return {
            "n": self.number,
            "sender": self.asked.context.sender,
            "issuer": self.keys.issuer,
            "value": self.keys.value,
            "loose": self.keys.loose,
            "others": [key for key, _ in self.others],
            "placer": order.placer_order_number,
            "filler": order.filler_order_number,
            "study": order.study_instance_uid,
            "steps": max(len(order.steps), 1),
        }

    def meets(self) -> dict[str, object]:
        """Return how its patient and the visit are found, if they are known."""
        return {
            "n": self.number,
            "sender": self.asked.context.sender,
            "issuer": self.keys.issuer,
            "value": self.keys.value,
            "number": visits.number_of(self.asked.visit),
            "others": len(self.others),
        }


class _Found(Protocol):
    """A row of `_LOOK`."""

    n: int
    is_alike: bool
    shares: bool
    is_met: bool
    new_patient: int
    new_visit: int
    numbers: Sequence[int]


class _Person(Protocol):
    """A row of `_PERSONS`; it has the demographics of a `PatientRow`, too."""

    n: int
    id: int
    is_merged: bool
    others: Sequence[str]
    visit: int | None


class _Rows:
    """What is to be written."""

    def __init__(self) -> None:
        self.new: dict[type[Base], list[Base]] = {kind: [] for kind in _KINDS}
        self.told: list[Mapping[str, object]] = []
        """Patients who were told of once more."""
        self.visited: list[Mapping[str, object]] = []
        """And their visits."""

    def put(self, *rows: Base | None) -> None:
        """Add new rows."""
        for row in rows:
            if row is not None:
                self.new[type(row)].append(row)

    def confirm(self, person: _Person, context: Context) -> None:
        """Note who told of a patient last, and when."""
        facts = {"sent_at": context.sent_at, "sender": context.sender}
        self.told.append({"id": person.id, **facts})
        if person.visit is not None:
            self.visited.append({"id": person.visit, **facts})

    def writes(self) -> Sequence[Question]:
        """Return how all of it is written."""
        new = together.pouring(self.new)
        if not self.told:
            return [new]
        given = together.as_json(self.told), together.as_json(self.visited)
        return [new, Question(_CONFIRM, given)]


def place(session: Session, asked: Sequence[Asked]) -> Placed:
    """Draw up the orders that meet nothing; the others are left to `ordering.apply`.

    Waits for nobody: what somebody else works on just now is left, too.
    """
    done: list[Applied | None] = [None] * len(asked)
    plans = _apart(filter(None, (_plan(number, one) for number, one in enumerate(asked))))
    if not plans:
        return Placed(done)
    held, looked, met, seen = together.ask(
        session,
        registration.holding({name for plan in plans for name in plan.names}),
        Question(_LOOK, [together.as_json([plan.looks() for plan in plans])]),
        Question(_PERSONS, [together.as_json([plan.meets() for plan in plans])]),
        corrections.naming([_number(plan) for plan in plans]),
    )
    found: dict[int, _Found] = {row.n: row for row in looked.rows}
    known: dict[int, _Person] = {row.n: row for row in met.rows}
    rows = _Rows()
    for plan in plans:
        there, person = found[plan.number], known.get(plan.number)
        if there.is_met or not registration.is_held(held, plan.names):
            continue
        if person is None and (there.is_alike or there.shares or _has_images(session, plan, seen)):
            continue
        if person is None or _is_confirmed(plan, person):
            done[plan.number] = _draw(plan, there, person, rows)
    return Placed(done, rows.writes() if any(done) else ())


# What may be placed


def _plan(number: int, asked: Asked) -> _Plan | None:
    """Return what has to be looked at for an order, None for one that cannot be placed here."""
    order, context = asked.order, asked.context
    longest = max(len(order.placer_order_number), len(order.filler_order_number))
    if (
        order.control not in ordering.NEW
        or longest > orders.LONGEST_NUMBER
        or max(len(order.steps), len(asked.patient.other_identifiers)) > _MOST
    ):
        return None
    others: dict[tuple[str, str], Identifier] = {}
    try:
        keys = identity.keys_of(asked.patient.identifier, context.sender)
        for one in asked.patient.other_identifiers:
            others.setdefault((identity.keys_of(one, context.sender).value, one.kind), one)
    except Malformed:
        return None
    names = (
        *asked.holds,
        registration.name(keys),
        ordering.name(context, order),
        archive_patients.name(keys.value),
    )
    return _Plan(number, asked, keys, others, frozenset(names))


def _apart(plans: Iterable[_Plan]) -> list[_Plan]:
    """Return those that have nothing in common with one before them."""
    taken: set[object] = set()
    apart = []
    for plan in plans:
        order = plan.asked.order
        own = {
            *plan.names,
            ("loosely", plan.keys.issuer, plan.keys.loose),
            ("number", plan.keys.value),
            *(("number", key) for key, _ in plan.others),
            *(
                (kind, number)
                for kind, number in (
                    ("placer", order.placer_order_number),
                    ("filler", order.filler_order_number),
                    ("study", order.study_instance_uid),
                )
                if number
            ),
        }
        if taken.isdisjoint(own):
            apart.append(plan)
        taken |= own
    return apart


def _has_images(session: Session, plan: _Plan, seen: Answer) -> bool:
    """Return whether the archive may hold images of a new patient; `seen`: of any of them."""
    return bool(seen.rows and corrections.named(session, [_number(plan)]))


def _number(plan: _Plan) -> str:
    return plan.asked.patient.identifier.value.strip()


def _is_confirmed(plan: _Plan, row: _Person) -> bool:
    context, patient, visit = plan.asked.context, plan.asked.patient, plan.asked.visit
    if row.is_merged or not telling.confirms(context, cast("PatientRow", row), patient):
        return False
    if not {f"{key}\n{kind}" for key, kind in plan.others} <= {*row.others}:
        return False
    held = {name: getattr(row, f"visit_{name}") for name in visits.CONFIRMED}
    return row.visit is None or visits.confirms(held, context, visit)


# Its rows


def _draw(plan: _Plan, found: _Found, person: _Person | None, rows: _Rows) -> Applied | None:
    """Add the rows of one order; None where somebody has to be told of it."""
    context, order = plan.asked.context, plan.asked.order
    patient_id = found.new_patient if person is None else person.id
    drawn = contents.draw_with(found.numbers, context, patient_id, order)
    visit_id, visit = person.visit if person else None, None
    if visit_id is None:
        visit = visits.introduced(context, found.new_visit, patient_id, plan.asked.visit)
        visit_id = visit.id if visit else None
    event = ordering.complete(drawn, context, order, visit_id, Effect.CREATE)
    if ordering.is_unschedulable(drawn.steps):
        return None
    if person is None:
        _introduce(plan, patient_id, rows)
    else:
        rows.confirm(person, context)
    rows.put(visit, drawn.order, drawn.procedure, *drawn.steps, event)
    return ordering.answered(drawn.order, order, Effect.CREATE)


def _introduce(plan: _Plan, patient_id: int, rows: _Rows) -> None:
    """Add the rows of a new patient."""
    context, asked = plan.asked.context, plan.asked.patient
    patient, changes = telling.introduced(context, patient_id, asked)
    numbers = [
        registration.identifier_row(context, patient_id, asked.identifier, identifies=True),
        *(
            registration.identifier_row(
                context, patient_id, one, identifies=False, at=registration.LAST
            )
            for key, one in plan.others.items()
            if key != (plan.keys.value, asked.identifier.kind)
        ),
    ]
    rows.put(patient, *numbers, *changes)
