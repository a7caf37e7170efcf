"""How often a password may be guessed, counted in the database for all nodes.

A try counts as a failure before the password is looked at, so that a thousand at once
are no way around; one that was right takes its count back. Beyond the first few each
failure doubles the wait for the next try. The wait for a name alone stays short, or
anybody could lock anybody out.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from sqlalchemy import delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from storage.access import users
from storage.access.tables import GuessRow
from storage.base.clock import utc_now
from storage.base.errors import NotPermitted
from storage.db.engine import Session

FORGOTTEN_AFTER: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Limit:
    """So many failures are free; then each doubles the wait, up to the longest."""

    free: int
    longest_s: float

    def wait_s(self, failures: int) -> float:
        """Return how long after the last of `failures` the next try has to wait, in seconds."""
        if failures < self.free:
            return 0.0
        return float(min(2 ** min(failures - self.free + 1, 32), self.longest_s))


LIMITS: Final[Mapping[str, Limit]] = {
    "pair": Limit(free=5, longest_s=900),
    "name": Limit(free=30, longest_s=60),
    "address": Limit(free=100, longest_s=60),
}
"""By what a guess shares with others: name and address, the name, the address."""


class TooOften(NotPermitted):
    """There were too many guesses; the next may be made after `wait_s` seconds."""

    def __init__(self, wait_s: float) -> None:
        self.wait_s: Final = max(1, ceil(wait_s))
        super().__init__(f"too many tries; try again in {self.wait_s} s")


def admit(session: Session, name: str, address: str) -> None:
    """Count a try for the user `name` from `address`.

    Raises
    ------
    TooOften
        It has to wait; it does not count then.
    """
    kinds = {key: LIMITS[kind] for kind, key in _keys(name, address).items()}
    fresh = [{"key": key, "failures": 0, "last_at": utc_now()} for key in sorted(kinds)]
    session.execute(insert(GuessRow).values(fresh).on_conflict_do_nothing())
    held = select(GuessRow).where(GuessRow.key.in_(kinds)).order_by(GuessRow.key)
    rows = session.scalars(held.with_for_update()).all()
    now = utc_now()  # after those that were before us
    wait_s = max(_left_s(row, kinds[row.key], now) for row in rows)
    if wait_s > 0:
        raise TooOften(wait_s)
    for row in rows:
        row.failures = _failures(row, now) + 1
        row.last_at = now
    session.flush()


def forgive(session: Session, name: str, address: str) -> None:
    """Take the count of a try back that was right, and forget old ones."""
    keys = _keys(name, address)
    told = [keys["name"], keys["pair"]]
    old = GuessRow.last_at < utc_now() - FORGOTTEN_AFTER
    session.execute(delete(GuessRow).where(GuessRow.key.in_(told) | old))
    session.execute(
        update(GuessRow)
        .where(GuessRow.key == keys["address"])
        .values(failures=func.greatest(GuessRow.failures - 1, 0))
    )


def _keys(name: str, address: str) -> Mapping[str, str]:
    """Return the keys by kind; hashed, for people type passwords where names belong."""
    known = users.normal(name)
    parts = {"pair": (known, address), "name": (known,), "address": (address,)}
    return {kind: f"{kind}:{_digest(*shared)}" for kind, shared in parts.items()}


def _digest(*parts: str) -> str:
    text = "\0".join(parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _failures(row: GuessRow, now: datetime) -> int:
    return 0 if now - row.last_at > FORGOTTEN_AFTER else row.failures


def _left_s(row: GuessRow, limit: Limit, now: datetime) -> float:
    wait_s = limit.wait_s(_failures(row, now))
    return wait_s - (now - row.last_at).total_seconds() if wait_s else 0.0
