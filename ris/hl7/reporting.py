"""From versions of reports to the messages that tell of them (`ris.hl7.results`).

    version ─┬─ nobody wants its paper ─────────────── told at once
             ├─ the paper is there ──────────────────── told with it
             └─ not yet ─ waits (`pdf_wait_s`) ─ told without, and once more when it is there

The messages of an order wait in one queue with those of its status. Papers are read before the
transaction that makes the messages; what was decided without one is looked at again in it.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import Final

from sqlalchemy import text

from ris import orders, outbox, patients, performed
from ris.hl7 import building, destinations, outgoing, results
from ris.hl7.destinations import Destination, Style
from ris.hl7.outgoing import Draft
from ris.hl7.results import ResultNews
from ris.outbox import ReportEvent
from ris.performed import PerformedStep
from ris.reports import criticals, documents, queries, subjects
from ris.reports.documents import Document
from ris.reports.faults import Missing
from ris.reports.model import Report, Version
from ris.reports.paper import composing
from ris.reports.states import RULES
from storage.archive import search
from storage.archive.model import Level as QueryLevel
from storage.archive.model import Query
from storage.base.clock import utc_now
from storage.base.errors import NotFound
from storage.db.engine import Engine, Session, transaction
from storage.objects.store import ObjectStore

log = logging.getLogger(__name__)

BATCH: Final = 50
LARGEST_PDF: Final = 20 << 20
"""Bytes of a paper that still goes into a message."""
_ONLY_ONE: Final = text("SELECT pg_try_advisory_xact_lock(4743210022)")


@dataclass(frozen=True, slots=True)
class _Telling:
    """One version, and what is to be told of it."""

    event: ReportEvent
    report: Report
    version: Version
    document: Document | None
    to: Sequence[tuple[Destination, int]]
    """Each destination that wants it, with the order that it is told of."""

    @property
    def wants_paper(self) -> bool:
        signed = RULES[self.version.action].signs
        return signed and any(_takes_paper(one.style) for one, _ in self.to)


def tell(
    engine: Engine, zone: tzinfo, store: ObjectStore | None, now: datetime | None = None
) -> int:
    """Make messages of the oldest versions of which none were made; return of how many.

    Without a `store` there are no papers.

    Raises
    ------
    StoreUnavailable
        The database or the store does not answer.
    """
    at = now or utc_now()
    with transaction(engine) as session:
        ready = [*_ready(session, at)]
    papers = {
        one.event.id: _paper(store, one.document)
        for one in ready
        if store is not None and one.document is not None and one.wants_paper
    }
    if not ready:
        return 0
    with transaction(engine) as session:
        if not session.scalar(_ONLY_ONE):
            return 0  # another process is at it
        still = {event.id for event in outbox.untold_reports(session, 2 * BATCH)}
        told = [one for one in ready if one.event.id in still and not _overtaken(session, one)]
        drafts = [
            draft for one in told for draft in _drafts(session, one, papers.get(one.event.id), zone)
        ]
        outgoing.enqueue(session, drafts)
        outbox.mark_reports_told(session, [one.event.id for one in told])
    if drafts:
        log.info("hl7_reports_told", extra={"count": len(drafts)})
    return len(told)


def concerns(style: Style, result_status: str, sender: str) -> bool:
    """Whether a destination wants to know of a result for an order of `sender`."""
    from_there = not style.senders or sender in style.senders
    wanted = not style.results or result_status in style.results
    return "reports" in style.tells and from_there and wanted


def _ready(session: Session, now: datetime) -> Iterator[_Telling]:
    """Yield what may be told now; a version waits for those before it."""
    known = [one for one in destinations.list_all(session) if "reports" in one.style.tells]
    waiting: set[str] = set()
    for event in outbox.untold_reports(session, BATCH):
        try:
            one = _telling(session, event, known)
        except Missing:
            log.warning("hl7_report_gone", extra={"reason": "a report that is told of is gone"})
            outbox.mark_reports_told(session, [event.id])
            continue
        if event.report_uid in waiting or (one.wants_paper and _waits(one, now)):
            waiting.add(event.report_uid)
        else:
            yield one


def _telling(session: Session, event: ReportEvent, known: Sequence[Destination]) -> _Telling:
    report = queries.get(session, event.report_uid)
    version = queries.version(session, event.report_uid, event.revision)
    status = results.status_of(version)
    to = []
    for order_id in report.order_ids if status else ():
        sender = _sender(session, order_id)
        to += [
            (one, order_id)
            for one in known
            if sender is not None
            and concerns(one.style, status, sender)
            and (not event.again or _takes_paper(one.style))
        ]
    return _Telling(
        event, report, version, documents.find(session, event.report_uid, event.revision), to
    )


def _sender(session: Session, order_id: int) -> str | None:
    try:
        return orders.get(session, order_id).sender
    except NotFound:
        log.warning("hl7_order_gone", extra={"reason": "an order that is told of is gone"})
        return None


def _takes_paper(style: Style) -> bool:
    return "pdf" in style.result_parts


def _waits(one: _Telling, now: datetime) -> bool:
    """Whether somebody who wants the paper still waits for it."""
    longest = max(to.style.pdf_wait_s for to, _ in one.to if _takes_paper(to.style))
    return one.document is None and now < one.event.happened_at + timedelta(seconds=longest)


def _overtaken(session: Session, one: _Telling) -> bool:
    """Whether the paper came between the decision to go without it and now."""
    if not one.wants_paper or one.document is not None:
        return False
    return documents.find(session, one.report.uid, one.version.revision) is not None


def _paper(store: ObjectStore, document: Document) -> bytes | None:
    """Return a signed paper, None for one that is not what was signed or too large."""
    if document.size > LARGEST_PDF:
        log.warning("hl7_paper_too_large", extra={"bytes": document.size})
        return None
    try:
        content = store.read(document.object_key)
    except NotFound:
        content = b""
    if hashlib.sha256(content).hexdigest() != document.sha256:
        log.error("hl7_paper_lost", extra={"object_key": document.object_key})
        return None
    return content


def _drafts(session: Session, one: _Telling, pdf: bytes | None, zone: tzinfo) -> Iterator[Draft]:
    known: dict[int, ResultNews] = {}
    for to, order_id in one.to:
        if order_id not in known:
            known[order_id] = _news(session, one, order_id, zone)
        news = known[order_id]
        with_paper = pdf if _takes_paper(to.style) else None
        control_id = building.new_control_id()
        yield Draft(
            to.name,
            f"order:{order_id}",
            control_id,
            f"ORU^R01 {news.result_status}",
            results.result_message(replace(news, pdf=with_paper), to.style, zone, control_id),
            [*_keys(news)],
        )


def _keys(news: ResultNews) -> Iterator[str]:
    order = news.order
    found: Mapping[str, Sequence[str]] = {
        "patient": [news.patient.identifier.value],
        "order": [order.placer_order_number, order.filler_order_number],
        "accession": [order.accession_number],
        "report": [news.report_uid],
    }
    for kind, values in found.items():
        yield from (f"{kind}:{value}" for value in values if value)


def _news(session: Session, one: _Telling, order_id: int, zone: tzinfo) -> ResultNews:
    order = orders.get(session, order_id)
    report, version = one.report, one.version
    uid = next(iter(report.study_instance_uids), "")
    study = subjects.study_of(session, report.study_instance_uids)
    done = _performed(session, order_id, report.study_instance_uids)
    steps = orders.steps_of(session, order_id)
    started = [step.started for step in done if step.started]
    ended = [step.ended for step in done if step.ended]
    addenda = [
        f"{added.added_at.astimezone(zone):%d/%m/%Y %H:%M} {added.author}: {added.text}"
        for added in version.content.addenda
    ]
    return ResultNews(
        report_uid=report.uid,
        version=version,
        language=report.language,
        notice=composing.notice(session, report, version, zone),
        addenda=addenda,
        order=order,
        patient=patients.shown(session, order.patient_id),
        visit=patients.visit(session, order.visit_id) if order.visit_id else None,
        procedures=orders.procedures_of(session, order_id),
        steps=steps,
        study_instance_uid=uid,
        started=min(started, default=study.performed_at),
        ended=max(ended, default=None),
        station=next((step.station_ae_title for step in done if step.station_ae_title), ""),
        modality=study.modality or next((step.modality for step in steps if step.modality), ""),
        operators=_operators(session, uid),
        critical=_critical(session, report.uid),
    )


def _critical(session: Session, report_uid: str) -> criticals.Level | None:
    """Return the most pressing level of what was found."""
    found = {one.level for one in criticals.of_report(session, report_uid)}
    return next((level for level in criticals.Level if level in found), None)


def _performed(session: Session, order_id: int, studies: Sequence[str]) -> list[PerformedStep]:
    """Return what was performed for an order, else what made the studies of its report."""
    of_order = performed.of_order(session, order_id)
    return of_order or [step for uid in studies for step in performed.of_study(session, uid)]


def _operators(session: Session, study_instance_uid: str) -> list[str]:
    if not study_instance_uid:
        return []
    query = Query(QueryLevel.SERIES, {"StudyInstanceUID": study_instance_uid})
    found = search.find(session, query, limit=100).matches
    people: list[str] = []
    for match in found:
        named = match["OperatorsName"] or ()
        people += [named] if isinstance(named, str) else [*named]
    return [*dict.fromkeys(one for one in people if one)]
