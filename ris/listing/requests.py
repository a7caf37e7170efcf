"""Orders by criteria, page by page, with what is a part of them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Select, any_, false, literal, or_, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from ris import orders, patients
from ris.listing import people
from ris.model import Order, OrderState, Patient, RequestedProcedure, ScheduledStep, Visit
from ris.study_tables import AttachmentRow
from ris.tables import OrderRow, PatientRow, ProcedureRow, StepRow
from storage.db import criteria
from storage.db.criteria import Criterion, Instants, Reference, Rule, Rules, Token, Wanted, each
from storage.db.engine import Session

STATUS: Final[Mapping[OrderState, str]] = {
    OrderState.SCHEDULED: "active",
    OrderState.HELD: "on-hold",
    OrderState.IN_PROGRESS: "active",
    OrderState.COMPLETED: "completed",
    OrderState.REPORTED: "completed",
    OrderState.CANCELED: "revoked",
    OrderState.DISCONTINUED: "revoked",
}
"""FHIR R4 ServiceRequest.status."""
DRAFT: Final = "draft"
"""Of an order that something was told of, but that has not come itself."""
PRIORITY: Final[Mapping[str, str]] = {
    "STAT": "stat",
    "HIGH": "urgent",
    "MEDIUM": "asap",
    "ROUTINE": "routine",
    "LOW": "routine",
}
"""Requested Procedure Priority (0040,1003) → FHIR R4 ServiceRequest.priority."""
SCHEME: Final = "code:"
"""Begins a system of codes: what follows is its designator."""
LOCAL: Final = "local"
"""Codes of the hospital, of which no system was told."""
PLACER, FILLER, ACCESSION, REQUISITION = "placer", "filler", "accession", "requisition"
_NUMBERS: Final[Mapping[str, Any]] = {
    PLACER: OrderRow.placer_order_number,
    FILLER: OrderRow.filler_order_number,
    ACCESSION: OrderRow.accession_number,
    REQUISITION: OrderRow.group_number,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An order with everything that is a part of it."""

    order: Order
    patient: Patient
    """Who stands for the patient that it was ordered for."""
    visit: Visit | None
    procedures: tuple[RequestedProcedure, ...]
    steps: tuple[ScheduledStep, ...]
    study_instance_uids: tuple[str, ...]
    """The studies that are attached to it."""


def find(session: Session, wanted: Wanted, *, full: bool = True) -> list[int]:
    """Return the ids of a page of orders."""
    where = criteria.conditions(_rules(full=full), wanted.criteria)
    return criteria.page_ids(session, OrderRow.id, where, wanted)


def count(session: Session, asked: Sequence[Criterion], *, full: bool = True) -> int:
    """Return how many orders match."""
    return criteria.count(session, OrderRow.id, criteria.conditions(_rules(full=full), asked))


def where(criterion: Criterion, *, full: bool = True) -> Select[Any]:
    """Return a subquery of the ids of orders, for what refers to them."""
    return select(OrderRow.id).where(*criteria.conditions(_rules(full=full), [criterion]))


def load(session: Session, ids: Collection[int]) -> dict[int, Request]:
    """Return these orders by id."""
    if not ids:
        return {}
    held = [orders.order_of(row) for row in session.scalars(_among(OrderRow, OrderRow.id, ids))]
    roots = _roots(session, {one.patient_id for one in held})
    known = patients.load(session, set(roots.values()))
    seen = patients.visits(session, {one.visit_id for one in held if one.visit_id})
    procedures, steps = _procedures(session, ids), _steps(session, ids)
    studies = _studies(session, ids)
    return {
        one.id: Request(
            order=one,
            patient=known[roots[one.patient_id]],
            visit=seen.get(one.visit_id) if one.visit_id else None,
            procedures=tuple(procedures.get(one.id, ())),
            steps=tuple(steps.get(one.id, ())),
            study_instance_uids=tuple(studies.get(one.id, ())),
        )
        for one in held
    }


def _among(row: Any, column: Any, ids: Collection[int]) -> Select[Any]:  # noqa: ANN401 - mapped
    return select(row).where(column == any_(literal([*ids], ARRAY(BigInteger)))).order_by(row.id)


def _roots(session: Session, ids: Collection[int]) -> dict[int, int]:
    statement = select(PatientRow.id, PatientRow.root_ref).where(PatientRow.id.in_([*ids]))
    return {row.id: row.root_ref or row.id for row in session.execute(statement)}


def _procedures(session: Session, ids: Collection[int]) -> dict[int, list[RequestedProcedure]]:
    found: dict[int, list[RequestedProcedure]] = {}
    for row in session.scalars(_among(ProcedureRow, ProcedureRow.order_ref, ids)):
        found.setdefault(row.order_ref, []).append(orders.procedure_of(row))
    return found


def _steps(session: Session, ids: Collection[int]) -> dict[int, list[ScheduledStep]]:
    found: dict[int, list[ScheduledStep]] = {}
    for row in session.scalars(_among(StepRow, StepRow.order_ref, ids)):
        found.setdefault(row.order_ref, []).append(orders.step_of(row))
    return found


def _studies(session: Session, ids: Collection[int]) -> dict[int, list[str]]:
    statement = _among(AttachmentRow, AttachmentRow.order_ref, ids)
    found: dict[int, list[str]] = {}
    for row in session.scalars(statement.where(AttachmentRow.detached_at.is_(None))):
        uids = found.setdefault(row.order_ref, [])
        if row.study_instance_uid not in uids:
            uids.append(row.study_instance_uid)
    return found


# What an order is searched by


def link() -> people.Link:
    """Return how orders refer to patients."""
    return people.Link(
        of_roots=lambda roots: criteria.among(OrderRow.patient_ref, people.members(roots)),
        of_archive=lambda _ids: false(),
    )


def _is(wanted: Sequence[Any]) -> ColumnElement[bool]:
    texts = (one.code if isinstance(one, Token) else one.id for one in wanted)
    return criteria.one_of(OrderRow.id, _ids(texts))


def referred(column: Any, wanted: Sequence[Any]) -> ColumnElement[bool]:  # noqa: ANN401 - a column
    """Compare a column of order ids with references."""
    of_kind = (
        one.id
        for one in wanted
        if isinstance(one, Reference) and one.kind in {"", "ServiceRequest"}
    )
    return criteria.one_of(column, _ids(of_kind))


def _ids(texts: Iterable[str]) -> ColumnElement[Any]:
    numbers = (people.number_of(text) for text in texts)
    known = [number for number in numbers if number is not None and number >= 0]
    return literal(known, ARRAY(BigInteger))


def _number(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401 - a criterion's value
    if not isinstance(wanted, Token) or not wanted.code:
        return false()
    if wanted.system is None:
        return or_(*(column == wanted.code for column in _NUMBERS.values()))
    kind, _, issuer = wanted.system.partition(":")
    if kind not in _NUMBERS:
        return false()
    found: ColumnElement[bool] = _NUMBERS[kind] == wanted.code
    if kind == PLACER and issuer:
        found &= OrderRow.placer_issuer == issuer
    if kind == ACCESSION and issuer:
        found &= OrderRow.accession_issuer == issuer
    return found


def _requisition(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    if not isinstance(wanted, Token) or not wanted.code:
        return false()
    return OrderRow.group_number == wanted.code


def _status(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    code = getattr(wanted, "code", "")
    if code == DRAFT:
        return OrderRow.awaited.is_(True)
    states = [state for state, name in STATUS.items() if name == code]
    return OrderRow.state.in_(states) & OrderRow.awaited.is_(False)


def _priority(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    code = getattr(wanted, "code", "")
    return OrderRow.priority.in_([ours for ours, name in PRIORITY.items() if name == code])


def _code(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    if not isinstance(wanted, Token):
        return false()
    asked = [ProcedureRow.code == wanted.code] if wanted.code else []
    if wanted.system is not None:
        scheme = wanted.system.removeprefix(SCHEME)
        asked.append(ProcedureRow.scheme == ("" if scheme == LOCAL else scheme))
    return criteria.among(OrderRow.id, select(ProcedureRow.order_ref).where(*asked))


def _starts(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    if not isinstance(wanted, criteria.Period):
        return false()
    starts = criteria.within(Instants(StepRow.start, local=True), wanted)
    return criteria.among(OrderRow.id, select(StepRow.order_ref).where(starts))


def _intent(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    return literal(getattr(wanted, "code", "") == "order")


def _any_number() -> ColumnElement[bool]:
    return or_(*(column > "" for column in _NUMBERS.values()))


def _rules(*, full: bool) -> Rules:
    of_patient = people.rule(link(), full=full)
    with_code = select(ProcedureRow.order_ref).where(ProcedureRow.code > "")
    with_start = select(StepRow.order_ref).where(StepRow.start.is_not(None))
    return {
        "_id": Rule(_is, true()),
        "identifier": Rule(each(_number), _any_number()),
        "requisition": Rule(each(_requisition), OrderRow.group_number > ""),
        "status": Rule(each(_status), true()),
        "intent": Rule(each(_intent), true()),
        "priority": Rule(each(_priority), OrderRow.priority.in_([*PRIORITY])),
        "code": Rule(each(_code), OrderRow.id.in_(with_code)),
        "authored": criteria.dated(Instants(OrderRow.issued_at, local=True)),
        "occurrence": Rule(each(_starts), OrderRow.id.in_(with_start)),
        "patient": of_patient,
        "subject": of_patient,
        "_lastUpdated": criteria.dated(Instants(OrderRow.changed_at)),
    }


SORTS: Final[Mapping[str, Any]] = {
    "authored": OrderRow.issued_at,
    "_lastUpdated": OrderRow.changed_at,
}


def find_sorted(
    session: Session, asked: Sequence[Criterion], sort: str, limit: int, *, full: bool
) -> list[int]:
    """Return the ids of the orders that match, sorted; ``-`` before the name: latest first.

    Those without the time are left out of a sort by it.
    """
    column = SORTS[sort.removeprefix("-")]
    where = [*criteria.conditions(_rules(full=full), asked), column.is_not(None)]
    order = [column.desc(), OrderRow.id.desc()] if sort.startswith("-") else [column, OrderRow.id]
    return [*session.scalars(select(OrderRow.id).where(*where).order_by(*order).limit(limit))]
