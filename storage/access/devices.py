"""The devices of a station: each signs with a key of its own, and can be shut out at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import uuid4

from sqlalchemy import select

from storage.access import assertions, stations
from storage.access.station_tables import DeviceRow
from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotFound
from storage.db.engine import Session

NAME_MAX: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device of a station."""

    uid: str
    station_id: int
    name: str
    public_key: str
    created_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


def add(session: Session, code: str, name: str, public_key: str) -> Device:
    """Register a device by its public key in PEM.

    Raises
    ------
    NotFound
        There is no such station.
    Malformed
        It is no key that we take, or the name is none.
    """
    if not 0 < len(name.strip()) <= NAME_MAX or not name.isprintable():
        raise Malformed(f"a device has a name of at most {NAME_MAX} characters")
    row = DeviceRow(
        uid=uuid4().hex,
        station_ref=stations.find(session, code).id,
        name=name.strip(),
        public_key=assertions.pem_of(assertions.public_key(public_key)),
        created_at=utc_now(),
    )
    session.add(row)
    session.flush()
    return _device(row)


def revoke(session: Session, uid: str) -> Device:
    """Shut a device out, at once.

    Raises
    ------
    NotFound
        There is no such device.
    """
    row = session.scalar(select(DeviceRow).where(DeviceRow.uid == uid.replace("\0", "")))
    if row is None:
        raise NotFound(f"there is no device {uid[:33]!r}")
    row.revoked_at = row.revoked_at or utc_now()
    session.flush()
    return _device(row)


def of_station(session: Session, station_id: int) -> Sequence[Device]:
    """Return the devices of a station, oldest first, revoked ones too."""
    statement = select(DeviceRow).where(DeviceRow.station_ref == station_id).order_by(DeviceRow.id)
    return [_device(row) for row in session.scalars(statement)]


def _device(row: DeviceRow) -> Device:
    return Device(
        uid=row.uid,
        station_id=row.station_ref,
        name=row.name,
        public_key=row.public_key,
        created_at=row.created_at,
        used_at=row.used_at,
        revoked_at=row.revoked_at,
    )
