"""Append to the journal, and read it."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, insert, select

from storage.audit import chain
from storage.audit.model import Entry, Event, Kind, Outcome, Search
from storage.audit.tables import EventRow, LinkRow
from storage.base.clock import utc_now
from storage.db.engine import Session

LIMIT: Final = 100
LONGEST: Final = 500
"""Characters of a text that came from outside."""

_EQUAL: Final = ("patient_id", "report_uid", "study_instance_uid", "station", "actor")


def append(session: Session, *entries: Entry) -> None:
    """Write entries; they are in the chain, in this order, once the transaction has committed."""
    append_all(session, entries)


def append_all(session: Session, entries: Iterable[Entry]) -> None:
    """Write many entries in one statement."""
    now = utc_now()
    if rows := [_values(one, now) for one in entries]:
        session.execute(insert(EventRow), rows)


def find(
    session: Session, search: Search, *, limit: int = LIMIT, before: int | None = None
) -> Sequence[Event]:
    """Return the newest `limit` entries; `before` is the id of the last one that was seen."""
    wanted = [*_conditions(search)]
    if before is not None:
        wanted.append(EventRow.id < before)
    statement = (
        select(EventRow, LinkRow)
        .join(LinkRow, LinkRow.event_id == EventRow.id)
        .where(*wanted)
        .order_by(EventRow.id.desc())
        .limit(limit)
    )
    return [event_of(row, link) for row, link in session.execute(statement)]


def _conditions(search: Search) -> Iterable[ColumnElement[bool]]:
    for name in _EQUAL:
        if value := getattr(search, name):
            yield getattr(EventRow, name) == value
    if search.kinds:
        yield EventRow.kind.in_(search.kinds)
    if search.outcomes:
        yield EventRow.outcome.in_(search.outcomes)
    if search.since is not None:
        yield EventRow.recorded_at >= search.since
    if search.until is not None:
        yield EventRow.recorded_at < search.until


def _values(entry: Entry, now: datetime) -> dict[str, Any]:
    given = {
        name: value[:LONGEST].replace("\0", "") if isinstance(value, str) else value
        for name, value in asdict(entry).items()
    }
    values = {**given, "kind": str(entry.kind), "outcome": str(entry.outcome), "recorded_at": now}
    return {**values, "content_sha256": chain.content_sha256(values)}


def event_of(row: EventRow, link: LinkRow) -> Event:
    """Return an entry with its place in the chain."""
    plain = {one.name: getattr(row, one.name) for one in fields(Entry)}
    return Event(
        **{**plain, "kind": Kind(row.kind), "outcome": Outcome(row.outcome)},
        id=row.id,
        recorded_at=row.recorded_at,
        position=link.position,
        digest=link.digest.hex(),
    )
