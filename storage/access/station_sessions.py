"""Who of a station calls: a device and perhaps a person with a short token, or an issued token.

    assertion of the device [+ person's passwords] ─▶ token of 15 minutes ─▶ each request

Every request asks the database, so what is revoked is shut out at once.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from storage.access import assertions, random_secrets, station_users, stations, tokens
from storage.access.station_tables import (
    AssertionRow,
    DeviceRow,
    StationSessionRow,
    StationUserRow,
)
from storage.access.station_users import Person
from storage.access.stations import Station
from storage.access.tokens import Role
from storage.base.clock import utc_now
from storage.base.errors import NotFound, NotPermitted
from storage.db.engine import Session

LIFE: Final = timedelta(minutes=15)
PREFIX: Final = "ls_"
USE_IS_NOTED_EVERY: Final = timedelta(minutes=5)


class NotAdmitted(NotPermitted):
    """Who calls is known, and is no station that may come in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """Who of which station calls."""

    station: Station
    device: str
    """Its uid; ``token:`` and a prefix for the bearer of an issued token."""
    device_name: str
    person: Person | None = None

    @property
    def actor(self) -> str:
        """Who is answerable: the person, else the device."""
        return self.person.name if self.person else self.device


def claim(
    session: Session, assertion: str, audience: str, now: datetime
) -> tuple[DeviceRow, Station]:
    """Return whose assertion it is, and take it: it is of no use again.

    Raises
    ------
    NotPermitted
        It does not hold, was used, is for somebody else, or its device or station is shut out.
    """
    uid = assertions.device_of(assertion).replace("\0", "")
    device = session.scalar(select(DeviceRow).where(DeviceRow.uid == uid))
    if device is None:
        raise NotPermitted("the device is not known")
    claims = assertions.verify(assertion, device.public_key, now)
    if not any(one.rstrip("/") == audience for one in claims.audience):
        raise NotPermitted(f"the assertion is for somebody else; its aud has to be {audience}")
    session.execute(delete(AssertionRow).where(AssertionRow.ends_at < now - timedelta(hours=1)))
    fresh = insert(AssertionRow).values(digest=claims.digest, ends_at=claims.ends_at)
    taken = session.scalar(fresh.on_conflict_do_nothing().returning(AssertionRow.digest))
    if taken is None:
        raise NotPermitted("the assertion was used before")
    if device.revoked_at is not None:
        raise NotPermitted("the device was revoked")
    return device, _admitted(stations.get(session, device.station_ref))


def issue(session: Session, device: DeviceRow, person: Person | None, now: datetime) -> str:
    """Return a token for a device, and for a person at it."""
    secret = PREFIX + random_secrets.new()
    session.execute(delete(StationSessionRow).where(StationSessionRow.ends_at < now))
    session.add(
        StationSessionRow(
            secret_sha256=random_secrets.digest(secret),
            device_ref=device.id,
            user_ref=person.id if person else None,
            ends_at=now + LIFE,
        )
    )
    session.flush()
    return secret


def authenticate(session: Session, secret: str) -> Visitor:
    """Return who calls with a token, issued by a person or by `issue`.

    Raises
    ------
    NotPermitted
        It is not valid (any more).
    NotAdmitted
        It is no station's, or the station is shut out.
    """
    if not secret.startswith(PREFIX):
        return _bearer(session, secret)
    now = utc_now()
    found = session.execute(
        select(StationSessionRow, DeviceRow, StationUserRow)
        .join(DeviceRow, DeviceRow.id == StationSessionRow.device_ref)
        .outerjoin(StationUserRow, StationUserRow.id == StationSessionRow.user_ref)
        .where(
            StationSessionRow.secret_sha256 == random_secrets.digest(secret),
            StationSessionRow.ends_at > now,
            DeviceRow.revoked_at.is_(None),
            StationUserRow.disabled_at.is_(None),
        )
    ).one_or_none()
    if found is None:
        raise NotPermitted("the token is not valid")
    _, device, user = found
    if device.used_at is None or now - device.used_at > USE_IS_NOTED_EVERY:
        device.used_at = now
    return Visitor(
        station=_admitted(stations.get(session, device.station_ref)),
        device=device.uid,
        device_name=device.name,
        person=station_users.person_of(user) if user else None,
    )


def _bearer(session: Session, secret: str) -> Visitor:
    caller = tokens.authenticate(session, secret)
    if caller.role is not Role.STATION or caller.station is None:
        raise NotAdmitted(f"the role {caller.role} is no station's")
    try:
        station = stations.find(session, caller.station)
    except NotFound as error:
        raise NotAdmitted("the station of this token is not registered") from error
    return Visitor(
        station=_admitted(station), device=f"token:{caller.prefix}", device_name=caller.label
    )


def _admitted(station: Station) -> Station:
    if station.revoked_at is not None:
        raise NotAdmitted("the station was revoked")
    return station
