"""The named persons of a station: password and one-time password, never a shared account."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import LargeBinary, func, select

from storage.access import one_time, passwords, stations
from storage.access.sealing import Seal
from storage.access.station_tables import StationUserRow
from storage.base.clock import utc_now
from storage.base.errors import Conflict, Malformed, NotFound, NotPermitted
from storage.db.engine import Session

LONGEST: Final = 200
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}", re.ASCII)


class StationRole(StrEnum):
    """What a person is at a station."""

    HEAD = "head"
    DOCTOR = "doctor"
    NURSE = "nurse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person of a station."""

    id: int
    station_id: int
    name: str
    full_name: str
    role: StationRole
    licence: str
    """Of practice."""
    disabled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What somebody types to sign in."""

    name: str
    password: str
    otp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPerson:
    """Who is to be entered."""

    code: str
    """Of the station."""
    name: str
    full_name: str
    role: StationRole = StationRole.NURSE
    licence: str = ""
    password: str


def add(session: Session, new: NewPerson, seal: Seal) -> tuple[Person, bytes]:
    """Enter a person; return the secret of the one-time passwords too, shown this once.

    It lies in the database sealed.

    Raises
    ------
    Malformed, WeakPassword
        A text cannot be what it is for.
    Conflict
        The name is taken; or the secrets of others were sealed with another key.
    NotFound
        There is no such station.
    """
    name = _normal(new.name)
    full_name = unicodedata.normalize("NFC", new.full_name).strip()
    if not _NAME.fullmatch(name):
        raise Malformed(f"{new.name[:65]!r} is not a user name: small letters, digits and ._@-")
    if not full_name or max(len(full_name), len(new.licence)) > LONGEST:
        raise Malformed("an account at a station is that of one person, by full name")
    passwords.check(new.password, name)
    station = stations.find(session, new.code)
    if session.scalar(select(StationUserRow.id).where(StationUserRow.name == name)) is not None:
        raise Conflict(f"there is a user {name!r} already")
    _require_same_key(session, seal)
    secret = one_time.new_secret()
    row = StationUserRow(
        station_ref=station.id,
        name=name,
        full_name=full_name,
        role=new.role,
        licence=new.licence,
        password_hash=passwords.hashed(new.password),
        otp_secret=seal.close(secret, _whose(name)),
        otp_used=0,
        created_at=utc_now(),
    )
    session.add(row)
    session.flush()
    return _person(row), secret


def sign_in(session: Session, station_id: int, given: Claim, seal: Seal, now: datetime) -> Person:
    """Return who signs in at that station; a secret that was not sealed yet is now.

    Raises
    ------
    NotPermitted
        Name, password or one-time password is not right; which one is not told.
    StoreUnavailable
        The person's secret was sealed with another key than this node has.
    """
    held = select(StationUserRow).where(StationUserRow.name == _normal(given.name))
    row = session.scalar(held.with_for_update())
    here = row is not None and row.station_ref == station_id and row.disabled_at is None
    right = passwords.matches(given.password, row.password_hash if row and here else None)
    secret = _secret_of(row, seal) if row and here else b""
    step = one_time.accepted(secret, given.otp, now, row.otp_used) if row else None
    if row is None or not here or not right or step is None:
        raise NotPermitted("name, password or one-time password is not right")
    row.otp_used = step
    row.otp_secret = seal.close(secret, _whose(row.name))
    session.flush()
    return _person(row)


_UNSEALED: Final = func.octet_length(StationUserRow.otp_secret) == one_time.SECRET_BYTES


def count_unsealed(session: Session) -> int:
    """Return how many secrets lie open in the database, from before they were sealed."""
    statement = select(func.count()).select_from(StationUserRow).where(_UNSEALED)
    return session.scalar(statement) or 0


def seal_all(session: Session, seal: Seal) -> None:
    """Seal those."""
    for row in session.scalars(select(StationUserRow).where(_UNSEALED).with_for_update()):
        row.otp_secret = seal.close(row.otp_secret, _whose(row.name))
    session.flush()


def disable(session: Session, name: str) -> Person:
    """Let a person in no more, at once.

    Raises
    ------
    NotFound
        There is nobody of that name.
    """
    row = session.scalar(select(StationUserRow).where(StationUserRow.name == _normal(name)))
    if row is None:
        raise NotFound(f"there is no user {name[:65]!r}")
    row.disabled_at = row.disabled_at or utc_now()
    session.flush()
    return _person(row)


def of_station(session: Session, station_id: int) -> Sequence[Person]:
    """Return the persons of a station by name."""
    statement = select(StationUserRow).where(StationUserRow.station_ref == station_id)
    return [_person(row) for row in session.scalars(statement.order_by(StationUserRow.name))]


def _secret_of(row: StationUserRow, seal: Seal) -> bytes:
    if len(row.otp_secret) == one_time.SECRET_BYTES:
        return row.otp_secret  # from before secrets were sealed
    return seal.open(row.otp_secret, _whose(row.name))


def _whose(name: str) -> str:
    return f"station user {name}"


def _require_same_key(session: Session, seal: Seal) -> None:
    """Raise `Conflict` when this node would seal with another key than the others did."""
    mark = func.substr(StationUserRow.otp_secret, 1, len(seal.mark), type_=LargeBinary)
    statement = select(StationUserRow.id).where(~_UNSEALED, mark != seal.mark)
    if session.scalar(statement.limit(1)) is not None:
        raise Conflict(
            "one-time passwords were sealed with the key of another node: copy its "
            "secrets/sealing.key, or set LIENTHONG_SEALING_KEY on all nodes"
        )


def person_of(row: StationUserRow) -> Person:
    """Return a person."""
    return _person(row)


def _normal(name: str) -> str:
    return unicodedata.normalize("NFKC", name.strip().replace("\0", "")).casefold()


def _person(row: StationUserRow) -> Person:
    return Person(
        id=row.id,
        station_id=row.station_ref,
        name=row.name,
        full_name=row.full_name,
        role=StationRole(row.role),
        licence=row.licence,
        disabled_at=row.disabled_at,
    )
