"""How long things take and how much is done, counted in the database over a period.

    ordered ──► performed ──► images ──► signed
    orders      performed     first      first signed version
                steps         object     of a report that counts

A period is one of the days on which things were performed; of reports, on which they were signed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Subquery, Text, case, cast, func, literal, select
from sqlalchemy.dialects.postgresql import distinct_on

from ris.machines import MachineRow
from ris.reports.states import SIGNED
from ris.reports.tables import ReportOrderRow, VersionRow
from ris.study_tables import AttachmentRow, PerformedItemRow, PerformedStepRow
from ris.tables import OrderRow
from ris.verdict import PerformedStatus
from storage.archive import listing
from storage.base.errors import Malformed
from storage.db.engine import Session

LONGEST: Final = timedelta(days=366)
PERCENTILES: Final = (0.5, 0.9, 0.95)


class Group(StrEnum):
    """What is counted together."""

    ALL = "all"
    DAY = "day"
    MODALITY = "modality"
    ROOM = "room"
    READER = "reader"


@dataclass(frozen=True, slots=True)
class Spread:
    """How long one thing took: minutes that half, nine and 95 of a hundred stay within."""

    count: int
    """Of how many it is known."""
    p50: float | None
    p90: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Turnaround:
    """How long services of one group took."""

    group: str
    services: int
    order_to_start: Spread
    start_to_images: Spread
    images_to_result: Spread
    order_to_result: Spread


@dataclass(frozen=True, slots=True)
class Workload:
    """How much was done of one group."""

    group: str
    services: int
    """Orders that were performed."""
    images: int
    """Objects of their studies."""
    reports: int
    """Reports that were signed."""


@dataclass(frozen=True, slots=True)
class Days:
    """A period: both days are inside."""

    first: date
    last: date

    def check(self) -> None:
        """Raise `Malformed` unless it is a period of a year at most."""
        if not timedelta() <= self.last - self.first < LONGEST:
            raise Malformed(f"from a day to a later one, {LONGEST.days} days at most")

    @property
    def begin(self) -> datetime:
        """The first moment, by the wall clock."""
        return datetime.combine(self.first, time.min)

    @property
    def end(self) -> datetime:
        """The moment behind the last."""
        return datetime.combine(self.last, time.min) + timedelta(days=1)


def turnaround(session: Session, days: Days, group: Group, zone: ZoneInfo) -> Sequence[Turnaround]:
    """Return how long the services took that were performed in a period, by group.

    A time that lies before the one that it is measured from counts for nothing: a clock is wrong.

    Raises
    ------
    Malformed
        The period is none, or longer than a year.
    """
    days.check()
    base = _services(days, zone)
    spans = {
        "order_to_start": (base.c.ordered, base.c.started),
        "start_to_images": (base.c.started, base.c.arrived),
        "images_to_result": (base.c.arrived, base.c.signed),
        "order_to_result": (base.c.ordered, base.c.signed),
    }
    key = _key(base, group)
    columns = [
        column.label(f"{name}_{what}")
        for name, (one, other) in spans.items()
        for what, column in _spread(one, other).items()
    ]
    counted = func.count().label("services")
    statement = select(key.label("key"), counted, *columns).group_by(key).order_by(key)
    return [_turnaround(row, spans) for row in session.execute(statement).mappings()]


def workload(session: Session, days: Days, group: Group, zone: ZoneInfo) -> Sequence[Workload]:
    """Return how much was performed, and how much was signed, in a period, by group.

    Raises
    ------
    Malformed
        The period is none, or longer than a year.
    """
    days.check()
    base = _services(days, zone)
    key = _key(base, group)
    done = session.execute(
        select(key, func.count(), func.coalesce(func.sum(base.c.images), 0)).group_by(key)
    ).all()
    signed = _signed(days, zone)
    signed_key = _key(signed, group)
    read = session.execute(select(signed_key, func.count()).group_by(signed_key)).all()
    reports: Mapping[str, int] = {row[0]: row[1] for row in read}
    performed = {row[0]: (int(row[1]), int(row[2])) for row in done}
    return [
        Workload(one, *performed.get(one, (0, 0)), reports.get(one, 0))
        for one in sorted({*performed, *reports})
    ]


def _turnaround(row: Mapping[Any, Any], spans: Mapping[str, object]) -> Turnaround:
    def spread(name: str) -> Spread:
        values = row[f"{name}_spread"] or [None] * len(PERCENTILES)
        minutes = [None if one is None else round(float(one) / 60, 1) for one in values]
        return Spread(row[f"{name}_count"], *minutes)

    found = {name: spread(name) for name in spans}
    return Turnaround(group=row["key"], services=row["services"], **found)


def _spread(one: Any, other: Any) -> dict[str, Any]:  # noqa: ANN401 - columns
    seconds = func.extract("epoch", other - one)
    known = other >= one
    percentiles = func.percentile_cont(list(PERCENTILES)).within_group(seconds)
    return {"count": func.count().filter(known), "spread": percentiles.filter(known)}


def _services(days: Days, zone: ZoneInfo) -> Subquery:
    """Return the orders that were performed in a period, each once, with what is known of them."""
    step, item = PerformedStepRow, PerformedItemRow
    performed = (
        select(
            item.order_ref.label("order_id"),
            step.started.label("started"),
            step.modality.label("modality"),
            step.station_ae_title.label("station"),
        )
        .join(step, step.id == item.performed_ref)
        .where(
            step.started >= days.begin,
            step.started < days.end,
            step.status != PerformedStatus.DISCONTINUED,
            item.order_ref.is_not(None),
        )
        .ext(distinct_on(item.order_ref))
        .order_by(item.order_ref, step.started)
        .subquery("performed")
    )
    attached = (
        select(
            AttachmentRow.order_ref,
            func.min(listing.arrival_of(AttachmentRow.study_instance_uid)).label("arrived"),
            func.sum(listing.instances_of(AttachmentRow.study_instance_uid)).label("images"),
        )
        .where(AttachmentRow.order_ref == performed.c.order_id, AttachmentRow.detached_at.is_(None))
        .group_by(AttachmentRow.order_ref)
        .lateral("attached")
    )
    first = (
        select(VersionRow.authored_at, VersionRow.reader["name"].astext.label("reader"))
        .join(ReportOrderRow, ReportOrderRow.report_id == VersionRow.report_id)
        .where(
            ReportOrderRow.order_id == performed.c.order_id,
            ReportOrderRow.live,
            VersionRow.version > 0,
            VersionRow.status.in_(SIGNED),
        )
        .order_by(VersionRow.authored_at)
        .limit(1)
        .lateral("first")
    )
    room = func.nullif(MachineRow.room, "")
    return (
        select(
            performed.c.order_id,
            OrderRow.issued_at.label("ordered"),
            performed.c.started,
            _local(attached.c.arrived, zone).label("arrived"),
            _local(first.c.authored_at, zone).label("signed"),
            cast(func.date(performed.c.started), Text).label("day"),
            performed.c.modality,
            func.coalesce(room, performed.c.station).label("room"),
            func.coalesce(first.c.reader, "").label("reader"),
            attached.c.images,
        )
        .select_from(performed)
        .join(OrderRow, OrderRow.id == performed.c.order_id)
        .outerjoin(MachineRow, MachineRow.ae_title == performed.c.station)
        .outerjoin(attached, literal(True))  # noqa: FBT003
        .outerjoin(first, literal(True))  # noqa: FBT003
        .subquery("services")
    )


def _signed(days: Days, zone: ZoneInfo) -> Subquery:
    """Return the reports that were signed for the first time in a period."""
    version, step, item = VersionRow, PerformedStepRow, PerformedItemRow
    signed = (
        select(
            version.report_id,
            version.authored_at,
            version.reader["name"].astext.label("reader"),
        )
        .where(
            version.report_id.in_(
                select(version.report_id)
                .where(
                    version.authored_at >= days.begin.replace(tzinfo=zone),
                    version.authored_at < days.end.replace(tzinfo=zone),
                    version.version > 0,
                    version.status.in_(SIGNED),
                )
                .correlate(None)
            ),
            version.version > 0,
            version.status.in_(SIGNED),
        )
        .ext(distinct_on(version.report_id))
        .order_by(version.report_id, version.version)
        .subquery("signed")
    )
    place = (
        select(step.modality, step.station_ae_title.label("station"))
        .join(item, item.performed_ref == step.id)
        .join(ReportOrderRow, ReportOrderRow.order_id == item.order_ref)
        .where(
            ReportOrderRow.report_id == signed.c.report_id,
            step.status != PerformedStatus.DISCONTINUED,
        )
        .order_by(step.started)
        .limit(1)
        .lateral("place")
    )
    at = _local(signed.c.authored_at, zone)
    room = func.nullif(MachineRow.room, "")
    return (
        select(
            cast(func.date(at), Text).label("day"),
            func.coalesce(place.c.modality, "").label("modality"),
            func.coalesce(room, place.c.station, "").label("room"),
            func.coalesce(signed.c.reader, "").label("reader"),
        )
        .select_from(signed)
        .outerjoin(place, literal(True))  # noqa: FBT003
        .outerjoin(MachineRow, MachineRow.ae_title == place.c.station)
        .where(at >= days.begin, at < days.end)
        .subquery("reports_signed")
    )


def _local(instant: Any, zone: ZoneInfo) -> Any:  # noqa: ANN401 - columns
    """Return what the wall clock of the hospital showed."""
    return func.timezone(zone.key, instant)


def _key(base: Subquery, group: Group) -> ColumnElement[str]:
    if group is Group.ALL:
        # an expression over a column, so that there is no row when there is nothing to count
        every: ColumnElement[str] = case((base.c.day == "", "all"), else_="all")
        return every
    named: ColumnElement[str] = base.c[str(group)]
    return named
