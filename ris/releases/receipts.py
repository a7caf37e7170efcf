"""Proof of delivery: what stations say of the versions that were released to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from ris.releases.model import Receipt, ReceiptKind
from ris.releases.tables import ReceiptRow
from storage.base.clock import utc_now
from storage.db.engine import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReceipt:
    """What a station says."""

    station_id: int
    report_uid: str
    version: int
    kind: ReceiptKind
    key: str = ""
    """Tells two prints of one version apart."""
    happened_at: datetime | None = None
    actor: str
    actor_name: str = ""
    device: str = ""
    sha256: str = ""


def note(session: Session, new: NewReceipt) -> Receipt:
    """Write a receipt; one that was written before is returned as it is."""
    now = utc_now()
    statement = insert(ReceiptRow).values(
        station_ref=new.station_id,
        report_uid=new.report_uid,
        version=new.version,
        kind=new.kind,
        key=new.key,
        happened_at=min(new.happened_at or now, now),
        received_at=now,
        actor=new.actor,
        actor_name=new.actor_name,
        device=new.device,
        sha256=new.sha256,
    )
    session.execute(statement.on_conflict_do_nothing())
    row = session.scalars(
        select(ReceiptRow).where(
            ReceiptRow.station_ref == new.station_id,
            ReceiptRow.report_uid == new.report_uid,
            ReceiptRow.version == new.version,
            ReceiptRow.kind == new.kind,
            ReceiptRow.key == new.key,
        )
    ).one()
    return _receipt(row)


def of_report(session: Session, report_uid: str) -> Sequence[Receipt]:
    """Return every receipt for a report, of all its versions and stations, oldest first."""
    statement = select(ReceiptRow).where(ReceiptRow.report_uid == report_uid)
    return [_receipt(row) for row in session.scalars(statement.order_by(ReceiptRow.id))]


def _receipt(row: ReceiptRow) -> Receipt:
    return Receipt(
        id=row.id,
        station_id=row.station_ref,
        report_uid=row.report_uid,
        version=row.version,
        kind=ReceiptKind(row.kind),
        happened_at=row.happened_at,
        received_at=row.received_at,
        actor=row.actor,
        actor_name=row.actor_name,
        device=row.device,
        sha256=row.sha256,
    )
