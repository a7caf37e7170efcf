"""What sorted searches found, kept for those who turn the pages.

What is sorted by may change while somebody reads: without the list as it was, a resource could
leave a page that is still to come for one that was read.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import uuid4

from sqlalchemy import delete

from ris.listing.tables import ResultRow
from storage.base.clock import utc_now
from storage.base.errors import NotFound
from storage.db.engine import Session

KEPT: Final = timedelta(hours=1)
MOST: Final = 10_000
"""Ids of one result."""


def keep(session: Session, kind: str, ids: Sequence[int]) -> str:
    """Keep a result for a while; return its name."""
    now = utc_now()
    session.execute(delete(ResultRow).where(ResultRow.made_at < now - KEPT))
    uid = uuid4().hex
    session.add(ResultRow(uid=uid, kind=kind, ids=[*ids], made_at=now))
    session.flush()
    return uid


def page(session: Session, kind: str, uid: str, first: int, most: int) -> tuple[list[int], bool]:
    """Return `most` ids from number `first`, and whether more follow.

    Raises
    ------
    NotFound
        There is no such result any more.
    """
    row = session.get(ResultRow, uid)
    if row is None or row.kind != kind or row.made_at < utc_now() - KEPT:
        raise NotFound("this result is not kept any more: search again")
    return row.ids[first : first + most], len(row.ids) > first + most
