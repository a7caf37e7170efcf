"""What people at the hospital do with reports, written into the journal of who saw what."""

from typing import Any

from fastapi import Request

from storage.audit import journal
from storage.audit.model import Entry, Kind
from storage.db.engine import Session
from viewer_api import deps


def actor(request: Request) -> str:
    """Return who calls, as the journal has it."""
    caller = deps.caller_of(request)
    return caller.user or f"token:{caller.prefix}"


def note(request: Request, session: Session, kind: Kind, *several: dict[str, Any]) -> None:
    """Write an entry for each of `several`, in the transaction of what it tells of."""
    caller = deps.caller_of(request)
    entries = [
        Entry(
            kind=kind,
            actor=actor(request),
            actor_name=caller.label,
            role=caller.role,
            address=deps.address_of(request),
            **facts,
        )
        for facts in several
    ]
    journal.append_all(session, entries)
