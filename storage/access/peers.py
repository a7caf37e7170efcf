"""The DICOM application entities that we know: who may call, and where to call back."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from storage.access.tables import PeerRow
from storage.base import values
from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotFound
from storage.db.engine import Session

HOST_MAX: Final = 253
PORTS: Final = range(1, 65536)


@dataclass(frozen=True, slots=True)
class Peer:
    """One remote application entity and its address."""

    ae_title: str
    host: str
    port: int
    description: str = ""


def add(session: Session, peer: Peer) -> None:
    """Register `peer`, or change the one of that AE title.

    Raises
    ------
    Malformed
        The AE title, the host or the port cannot be one.
    """
    checked = _checked(peer)
    known = {"host": checked.host, "port": checked.port, "description": checked.description}
    statement = insert(PeerRow).values(ae_title=checked.ae_title, created_at=utc_now(), **known)
    session.execute(statement.on_conflict_do_update(index_elements=["ae_title"], set_=known))


def get(session: Session, ae_title: str) -> Peer:
    """Return the peer of that AE title.

    Raises
    ------
    NotFound
        Nobody registered it.
    """
    row = session.get(PeerRow, _title(ae_title))
    if row is None:
        raise NotFound(f"no peer has the AE title {ae_title!r}")
    return _peer(row)


def remove(session: Session, ae_title: str) -> None:
    """Forget the peer of that AE title.

    Raises
    ------
    NotFound
        Nobody registered it.
    """
    gone = delete(PeerRow).where(PeerRow.ae_title == _title(ae_title)).returning(PeerRow.ae_title)
    if session.scalar(gone) is None:
        raise NotFound(f"no peer has the AE title {ae_title!r}")


def list_all(session: Session) -> list[Peer]:
    """Return every peer, ordered by AE title."""
    return [_peer(row) for row in session.scalars(select(PeerRow).order_by(PeerRow.ae_title))]


def _title(ae_title: str) -> str:
    return ae_title.strip(values.PADDING).replace("\0", "")


def _checked(peer: Peer) -> Peer:
    host = peer.host.strip()
    if not 0 < len(host) <= HOST_MAX or not host.isprintable() or any(map(str.isspace, host)):
        raise Malformed(f"{peer.host[:HOST_MAX]!r} is not a host name or address")
    if peer.port not in PORTS:
        raise Malformed(f"{peer.port} is not a port: 1 to 65535")
    return Peer(values.ae_title(peer.ae_title), host, peer.port, peer.description.replace("\0", ""))


def _peer(row: PeerRow) -> Peer:
    return Peer(row.ae_title, row.host, row.port, row.description)
