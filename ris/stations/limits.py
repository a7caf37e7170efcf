"""How much a station may do on one day, and what happens when it does more."""

from datetime import date, datetime, timedelta, tzinfo
from typing import Final

from ris.reports.faults import Words
from ris.stations import alarms
from ris.stations.alarms import AlarmKind
from ris.stations.faults import DOWNLOADS, Exhausted, fault
from storage.access import station_counts
from storage.base.clock import utc_now
from storage.db.engine import Session

EMERGENCIES_A_DAY: Final = 10
REFERRALS_A_DAY: Final = 500
MEGABYTES_A_DAY: Final = 2000
PROBES: Final = 20
"""So many requests a day for what is not its own are an alarm."""
MEGABYTE: Final = 1_000_000


def today(zone: tzinfo) -> date:
    """Return the day of the hospital's wall clock."""
    return utc_now().astimezone(zone).date()


def spend(session: Session, station_id: int, zone: tzinfo, what: Words, most: int) -> None:
    """Count one thing.

    Raises
    ------
    Exhausted
        It is one more than `most` today.
    """
    if station_counts.add(session, station_id, today(zone), what.english) > most:
        raise Exhausted(fault("too_many", most=most, what=what), _until_midnight_s(zone))


def require_room(session: Session, station_id: int, zone: tzinfo) -> None:
    """Raise `Exhausted` when `MEGABYTES_A_DAY` were given out."""
    used = station_counts.of_day(session, station_id, today(zone)).get(DOWNLOADS.english, 0)
    if used >= MEGABYTES_A_DAY * MEGABYTE:
        told = fault("too_many", most=MEGABYTES_A_DAY, what=DOWNLOADS)
        raise Exhausted(told, _until_midnight_s(zone))


def load(session: Session, station_id: int, zone: tzinfo, size: int) -> None:
    """Count bytes that are given out."""
    station_counts.add(session, station_id, today(zone), DOWNLOADS.english, size)


def note_exhausted(session: Session, station_id: int, zone: tzinfo, error: Exhausted) -> None:
    """Raise an alarm, once a day for each limit."""
    what = error.faults[0].values["what"]
    name = what.english if isinstance(what, Words) else str(what)
    if station_counts.add(session, station_id, today(zone), f"alarm {name}") == 1:
        alarms.raise_(session, station_id, AlarmKind.LIMIT, limit=name)


def note_foreign(session: Session, station_id: int, zone: tzinfo) -> None:
    """Count a request for what is not the station's own; too many of them are an alarm."""
    count = station_counts.add(session, station_id, today(zone), "probes")
    if count == PROBES:
        alarms.raise_(session, station_id, AlarmKind.PROBING, count=count)


def _until_midnight_s(zone: tzinfo) -> int:
    now = utc_now().astimezone(zone)
    tomorrow = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), zone)
    return int((tomorrow - now).total_seconds()) + 1
