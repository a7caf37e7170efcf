"""How much a station did of something today, counted in the database for all nodes."""

from datetime import date
from typing import Final

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from storage.access.station_tables import CountRow
from storage.db.engine import Session

_KEYS: Final = ("station_ref", "day", "what")


def add(session: Session, station_id: int, day: date, what: str, amount: int = 1) -> int:
    """Count `amount` more and return the sum of the day."""
    fresh = insert(CountRow).values(station_ref=station_id, day=day, what=what, amount=amount)
    counted = fresh.on_conflict_do_update(
        index_elements=_KEYS, set_={"amount": CountRow.amount + amount}
    )
    return session.scalar(counted.returning(CountRow.amount)) or amount


def of_day(session: Session, station_id: int, day: date) -> dict[str, int]:
    """Return what was counted of a station on one day."""
    statement = select(CountRow).where(CountRow.station_ref == station_id, CountRow.day == day)
    return {row.what: row.amount for row in session.scalars(statement)}
