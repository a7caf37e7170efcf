"""The chain: what an entry's digest vouches for, and whether all of them hold.

    content = SHA-256 of the entry as canonical JSON (RFC 8785 for what occurs here)
    digest  = SHA-256 of ( digest before ‖ id, 8 bytes big-endian ‖ content )

Migration 0021 computes the digest in the database, where the entry before is known.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC
from typing import Any, Final

from sqlalchemy import func, select

from storage.audit.model import Entry, Head
from storage.audit.tables import EventRow, LinkRow
from storage.db.engine import Session

START: Final = bytes(32)
"""The digest before the first entry."""
_COLUMNS: Final = ("recorded_at", *(one.name for one in fields(Entry)))
_BATCH: Final = 2000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at the whole chain found."""

    entries: int
    """That hold, from the first on."""
    head: Head
    """Of the part that holds."""
    fault: str = ""
    """What is wrong with the next one; '' nothing is."""


def content_sha256(values: Mapping[str, Any]) -> bytes:
    """Return the hash of an entry's columns."""
    plain = {name: values[name] for name in _COLUMNS}
    plain["recorded_at"] = plain["recorded_at"].astimezone(UTC).isoformat(timespec="microseconds")
    text = json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def digest(before: bytes, event_id: int, content: bytes) -> bytes:
    """Return the digest of an entry that stands after the one with the digest `before`."""
    return hashlib.sha256(before + event_id.to_bytes(8) + content).digest()


def head(session: Session) -> Head:
    """Return the end of the chain; position 0 of one that is empty."""
    statement = select(LinkRow.position, LinkRow.digest).order_by(LinkRow.position.desc()).limit(1)
    found = session.execute(statement).one_or_none()
    return Head(found[0], found[1].hex()) if found else Head(0, START.hex())


def verify(session: Session, known: Head | None = None) -> Verdict:
    """Look at every entry, oldest first, and stop at the first that does not hold.

    Parameters
    ----------
    known
        An end of the chain that was noted some time ago: it has to be in it still.
    """
    before, position = START, 0
    for row, link in _rows(session):
        position += 1
        fault = _fault(row, link, before, position) or _contradiction(link, known)
        if fault:
            return Verdict(position - 1, Head(position - 1, before.hex()), fault)
        before = link.digest
    return Verdict(position, Head(position, before.hex()), _at_the_end(session, position, known))


def _rows(session: Session) -> Iterator[tuple[EventRow | None, LinkRow]]:
    last = 0
    while True:
        statement = (
            select(EventRow, LinkRow)
            .select_from(LinkRow)
            .outerjoin(EventRow, EventRow.id == LinkRow.event_id)
            .where(LinkRow.position > last)
            .order_by(LinkRow.position)
            .limit(_BATCH)
        )
        found = session.execute(statement).all()
        if not found:
            return
        for row, link in found:
            yield row, link
            last = link.position
        session.expunge_all()


def _fault(row: EventRow | None, link: LinkRow, before: bytes, position: int) -> str:
    if link.position != position:
        return f"entry {position} is missing"
    if row is None:
        return f"the content of entry {position} is missing"
    content = content_sha256({name: getattr(row, name) for name in _COLUMNS})
    if content != row.content_sha256:
        return f"entry {position} was changed"
    if digest(before, row.id, content) != link.digest:
        return f"entry {position} does not follow the one before it"
    return ""


def _contradiction(link: LinkRow, known: Head | None) -> str:
    if known is None or link.position != known.position or link.digest.hex() == known.digest:
        return ""
    return f"entry {known.position} is not the one that was noted"


def _at_the_end(session: Session, position: int, known: Head | None) -> str:
    if known is not None and known.position > position:
        return f"the chain ends at {position}; {known.position} entries were noted"
    linked = select(LinkRow.event_id).where(LinkRow.event_id == EventRow.id).exists()
    loose = session.scalar(select(func.count()).select_from(EventRow).where(~linked)) or 0
    return f"{loose} entries stand outside the chain" if loose else ""
