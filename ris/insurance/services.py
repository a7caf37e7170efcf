"""The services that were performed, of an order or of a day, and what is told of them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, tzinfo
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import BigInteger, any_, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import aliased

from ris import machines, orders
from ris.insurance.model import Person, Service
from ris.listing import requests
from ris.listing.requests import Request
from ris.model import RequestedProcedure
from ris.reports import contents, practitioners
from ris.reports.model import Practitioner
from ris.reports.states import SIGNED
from ris.reports.tables import ReportOrderRow, ReportRow, VersionRow
from ris.study_tables import PerformedItemRow, PerformedStepRow
from ris.verdict import PerformedStatus
from storage.base import names
from storage.base.errors import NotFound
from storage.db.engine import Session

_TITLES: Final = frozenset(
    {
        *("BS", "BSCK", "BSCKI", "BSCKII", "CKI", "CKII", "BSNT", "DR", "I", "II"),
        *("THS", "TS", "GS", "PGS", "KTV", "CN", "DD"),
    }
)
"""What stands before names of staff."""
_SERIES, _PEOPLE = "PerformedSeriesSequence", ("OperatorsName", "PerformingPhysicianName")


class By(StrEnum):
    """Which time puts a service into a day."""

    PERFORMED = "performed"
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class Page:
    """Some services of a day."""

    services: tuple[Service, ...]
    after: int | None
    """Behind which order the next page begins; None: there is none."""


def of_order(session: Session, number: str, zone: tzinfo) -> list[Service]:
    """Return the performed services of the orders of a number (accession, placer, filler).

    Raises
    ------
    NotFound
        No order has that number.
    """
    found = orders.find_by_number(session, number.replace("\0", ""))
    if not found:
        raise NotFound("no order has that number")
    return _load(session, [one.id for one in found], zone)


def of_day(
    session: Session, day: date, by: By, zone: tzinfo, *, limit: int, after: int = 0
) -> Page:
    """Return the services of `limit` orders of a day, behind the order `after`."""
    statement = _performed_on(day) if by is By.PERFORMED else _signed_on(day, zone)
    ids = session.scalars(
        select(statement.c.order_id)
        .where(statement.c.order_id > after)
        .distinct()
        .order_by(statement.c.order_id)
        .limit(limit + 1)
    ).all()
    page = ids[:limit]
    further = page[-1] if len(ids) > limit else None
    return Page(tuple(_load(session, page, zone)), further)


def _performed_on(day: date) -> Any:  # noqa: ANN401 - a subquery
    begin = datetime.combine(day, time.min)
    return (
        select(PerformedItemRow.order_ref.label("order_id"))
        .join(PerformedStepRow, PerformedStepRow.id == PerformedItemRow.performed_ref)
        .where(
            PerformedStepRow.started >= begin,
            PerformedStepRow.started < begin + timedelta(days=1),
            PerformedStepRow.status != PerformedStatus.DISCONTINUED,
            PerformedItemRow.order_ref.is_not(None),
        )
        .subquery()
    )


def _signed_on(day: date, zone: tzinfo) -> Any:  # noqa: ANN401 - a subquery
    begin = datetime.combine(day, time.min, zone)
    earlier = aliased(VersionRow)
    before = select(earlier.id).where(
        earlier.report_id == VersionRow.report_id,
        earlier.version > 0,
        earlier.version < VersionRow.version,
        earlier.status.in_(SIGNED),
    )
    return (
        select(ReportOrderRow.order_id.label("order_id"))
        .join(VersionRow, VersionRow.report_id == ReportOrderRow.report_id)
        .join(ReportRow, ReportRow.id == ReportOrderRow.report_id)
        .where(
            VersionRow.authored_at >= begin,
            VersionRow.authored_at < begin + timedelta(days=1),
            VersionRow.version > 0,
            VersionRow.status.in_(SIGNED),
            ReportRow.status.in_(SIGNED),
            ReportOrderRow.live,
            ~before.exists(),
        )
        .subquery()
    )


# What is known of an order's services


@dataclass(frozen=True, slots=True)
class _Performed:
    """One performed step, as far as it is about one order."""

    order_id: int
    procedure_id: int | None
    ae_title: str
    started: datetime | None
    ended: datetime | None
    people: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Result:
    """The signed result of an order."""

    uid: str
    version: int
    signed_at: datetime
    reader: Practitioner
    findings: str
    impression: str
    reports: int


def _load(session: Session, ids: Collection[int], zone: tzinfo) -> list[Service]:
    if not ids:
        return []
    known = requests.load(session, ids)
    performed = _performed(session, ids)
    results = _results(session, ids, zone)
    codes = machines.of_titles(
        session, {one.ae_title for held in performed.values() for one in held}
    )
    register = _Register(practitioners.list_all(session))
    found: list[Service] = []
    for order_id in sorted(known):
        request, steps = known[order_id], performed.get(order_id, [])
        for procedure in request.procedures:
            mine = [one for one in steps if one.procedure_id in {None, procedure.id}]
            if mine and not procedure.canceled:
                service = _service(request, procedure, mine, results.get(order_id), register)
                found.append(service)
    return _with_machines(session, found, {title: one.machine_code for title, one in codes.items()})


def _service(
    request: Request,
    procedure: RequestedProcedure,
    performed: Sequence[_Performed],
    result: _Result | None,
    register: "_Register",
) -> Service:
    order, code = request.order, procedure.code
    starts = [one.started for one in performed if one.started]
    ends = [one.ended for one in performed if one.ended]
    people = dict.fromkeys(name for one in performed for name in one.people)
    asked_by = order.requesting_physician
    return Service(
        order_id=order.id,
        procedure_id=procedure.id,
        patient_id=request.patient.root,
        placer_order_number=order.placer_order_number,
        accession_number=order.accession_number,
        admission_id=request.visit.admission_id if request.visit else "",
        code=code.value if code else "",
        name=(code.meaning if code else "") or procedure.description,
        diagnosis=order.reason.value if order.reason else "",
        ordered_at=order.issued_at,
        started_at=min(starts, default=None),
        ended_at=max(ends, default=None),
        resulted_at=result.signed_at if result else None,
        requester=register.find(asked_by) if asked_by.strip() else None,
        performers=tuple(map(register.find, people)),
        reader=Person(result.reader.name, result.reader.licence_number) if result else None,
        findings=result.findings if result else "",
        impression=result.impression if result else "",
        ae_titles=tuple(dict.fromkeys(one.ae_title for one in performed if one.ae_title)),
        machine_codes=(),
        report_uid=result.uid if result else "",
        report_version=result.version if result else None,
        reports=result.reports if result else 0,
        beside=(),
    )


def _performed(session: Session, ids: Collection[int]) -> Mapping[int, list[_Performed]]:
    statement = (
        select(PerformedItemRow, PerformedStepRow)
        .join(PerformedStepRow, PerformedStepRow.id == PerformedItemRow.performed_ref)
        .where(
            PerformedItemRow.order_ref == any_(literal([*ids], ARRAY(BigInteger))),
            PerformedStepRow.status != PerformedStatus.DISCONTINUED,
        )
        .order_by(PerformedStepRow.started, PerformedItemRow.id)
    )
    found: dict[int, list[_Performed]] = {}
    for item, step in session.execute(statement):
        order_id = item.order_ref or 0
        one = _Performed(
            order_id,
            item.procedure_ref,
            step.station_ae_title,
            step.started,
            step.ended,
            tuple(_people(step.attributes)),
        )
        found.setdefault(order_id, []).append(one)
    return found


def _people(attributes: Mapping[str, Any]) -> Iterator[str]:
    series = attributes.get(_SERIES)
    for one in series if isinstance(series, list) else ():
        for keyword in _PEOPLE:
            text = one.get(keyword, "") if isinstance(one, dict) else ""
            yield from (part for part in str(text).split("\\") if part.strip())


def _results(session: Session, ids: Collection[int], zone: tzinfo) -> Mapping[int, _Result]:
    statement = (
        select(ReportOrderRow.order_id, ReportRow, VersionRow)
        .join(ReportRow, ReportRow.id == ReportOrderRow.report_id)
        .join(VersionRow, VersionRow.report_id == ReportRow.id)
        .where(
            ReportOrderRow.order_id == any_(literal([*ids], ARRAY(BigInteger))),
            ReportOrderRow.live,
            ReportRow.status.in_(SIGNED),  # not what an approval was withdrawn of
            VersionRow.version > 0,
            VersionRow.status.in_(SIGNED),
        )
        .order_by(ReportRow.id, VersionRow.version)
    )
    signed: dict[int, list[tuple[ReportRow, VersionRow]]] = {}
    for order_id, report, version in session.execute(statement):
        signed.setdefault(order_id, []).append((report, version))
    return {order_id: _result(held, zone) for order_id, held in signed.items()}


def _result(held: Sequence[tuple[ReportRow, VersionRow]], zone: tzinfo) -> _Result:
    report, last = held[-1]
    first = next(version for one, version in held if one is report)
    content = contents.from_json(last.content)
    added = (f"{one.author}: {one.text}" for one in content.addenda)
    return _Result(
        uid=report.uid,
        version=last.version,
        signed_at=first.authored_at.astimezone(zone).replace(tzinfo=None),
        reader=Practitioner(**last.reader),
        findings=content.findings,
        impression="\n".join(part for part in (content.impression, *added) if part),
        reports=len({one.id for one, _ in held}),
    )


class _Register:
    """Finds the licence of somebody by name: only if one person alone has it."""

    def __init__(self, people: Sequence[Practitioner]) -> None:
        self._licences: dict[tuple[str, ...], set[str]] = {}
        for one in people:
            if one.licence_number:
                self._licences.setdefault(_key(one.name), set()).add(one.licence_number)

    def find(self, text: str) -> Person:
        """Return who is meant by a name, in VR PN or as it is written."""
        known = self._licences.get(_key(text), set())
        return Person(names.in_reading_order(text), next(iter(known)) if len(known) == 1 else "")


def _key(text: str) -> tuple[str, ...]:
    return tuple(sorted(word for word in names.words(text) if word not in _TITLES))


def _with_machines(
    session: Session, services: Sequence[Service], codes: Mapping[str, str]
) -> list[Service]:
    beside = _beside(session, services)
    return [
        replace(
            one,
            machine_codes=tuple(
                dict.fromkeys(codes[title] for title in one.ae_titles if codes.get(title))
            ),
            beside=beside.get(one.order_id, ()),
        )
        for one in services
    ]


def _beside(session: Session, services: Sequence[Service]) -> Mapping[int, tuple[str, ...]]:
    """Return by order what else was done on its machines at the same time."""
    ids = [one.order_id for one in services]
    mine, other = aliased(PerformedStepRow), aliased(PerformedStepRow)
    my_item, other_item = aliased(PerformedItemRow), aliased(PerformedItemRow)
    statement = (
        select(my_item.order_ref, other_item.accession_number, other_item.study_instance_uid)
        .join(mine, mine.id == my_item.performed_ref)
        .join(
            other,
            (other.station_ae_title == mine.station_ae_title)
            & (other.id != mine.id)
            & (other.started > mine.started - LONGEST)
            & (other.started < mine.ended)
            & (other.ended > mine.started),
        )
        .join(other_item, other_item.performed_ref == other.id)
        .where(
            my_item.order_ref == any_(literal(ids, ARRAY(BigInteger))),
            mine.station_ae_title > "",
            mine.synthesised.is_(False),
            other.synthesised.is_(False),
            *(one.status != PerformedStatus.DISCONTINUED for one in (mine, other)),
            or_(other_item.order_ref.is_(None), other_item.order_ref != my_item.order_ref),
            func.coalesce(other_item.study_instance_uid, "") != my_item.study_instance_uid,
        )
        .distinct()
    )
    found: dict[int, tuple[str, ...]] = {}
    for order_ref, accession, uid in session.execute(statement):
        order_id = order_ref or 0
        found[order_id] = (*found.get(order_id, ()), accession or uid)
    return found


LONGEST: Final = timedelta(hours=12)
"""Nothing takes longer on a machine."""
