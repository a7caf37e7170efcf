"""The register of deliveries: what was given to whom, when, how, and what proves it.

    film, paper, disc, qr, portal, station, message ─► one entry each, never changed
    an entry that was wrong ─► another one revokes it, with the reason

What stations acknowledge comes by itself; `source` names where an entry came from, once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import uuid4

from sqlalchemy import BigInteger, ForeignKey, Index, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from ris.listing import reports, studies
from ris.releases.model import Receipt, ReceiptKind
from ris.reports import queries
from storage.base.clock import utc_now
from storage.base.errors import Conflict, Malformed, NotFound
from storage.base.values import is_uid
from storage.db.columns import Base, Instant, Key
from storage.db.engine import Session

LONGEST: Final = 500
AHEAD: Final = timedelta(minutes=5)
"""How far a clock may be ahead of ours."""
MOST: Final = 10_000


class Channel(StrEnum):
    """How something is handed over."""

    FILM = "film"
    PAPER = "paper"
    DISC = "disc"
    QR = "qr"
    PORTAL = "portal"
    STATION = "station"
    MESSAGE = "message"


class RecipientKind(StrEnum):
    """To whom."""

    PATIENT = "patient"
    RELATIVE = "relative"
    WARD = "ward"
    STATION = "station"
    FACILITY = "facility"
    OTHER = "other"


class DeliveryRow(Base):
    """One entry; triggers of migration 0023 keep it as it was written."""

    __tablename__ = "deliveries"

    id: Mapped[Key]
    uid: Mapped[str] = mapped_column(unique=True)
    report_uid: Mapped[str]
    report_version: Mapped[int | None]
    study_instance_uid: Mapped[str]
    patient_id: Mapped[int | None] = mapped_column(BigInteger)
    channel: Mapped[str]
    recipient_kind: Mapped[str]
    recipient: Mapped[str]
    count: Mapped[int]
    delivered_at: Mapped[Instant]
    evidence: Mapped[str]
    note: Mapped[str]
    revokes: Mapped[str | None] = mapped_column(ForeignKey("deliveries.uid"), unique=True)
    source: Mapped[str]
    recorded_by: Mapped[str]
    recorded_at: Mapped[Instant]

    __table_args__ = (
        Index("ix_deliveries_report_uid", "report_uid", "id"),
        Index("ix_deliveries_study_instance_uid", "study_instance_uid", "id"),
        Index("ix_deliveries_delivered_at", "delivered_at"),
        Index("uq_deliveries_source", "source", unique=True, postgresql_where=text("source > ''")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """What is to be entered."""

    channel: Channel
    recipient_kind: RecipientKind
    recipient: str = ""
    """Who took it: a name, a ward, a code."""
    report_uid: str = ""
    report_version: int | None = None
    """None: the newest that was issued."""
    study_instance_uid: str = ""
    count: int = 1
    """Films, sheets or discs."""
    delivered_at: datetime | None = None
    """None: now."""
    evidence: str = ""
    """A receipt's number, a signature's, a hash: what proves it."""
    note: str = ""
    source: str = field(default="", repr=False)
    """Names what it was entered for, so that it is entered once; '': by a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One entry of the register."""

    uid: str
    report_uid: str
    report_version: int | None
    study_instance_uid: str
    patient_id: int | None
    channel: Channel
    recipient_kind: RecipientKind
    recipient: str
    count: int
    delivered_at: datetime
    evidence: str
    note: str
    revokes: str | None
    """The entry that this one takes back."""
    revoked_by: str | None
    recorded_by: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which entries are wanted; what is None or empty is not asked for."""

    report_uid: str = ""
    study_instance_uid: str = ""
    patient_id: int | None = None
    channel: Channel | None = None
    since: datetime | None = None
    until: datetime | None = None
    """Not inside."""


def enter(session: Session, given: Handover, recorded_by: str) -> Delivery:
    """Enter what was handed over; what came from the same `source` before is returned as it is.

    Raises
    ------
    Malformed
        It names neither report nor study, is of the future, or a text or count is out of bounds.
    NotFound
        There is no such report, version or study.
    """
    _check(given)
    if given.source and (known := _of_source(session, given.source)) is not None:
        return known
    named = _of_report(session, given) if given.report_uid else _of_study(session, given)
    return _write(session, named, recorded_by)


def of_receipt(session: Session, receipt: Receipt, station: str) -> Delivery | None:
    """Enter what a station says became of a report; None: nothing was handed over by that."""
    recipient = _RECIPIENTS.get(receipt.kind)
    if recipient is None:
        return None
    given = Handover(
        channel=Channel.STATION,
        recipient_kind=recipient,
        recipient=station,
        report_uid=receipt.report_uid,
        report_version=receipt.version,
        delivered_at=receipt.happened_at,
        evidence=receipt.sha256,
        source=f"receipt:{receipt.id}",
    )
    return enter(session, given, f"station:{station}")


def revoke(session: Session, uid: str, reason: str, recorded_by: str) -> Delivery:
    """Take an entry back by another one.

    Raises
    ------
    NotFound
        There is no such entry.
    Conflict
        It was taken back before, or takes another one back itself.
    Malformed
        There is no reason, or it is too long.
    """
    if not reason.strip() or len(reason) > LONGEST:
        raise Malformed(f"a reason of at most {LONGEST} characters is wanted")
    row = session.scalar(select(DeliveryRow).where(DeliveryRow.uid == uid.replace("\0", "")))
    if row is None:
        raise NotFound("there is no such entry")
    if row.revokes is not None:
        raise Conflict("an entry that takes another one back stays")
    values = {
        **{name: getattr(row, name) for name in _COPIED},
        "uid": uuid4().hex,
        "delivered_at": row.delivered_at,
        "note": reason.replace("\0", ""),
        "evidence": "",
        "revokes": row.uid,
        "source": "",
        "recorded_by": recorded_by,
        "recorded_at": utc_now(),
    }
    made = session.scalar(
        insert(DeliveryRow)
        .values(**values)
        .on_conflict_do_nothing(index_elements=["revokes"])
        .returning(DeliveryRow.id)
    )
    if made is None:
        raise Conflict("it was taken back before")
    return _deliveries(session, [session.get_one(DeliveryRow, made)])[0]


def find(
    session: Session, search: Search, *, limit: int = 100, before: str = ""
) -> Sequence[Delivery]:
    """Return the newest `limit` entries; `before` is the uid of the last one seen."""
    statement = select(DeliveryRow).order_by(DeliveryRow.id.desc()).limit(limit)
    for name in ("report_uid", "study_instance_uid", "patient_id", "channel"):
        if (value := getattr(search, name)) not in {None, ""}:
            statement = statement.where(getattr(DeliveryRow, name) == value)
    if search.since is not None:
        statement = statement.where(DeliveryRow.delivered_at >= search.since)
    if search.until is not None:
        statement = statement.where(DeliveryRow.delivered_at < search.until)
    if before:
        last = select(DeliveryRow.id).where(DeliveryRow.uid == before).scalar_subquery()
        statement = statement.where(DeliveryRow.id < last)
    return _deliveries(session, session.scalars(statement).all())


_RECIPIENTS: Final[Mapping[ReceiptKind, RecipientKind]] = {
    ReceiptKind.DELIVERED: RecipientKind.STATION,
    ReceiptKind.HANDED_OVER: RecipientKind.PATIENT,
}
_COPIED: Final = (
    "report_uid",
    "report_version",
    "study_instance_uid",
    "patient_id",
    "channel",
    "recipient_kind",
    "recipient",
    "count",
)


def _check(given: Handover) -> None:
    if bool(given.report_uid) == bool(given.study_instance_uid):
        raise Malformed("name a report or a study, one of them")
    texts = given.recipient, given.evidence, given.note, given.source
    if any(len(one) > LONGEST for one in texts):
        raise Malformed(f"at most {LONGEST} characters")
    if not 1 <= given.count <= MOST:
        raise Malformed(f"count: 1 to {MOST}")
    at = given.delivered_at
    if at is not None and at.tzinfo is None:
        raise Malformed("delivered_at: with its offset from UTC")
    if at is not None and at > utc_now() + AHEAD:
        raise Malformed("delivered_at: nothing is handed over in the future")
    if given.study_instance_uid and not is_uid(given.study_instance_uid):
        raise Malformed("study_instance_uid: not a UID")


def _of_report(session: Session, given: Handover) -> tuple[Handover, int | None]:
    report = queries.get(session, given.report_uid)
    version = given.report_version or report.version
    issued = reports.version(session, report.uid, version) if version else None
    if issued is None:
        raise NotFound("no such version was issued")
    return replace(given, report_version=version), issued.patient_number


def _of_study(session: Session, given: Handover) -> tuple[Handover, int | None]:
    uid = given.study_instance_uid
    owners = studies.patients_of(session, [uid])
    if uid not in owners:
        raise NotFound("there is no such study")
    return replace(given, report_version=None), owners[uid]


def _write(session: Session, named: tuple[Handover, int | None], recorded_by: str) -> Delivery:
    given, patient = named
    now = utc_now()
    values = {
        "uid": uuid4().hex,
        "report_uid": given.report_uid,
        "report_version": given.report_version,
        "study_instance_uid": given.study_instance_uid,
        "patient_id": patient if patient is not None and patient >= 0 else None,
        "channel": str(given.channel),
        "recipient_kind": str(given.recipient_kind),
        "recipient": given.recipient.replace("\0", ""),
        "count": given.count,
        "delivered_at": given.delivered_at or now,
        "evidence": given.evidence.replace("\0", ""),
        "note": given.note.replace("\0", ""),
        "source": given.source.replace("\0", ""),
        "recorded_by": recorded_by,
        "recorded_at": now,
    }
    statement = (
        insert(DeliveryRow)
        .values(**values)
        .on_conflict_do_nothing(index_elements=["source"], index_where=text("source > ''"))
        .returning(DeliveryRow.id)
    )
    made = session.scalar(statement)
    if made is None:  # another transaction entered it just now
        known = _of_source(session, given.source)
        if known is None:
            raise Conflict("it is being entered")
        return known
    return _deliveries(session, [session.get_one(DeliveryRow, made)])[0]


def _of_source(session: Session, source: str) -> Delivery | None:
    row = session.scalar(select(DeliveryRow).where(DeliveryRow.source == source))
    return _deliveries(session, [row])[0] if row is not None else None


def _deliveries(session: Session, rows: Sequence[DeliveryRow]) -> list[Delivery]:
    uids = [row.uid for row in rows]
    statement = select(DeliveryRow.revokes, DeliveryRow.uid).where(DeliveryRow.revokes.in_(uids))
    revoked = {row.revokes: row.uid for row in session.execute(statement)}
    return [
        Delivery(
            uid=row.uid,
            **{name: getattr(row, name) for name in _COPIED if name not in _ENUMS},
            channel=Channel(row.channel),
            recipient_kind=RecipientKind(row.recipient_kind),
            delivered_at=row.delivered_at,
            evidence=row.evidence,
            note=row.note,
            revokes=row.revokes,
            revoked_by=revoked.get(row.uid),
            recorded_by=row.recorded_by,
            recorded_at=row.recorded_at,
        )
        for row in rows
    ]


_ENUMS: Final = frozenset({"channel", "recipient_kind"})
