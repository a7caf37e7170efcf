"""The systems that send to us, each with its profile; the registered ones are rows."""

import ipaddress
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from ris.hl7 import profile
from ris.hl7.message import Message
from ris.hl7.profile import Profile
from ris.hl7.tables import SenderRow
from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotFound, NotPermitted, StoreUnavailable
from storage.base.settings import UnknownPeers
from storage.db.engine import Engine, Session, transaction

FRESH_S: Final = 2.0
"""A change of a sender is seen after at most so long."""
UNKNOWN: Final = "unknown"


@dataclass(frozen=True, slots=True)
class Sender:
    """One system; empty `application`, `facility` or `addresses` mean: any."""

    name: str
    profile: str = profile.GENERIC
    application: str = ""
    facility: str = ""
    addresses: Sequence[str] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)


def add(session: Session, sender: Sender) -> None:
    """Register a sender, or change the one of that name.

    Raises
    ------
    NotFound
        There is no such profile.
    Malformed
        A network or a change of the profile cannot be read.
    """
    effective(sender)
    for network in sender.addresses:
        _network(network)
    if not sender.name.strip() or sender.name == UNKNOWN:
        raise Malformed(f"{sender.name!r} is no name for a sender")
    known = {
        "application": sender.application,
        "facility": sender.facility,
        "addresses": list(sender.addresses),
        "profile": sender.profile,
        "changes": dict(sender.changes),
    }
    statement = insert(SenderRow).values(name=sender.name, created_at=utc_now(), **known)
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_=known))


def remove(session: Session, name: str) -> None:
    """Forget a sender; raise `NotFound` when there is none of that name."""
    gone = delete(SenderRow).where(SenderRow.name == name).returning(SenderRow.name)
    if session.scalar(gone) is None:
        raise NotFound(f"no sender is called {name!r}")


def list_all(session: Session) -> list[Sender]:
    """Return every sender by name."""
    rows = session.scalars(select(SenderRow).order_by(SenderRow.name))
    return [
        Sender(row.name, row.profile, row.application, row.facility, row.addresses, row.changes)
        for row in rows
    ]


def effective(sender: Sender) -> Profile:
    """Return the profile of a sender, under the sender's name.

    Raises
    ------
    NotFound, Malformed
        The profile does not exist, or a change of it cannot be read.
    """
    return profile.changed(profile.named(sender.profile), {**sender.changes, "name": sender.name})


class SenderBook:
    """Finds the sender of a message; used by many threads, read anew every few seconds."""

    def __init__(self, engine: Engine, unknown: UnknownPeers) -> None:
        self._engine = engine
        self._unknown = unknown
        self._lock = threading.Lock()
        self._known: list[tuple[Sender, Profile]] | None = None
        self._read_at_s = -FRESH_S

    def find(self, message: Message, address: str) -> Profile:
        """Return the profile of who sent `message`.

        Raises
        ------
        NotPermitted
            Nobody registered the sender, or not at this address.
        StoreUnavailable
            The database is away and was never read before.
        """
        application, facility = message.header.value(3, 1), message.header.value(4, 1)
        known = self._senders()
        fitting = [
            (sender, found)
            for sender, found in known
            if sender.application in ("", application)
            and sender.facility in ("", facility)
            and _allows(sender, address)
        ]
        if fitting:
            return max(fitting, key=lambda one: _closeness(one[0]))[1]
        if self._takes_unknown(address):
            return _GENERIC_UNKNOWN
        raise NotPermitted("MSH-3: this sender is not registered here")

    def _takes_unknown(self, address: str) -> bool:
        if self._unknown is UnknownPeers.LOOPBACK:
            return not address or ((found := _address(address)) is not None and found.is_loopback)
        return self._unknown is UnknownPeers.ACCEPT

    def _senders(self) -> list[tuple[Sender, Profile]]:
        with self._lock:
            if self._known is None or time.monotonic() - self._read_at_s >= FRESH_S:
                self._refresh()
            return self._known or []

    def _refresh(self) -> None:
        try:
            with transaction(self._engine) as session:
                self._known = [(one, effective(one)) for one in list_all(session)]
        except StoreUnavailable:
            if self._known is None:
                raise
        self._read_at_s = time.monotonic()


_GENERIC_UNKNOWN: Final = profile.changed(profile.named(profile.GENERIC), {"name": UNKNOWN})


def _closeness(sender: Sender) -> tuple[bool, bool, bool]:
    return bool(sender.application), bool(sender.facility), bool(sender.addresses)


def _allows(sender: Sender, address: str) -> bool:
    if not sender.addresses or not address:
        return True
    asked = _address(address)
    return asked is not None and any(asked in _network(one) for one in sender.addresses)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address, None for the name of something that has none."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise Malformed(f"{text!r} is no network address") from error
