"""Who works on what: studies by a lock of their own, for there may be no row of one yet.

Always the studies first and then the orders, each in one order, so that nobody waits in a circle.
"""

import hashlib
from collections.abc import Collection
from typing import Final

from sqlalchemy import select, text

from ris.tables import OrderRow
from storage.db.engine import Session

_TAKE: Final = text("SELECT pg_advisory_xact_lock(key) FROM unnest(CAST(:keys AS bigint[])) AS key")


def lock_studies(session: Session, study_instance_uids: Collection[str]) -> None:
    """Wait until nobody else works on these studies; hold them to the end of the transaction."""
    if study_instance_uids:
        session.execute(_TAKE, {"keys": sorted(map(_key, study_instance_uids))})


def lock_orders(session: Session, order_ids: Collection[int]) -> None:
    """Do the same with orders, and read them anew."""
    if order_ids:
        statement = select(OrderRow).where(OrderRow.id.in_({*order_ids})).order_by(OrderRow.id)
        fresh = statement.with_for_update().execution_options(populate_existing=True)
        session.scalars(fresh).all()


def _key(uid: str) -> int:
    return int.from_bytes(hashlib.sha256(f"ris study\n{uid}".encode()).digest()[:8], signed=True)
