"""Who of which station calls, and the journal of what was done: no look without an entry.

with visit.doing(Kind.VIEW, report_uid=…) as doing:     one transaction
… doing.session …                                   success: the entry is in it
refusal: it is in one of its own
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Annotated, Any
from uuid import uuid4

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from ris.reports.faults import Faulty, Words
from ris.stations import limits
from ris.stations.faults import Exhausted, Missing, NotAllowed, fault
from storage.access import station_sessions
from storage.access.station_sessions import NotAdmitted, Visitor
from storage.audit import journal
from storage.audit.model import Entry, Kind, Outcome
from storage.base.errors import ImagingError, NotPermitted, Unavailable
from storage.db.engine import Session, transaction
from viewer_api import deps
from viewer_api.deps import Parts
from viewer_api.problems import Unauthenticated

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Doing:
    """One thing that a station does, while it is done."""

    session: Session
    entry: Entry
    """What will be written of it; `outcome` and the rest may be told later."""
    beside: list[Entry] = field(default_factory=list)
    """Entries for what was named with it."""

    def tell(self, **facts: Any) -> None:  # noqa: ANN401 - columns of an entry
        """Say more of it."""
        self.entry = replace(self.entry, **facts)

    def also(self, **facts: Any) -> None:  # noqa: ANN401
        """Write a further entry, alike but for these facts."""
        self.beside.append(replace(self.entry, **facts))


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of a station."""

    parts: Parts
    visitor: Visitor
    address: str
    request_id: str

    @property
    def station_id(self) -> int:
        """Whose scope it is."""
        return self.visitor.station.id

    @contextmanager
    def doing(self, kind: Kind, **facts: Any) -> Iterator[Doing]:  # noqa: ANN401
        """Do something in one transaction, and write down how it ended.

        Raises
        ------
        StoreUnavailable
            It could not be written down: then it was not done.
        """
        entry = self.entry(kind, **facts)
        doing = None
        try:
            with transaction(self.parts.engine) as session:
                doing = Doing(session, entry)
                yield doing
                journal.append(session, doing.entry, *doing.beside)
        except ImagingError as error:
            self._refused(doing.entry if doing else entry, error)
            raise

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Read what tells of no patient: nothing is written down."""
        with transaction(self.parts.engine) as session:
            yield session

    def spend(self, what: Words, most: int) -> None:
        """Count one of what is limited, whatever becomes of it.

        Raises
        ------
        Exhausted
            It is one more than `most` today.
        """
        with transaction(self.parts.engine) as session:
            limits.spend(session, self.station_id, self.parts.settings.zone, what, most)

    def require_person(self) -> None:
        """Raise `NotAllowed` unless a named person stands behind the request.

        The bearer of a token that an administrator issued counts as the person it was issued to.
        """
        if self.visitor.person is None and not self.visitor.device.startswith("token:"):
            raise NotAllowed(fault("needs_person"))

    def entry(self, kind: Kind, **facts: Any) -> Entry:  # noqa: ANN401
        """Return an entry of this visit."""
        person = self.visitor.person
        return Entry(
            kind=kind,
            actor=self.visitor.actor,
            actor_name=person.full_name if person else self.visitor.device_name,
            role=str(person.role) if person else "device",
            licence=person.licence if person else "",
            station=self.visitor.station.code,
            device=self.visitor.device,
            address=self.address,
            request_id=self.request_id,
            **facts,
        )

    def _refused(self, entry: Entry, error: ImagingError) -> None:
        why = error.faults[0].code if isinstance(error, Faulty) else type(error).__name__
        outcome = Outcome.FAILED if isinstance(error, Unavailable) else Outcome.REFUSED
        told = replace(entry, outcome=outcome, details={**entry.details, "why": why})
        zone = self.parts.settings.zone
        with transaction(self.parts.engine) as session:
            if isinstance(error, Missing):
                limits.note_foreign(session, self.station_id, zone)
            if isinstance(error, Exhausted):
                limits.note_exhausted(session, self.station_id, zone, error)
            journal.append(session, told)
        log.warning("station_refused", extra={"request_id": self.request_id, "reason": why})


async def _visit(request: Request) -> Visit:
    return await run_in_threadpool(authenticated, request)


def authenticated(request: Request) -> Visit:
    """Return the visit of a request.

    Raises
    ------
    Unauthenticated
        It carries no token that is valid.
    NotAdmitted
        Its bearer is no station that may come in.
    """
    known = deps.parts(request)
    header = request.headers.get("authorization")
    if header is None:
        raise Unauthenticated("send a token: Authorization: Bearer TOKEN")
    secret = deps.bearer(header)
    try:
        with transaction(known.engine) as session:
            visitor = station_sessions.authenticate(session, secret)
    except NotAdmitted:
        raise
    except NotPermitted as error:
        raise Unauthenticated(str(error)) from error
    return Visit(known, visitor, deps.address_of(request), uuid4().hex)


Here = Annotated[Visit, Depends(_visit)]
"""The visit of a route: the station is known and may come in, or the request fails."""
