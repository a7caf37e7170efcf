"""The DICOM application entities that we know: who may call, and where to call back."""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
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
TEXT_LENGTHS: Final = range(8, 65)


class TextProfile(StrEnum):
    """The letters that a peer can show."""

    UTF8 = "utf8"
    """All of them; in the character set of its query where that has them, else ISO_IR 192."""
    FOLD_ASCII = "fold-ascii"
    """Without accents, and no character set declared."""
    LATIN1 = "latin1"
    """ISO_IR 100; a value that does not fit loses its accents."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One remote application entity and its address."""

    ae_title: str
    host: str
    port: int
    description: str = ""
    text_profile: TextProfile = TextProfile.UTF8
    text_length: int | None = None
    """Longest name or description that it can show; None: as long as the VR allows."""
    every_station: bool = False
    """Asked for no station, its worklist has the steps of every station, not only its own."""


def add(session: Session, peer: Peer) -> None:
    """Register `peer`, or change the one of that AE title.

    Raises
    ------
    Malformed
        The AE title, the host, the port or the text length cannot be one.
    """
    known = asdict(_checked(peer))
    statement = insert(PeerRow).values(created_at=utc_now(), **known)
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
    if peer.text_length is not None and peer.text_length not in TEXT_LENGTHS:
        raise Malformed(f"{peer.text_length} is not a text length: 8 to 64")
    return replace(
        peer,
        ae_title=values.ae_title(peer.ae_title),
        host=host,
        description=peer.description.replace("\0", ""),
        text_profile=TextProfile(peer.text_profile),
    )


def _peer(row: PeerRow) -> Peer:
    return Peer(
        row.ae_title,
        row.host,
        row.port,
        row.description,
        TextProfile(row.text_profile),
        row.text_length,
        row.every_station,
    )
