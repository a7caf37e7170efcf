"""Entries of the journal by criteria, page by page; only what stands in the chain."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Text, false, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from storage.audit import journal
from storage.audit.model import CODES, INDICATORS, Event, Kind, Outcome
from storage.audit.tables import EventRow, LinkRow
from storage.db import criteria
from storage.db.criteria import Criterion, Instants, Rule, Rules, Token, Wanted, each
from storage.db.engine import Session

_LONGEST: Final = 18
"""Digits of an id."""


def find(session: Session, wanted: Wanted, links: Rules) -> list[int]:
    """Return the ids of a page of entries; `links` are rules of the floor above."""
    where = criteria.conditions({**_RULES, **links}, wanted.criteria)
    return criteria.page_ids(session, EventRow.id, where, wanted)


def count(session: Session, asked: Sequence[Criterion], links: Rules) -> int:
    """Return how many entries match."""
    where = criteria.conditions({**_RULES, **links}, asked)
    return criteria.count(session, EventRow.id, where)


def load(session: Session, ids: Collection[int]) -> Mapping[int, Event]:
    """Return these entries by id."""
    statement = (
        select(EventRow, LinkRow)
        .join(LinkRow, LinkRow.event_id == EventRow.id)
        .where(criteria.one_of(EventRow.id, literal([*ids], ARRAY(BigInteger))))
    )
    return {row.id: journal.event_of(row, link) for row, link in session.execute(statement)}


def patient() -> Any:  # noqa: ANN401 - a column
    """Return the column of patients, for the rules of the floor above."""
    return EventRow.patient_id


def _is(wanted: Sequence[Any]) -> ColumnElement[bool]:
    texts = [getattr(one, "code", "") for one in wanted]
    ids = [int(one) for one in texts if one.isdecimal() and one.isascii() and len(one) <= _LONGEST]
    return criteria.one_of(EventRow.id, literal(ids, ARRAY(BigInteger)))


def _code(wanted: Any) -> str:  # noqa: ANN401 - a criterion's value
    return wanted.code if isinstance(wanted, Token) else ""


def _of_kinds(kinds: Collection[Kind]) -> ColumnElement[bool]:
    return EventRow.kind.in_([str(one) for one in kinds])


def _type(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    return _of_kinds([kind for kind, coded in CODES.items() if coded.event_id == _code(wanted)])


def _action(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    return _of_kinds([kind for kind, coded in CODES.items() if coded.action == _code(wanted)])


def _subtype(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    return EventRow.kind == _code(wanted)


def _outcome(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    found = [one for one in Outcome if INDICATORS[one] == _code(wanted)]
    return EventRow.outcome.in_([str(one) for one in found])


def _actor(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    return EventRow.actor == _code(wanted)


def _site(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    return EventRow.station == _code(wanted)


def _entity(wanted: Sequence[Any]) -> ColumnElement[bool]:
    def ids(kind: str) -> ColumnElement[Any]:
        named = [one.id for one in wanted if getattr(one, "kind", "") == kind]
        return literal(named, ARRAY(Text))

    return criteria.one_of(EventRow.report_uid, ids("DiagnosticReport")) | criteria.one_of(
        EventRow.study_instance_uid, ids("ImagingStudy")
    )


def _named(wanted: Any) -> ColumnElement[bool]:  # noqa: ANN401
    if not isinstance(wanted, criteria.Words):
        return false()
    return criteria.text_like(EventRow.actor_name, wanted)


_RULES: Final[Rules] = {
    "_id": Rule(_is, true()),
    "date": criteria.dated(Instants(EventRow.recorded_at)),
    "_lastUpdated": criteria.dated(Instants(EventRow.recorded_at)),
    "type": Rule(each(_type), true()),
    "subtype": Rule(each(_subtype), true()),
    "action": Rule(each(_action), true()),
    "outcome": Rule(each(_outcome), true()),
    "altid": Rule(each(_actor), EventRow.actor > ""),
    "agent-name": Rule(each(_named), EventRow.actor_name > ""),
    "site": Rule(each(_site), EventRow.station > ""),
    "entity": Rule(_entity, (EventRow.report_uid > "") | (EventRow.study_instance_uid > "")),
}
