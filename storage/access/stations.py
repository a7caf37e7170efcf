"""The registry of facilities: what each was called when, and whether it may come in.

A facility stays one through every change of code, name and owner: what was released to a station
under its old code is its own under the new one. A code never means two facilities, not even at
different times.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import ColumnElement, or_, select, text, update

from storage.access.station_tables import StationRow, StationVersionRow
from storage.base import names
from storage.base.clock import utc_now
from storage.base.errors import Conflict, Malformed, NotFound
from storage.db.engine import Session

LOOK_UPS_A_DAY: Final = 300
LONGEST: Final = 200
_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}", re.ASCII)
_REGISTRY: Final = text("SELECT pg_advisory_xact_lock(hashtextextended('stations', 0))")
_URL: Final = re.compile(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?")


class Kind(StrEnum):
    """What a facility is."""

    STATION = "station"
    """Trạm Y tế."""
    POINT = "point"
    """Điểm trạm, a part of a station."""
    CLINIC = "clinic"
    HOSPITAL = "hospital"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facility:
    """A facility as it is called at some time."""

    code: str
    name: str
    kind: Kind = Kind.STATION
    national_id: str = ""
    """13 digits (GLN)."""
    parent_code: str = ""
    admin_unit: str = ""
    """Code of the commune."""
    valid_from: date = date.min
    valid_to: date | None = None
    """The first day on which it is not so any more; None: still so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Station:
    """One facility, as it is called now."""

    id: int
    facility: Facility
    created_at: datetime
    revoked_at: datetime | None
    wiped_at: datetime | None
    hook_url: str
    look_ups_a_day: int

    @property
    def code(self) -> str:
        """The code that it has now."""
        return self.facility.code


def add(session: Session, facility: Facility) -> Station:
    """Register a facility.

    Raises
    ------
    Malformed
        Its code or one of its texts cannot be one.
    Conflict
        The code is, or was, another's.
    """
    checked = _checked(facility)
    _lock(session)
    _require_free(session, checked.code)
    now = utc_now()
    row = StationRow(created_at=now, look_ups_a_day=LOOK_UPS_A_DAY, hook_url="")
    session.add(row)
    session.flush()
    session.add(_version(row.id, checked, now))
    session.flush()
    return get(session, row.id)


def change(session: Session, code: str, facility: Facility) -> Station:
    """Have a facility be called otherwise from `facility.valid_from` on.

    Raises
    ------
    NotFound
        No facility has that code now.
    Conflict
        The new code is, or was, another's; or the change would lie before the last one.
    """
    checked = _checked(facility)
    _lock(session)
    station = find(session, code)
    _require_free(session, checked.code, but=station.id)
    newest = history(session, station.id)[-1]
    if checked.valid_from <= newest.valid_from:
        raise Conflict(f"{newest.code} is called so since {newest.valid_from}")
    session.execute(
        update(StationVersionRow)
        .where(StationVersionRow.station_ref == station.id, StationVersionRow.valid_to.is_(None))
        .values(valid_to=checked.valid_from)
        .execution_options(synchronize_session=False)
    )
    session.add(_version(station.id, checked, utc_now()))
    session.flush()
    session.expire_all()
    return get(session, station.id)


def get(session: Session, station_id: int) -> Station:
    """Return one station by id.

    Raises
    ------
    NotFound
        There is none.
    """
    found = load(session, [station_id])
    if not found:
        raise NotFound(f"there is no station {station_id}")
    return found[station_id]


def load(session: Session, ids: Collection[int]) -> Mapping[int, Station]:
    """Return these stations by id."""
    today = utc_now().date()
    statement = (
        select(StationRow, StationVersionRow)
        .join(StationVersionRow, StationVersionRow.station_ref == StationRow.id)
        .where(StationRow.id.in_({*ids}))
        .order_by(StationVersionRow.valid_from)
    )
    found: dict[int, Station] = {}
    for row, version in session.execute(statement):
        if row.id not in found or version.valid_from <= today:  # the first one, if all are to come
            found[row.id] = _station(row, version)
    return found


def find(session: Session, code: str) -> Station:
    """Return the station that has, or once had, that code.

    Raises
    ------
    NotFound
        No facility ever had it.
    """
    wanted = code.replace("\0", "")
    statement = select(StationVersionRow.station_ref).where(StationVersionRow.code == wanted)
    found = session.scalar(statement.limit(1))
    if found is None:
        raise NotFound(f"no station has the code {code[:33]!r}")
    return get(session, found)


def named(session: Session, words: str, on: date) -> Station | None:
    """Return the facility that `words` named on that day: by code, national number or name.

    None when there is none, or when the name was that of several.
    """
    wanted = words.strip().replace("\0", "")
    if not wanted:
        return None
    keys = (
        StationVersionRow.code == wanted,
        (StationVersionRow.national_id == wanted) & (StationVersionRow.national_id != ""),
        StationVersionRow.name_key == names.search_key(wanted),
    )
    for key in keys:
        found = {*session.scalars(select(StationVersionRow.station_ref).where(key, *_on(on)))}
        if found:
            return get(session, found.pop()) if len(found) == 1 else None
    return None


def list_all(session: Session) -> Sequence[Station]:
    """Return every station by its present code."""
    ids = session.scalars(select(StationRow.id)).all()
    return sorted(load(session, ids).values(), key=lambda one: one.code)


def history(session: Session, station_id: int) -> Sequence[Facility]:
    """Return what a station was called, oldest first."""
    statement = (
        select(StationVersionRow)
        .where(StationVersionRow.station_ref == station_id)
        .order_by(StationVersionRow.valid_from)
    )
    return [_facility(row) for row in session.scalars(statement)]


def revoke(session: Session, code: str) -> Station:
    """Let nobody of a station in any more, at once; its tokens and devices are of no use."""
    return _set(session, code, revoked_at=utc_now())


def restore(session: Session, code: str) -> Station:
    """Let a station in again."""
    return _set(session, code, revoked_at=None, wiped_at=None)


def wipe(session: Session, code: str) -> Station:
    """Have a station's devices delete every copy when they next come."""
    return _set(session, code, wiped_at=utc_now())


def configure(
    session: Session, code: str, *, hook_url: str | None = None, look_ups_a_day: int | None = None
) -> Station:
    """Change where a station is told that there is news, and how many look-ups it has a day.

    Raises
    ------
    Malformed
        The URL is none.
    """
    values: dict[str, Any] = {}
    if hook_url is not None:
        if hook_url and (len(hook_url) > LONGEST or not _is_url(hook_url)):
            raise Malformed("the URL of a station's hook begins with https:// or http://")
        values["hook_url"] = hook_url
    if look_ups_a_day is not None:
        values["look_ups_a_day"] = look_ups_a_day
    return _set(session, code, **values) if values else find(session, code)


def _set(session: Session, code: str, **values: object) -> Station:
    station = find(session, code)
    row = session.get_one(StationRow, station.id, with_for_update=True, populate_existing=True)
    for name, value in values.items():
        setattr(row, name, value)
    session.flush()
    return get(session, station.id)


def _is_url(text: str) -> bool:
    try:
        return _URL.fullmatch(text) is not None and urlsplit(text).port != 0
    except ValueError:  # a port that is none
        return False


def _lock(session: Session) -> None:
    """Have one change of the registry at a time: codes are compared over all times."""
    session.execute(_REGISTRY)


def _require_free(session: Session, code: str, but: int | None = None) -> None:
    statement = select(StationVersionRow.station_ref).where(StationVersionRow.code == code)
    if {*session.scalars(statement)} - {but}:
        raise Conflict(f"the code {code!r} is that of another facility, now or once")


def _on(day: date) -> Sequence[ColumnElement[bool]]:
    return (
        StationVersionRow.valid_from <= day,
        or_(StationVersionRow.valid_to.is_(None), StationVersionRow.valid_to > day),
    )


def _checked(facility: Facility) -> Facility:
    if not _CODE.fullmatch(facility.code):
        raise Malformed(f"{facility.code[:33]!r} is not a station code: letters, digits and ._-")
    texts: dict[str, Any] = {
        name: unicodedata.normalize("NFC", getattr(facility, name)).strip()
        for name in ("name", "national_id", "parent_code", "admin_unit")
    }
    if not texts["name"]:
        raise Malformed("a station needs a name")
    for name, value in texts.items():
        if len(value) > LONGEST or not value.isprintable():
            raise Malformed(f"the {name} of a station has at most {LONGEST} characters on one line")
    return replace(facility, **texts, kind=Kind(facility.kind))


def _version(station_id: int, facility: Facility, now: datetime) -> StationVersionRow:
    return StationVersionRow(
        station_ref=station_id,
        code=facility.code,
        name=facility.name,
        name_key=names.search_key(facility.name),
        kind=facility.kind,
        national_id=facility.national_id,
        parent_code=facility.parent_code,
        admin_unit=facility.admin_unit,
        valid_from=facility.valid_from,
        valid_to=None,
        recorded_at=now,
    )


def _station(row: StationRow, version: StationVersionRow) -> Station:
    return Station(
        id=row.id,
        facility=_facility(version),
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        wiped_at=row.wiped_at,
        hook_url=row.hook_url,
        look_ups_a_day=row.look_ups_a_day,
    )


def _facility(row: StationVersionRow) -> Facility:
    return Facility(
        code=row.code,
        name=row.name,
        kind=Kind(row.kind),
        national_id=row.national_id,
        parent_code=row.parent_code,
        admin_unit=row.admin_unit,
        valid_from=row.valid_from,
        valid_to=row.valid_to,
    )
