"""Reports that another system writes: each result it tells of becomes a version.

    order by placer number, accession number, filler number ─┐
    study by its UID ────────────────────────────────────────┴─ same patient ─ version

The other system signs, numbers and corrects; here its versions are kept in their order of time, and
what is older than the newest is left. Nobody here changes such a report, and it is not told to
others: its maker tells them. Whatever is not certain is a dead letter for a person.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import uuid4

from sqlalchemy import select

from ris import locks, orders, patients
from ris.model import Order, OrderState
from ris.reports import contents, queries, records, releasing, subjects, verbs, writing
from ris.reports.faults import refused
from ris.reports.model import Content, Practitioner, Subject
from ris.reports.states import RULES, SIGNED, Action, Status
from ris.reports.tables import ReportOrderRow, ReportRow
from ris.reports.writing import Step
from ris.requests import Applied, Context, PatientRequest, ResultRequest
from storage.base.clock import utc_now
from storage.base.errors import Conflict, NotFound
from storage.db.engine import Session
from storage.jobs import queue as jobs

KEEP_PAPER: Final = "pacs.keep_received_paper"
# HL7 table 0123; what is not here is no report yet
_STATUSES: Final[Mapping[str, Status]] = {
    "P": Status.PRELIMINARY,
    "R": Status.PRELIMINARY,
    "A": Status.PRELIMINARY,
    "F": Status.FINAL,
    "C": Status.CORRECTED,
    "X": Status.CANCELLED,
}
_ACTIONS: Final[Mapping[Status, Action]] = {
    Status.PRELIMINARY: Action.RELEASE,
    Status.FINAL: Action.APPROVE,
    Status.CORRECTED: Action.CORRECT,
    Status.CANCELLED: Action.CANCEL,
    Status.RETRACTED: Action.RETRACT,
}
_OVER: Final = frozenset({Status.CANCELLED, Status.RETRACTED})


def take(
    session: Session, context: Context, patient: PatientRequest, result: ResultRequest
) -> Applied:
    """Do with one result what it says.

    Raises
    ------
    NotFound
        No order and no study is known by what it names.
    Conflict
        They are of another patient, several orders may be meant, or the order has a report of ours.
    """
    wanted = Status.RETRACTED if result.withdrawn else _STATUSES.get(result.status)
    if wanted is None:
        return Applied("noted", result.placer_order_number)
    order, uid = _subject_of(session, patient, result)
    if order is not None:
        locks.lock_orders(session, [order.id])
    content = contents.cleaned(_content(result))
    if _is_echo(session, context.sender, order, content):
        return _applied("unchanged", order, "what we told of our report came back")
    row = _held(session, context.sender, order, uid)
    at = result.reported_at or context.sent_at
    if row is not None and _is_older(at, row.source_at):
        return _applied("stale", order, "older than the newest version: left as it is")
    over = row is not None and Status(row.status) in _OVER
    if row is None or over:
        becomes = None if over and wanted in _OVER else wanted
        if becomes is not None:
            row = _new(session, context.sender, order, uid)
    else:
        known = records.report_of(session, row)
        becomes = _after(known.status, wanted, same=known.latest.content == content)
        content = known.latest.content if becomes in _OVER else content
    if row is None or becomes is None:
        return _applied("unchanged", order)
    row.source_at = at or row.source_at
    _write(session, context, row, becomes, content, result)
    return _applied(becomes.value, order)


def _after(current: Status, wanted: Status, *, same: bool) -> Status | None:
    """Return the state that a result leads to, None when it says nothing new."""
    signed = current in SIGNED
    if wanted is Status.PRELIMINARY:
        return None if signed or same else wanted
    if wanted in {Status.FINAL, Status.CORRECTED}:
        if signed:
            return None if same else Status.CORRECTED
        return wanted
    return Status.RETRACTED if signed else wanted


def _subject_of(
    session: Session, patient: PatientRequest, result: ResultRequest
) -> tuple[Order | None, str]:
    """Return the order and the study of a result, of the patient that it names."""
    numbers = {one.value for one in (patient.identifier, *patient.other_identifiers)}
    found = _orders(session, result)
    own = [one for one in found if _belongs(session, one, numbers)]
    if found and not own:
        raise Conflict("PID-3: the order is of another patient")
    if len(own) > 1:
        raise Conflict("OBR-2: several orders have this number")
    if own:
        uids = orders.studies_of(session, own[0].id)
        return own[0], result.study_instance_uid or next(iter(uids), "")
    subject = (
        subjects.of_study(session, result.study_instance_uid) if result.study_instance_uid else None
    )
    if subject is None:
        raise NotFound("OBR-2: no order has this number, and no study is held of it")
    if _key(subject.patient_id) not in {*map(_key, numbers)}:
        raise Conflict("PID-3: the study is of another patient")
    return None, result.study_instance_uid


def _orders(session: Session, result: ResultRequest) -> list[Order]:
    """Return the orders that a result may be for, by the first of its numbers that is known."""
    named = [
        orders.find_by_number(session, number)
        for number in (
            *(result.placer_order_number, result.accession_number),
            result.filler_order_number,
        )
    ]
    if result.study_instance_uid:
        named.append(orders.of_study(session, result.study_instance_uid))
    for some in named:
        if open_ones := [one for one in some if one.state is not OrderState.CANCELED]:
            return open_ones
    return []


def _belongs(session: Session, order: Order, numbers: set[str]) -> bool:
    shown = patients.shown(session, order.patient_id)
    own = patients.get(session, order.patient_id)
    known = {_key(one.value) for one in (*shown.identifiers, *own.identifiers)}
    return bool(known & {*map(_key, numbers)})


def _key(number: str) -> str:
    return number.strip().lstrip("0").casefold()


def _held(session: Session, source: str, order: Order | None, uid: str) -> ReportRow | None:
    """Return the newest report of the order, or of the study where there is none."""
    statement = select(ReportRow).order_by(ReportRow.id.desc()).limit(1)
    if order is not None:
        of_order = select(ReportOrderRow.report_id).where(ReportOrderRow.order_id == order.id)
        live = of_order.where(ReportOrderRow.live)
        other = select(ReportRow.id).where(ReportRow.id.in_(live), ReportRow.source != source)
        if session.scalar(other) is not None:
            raise refused("order_has_report", order=order.id)
        statement = statement.where(ReportRow.id.in_(of_order))
    else:
        statement = statement.where(ReportRow.study_instance_uids.contains([uid]))
    statement = statement.where(ReportRow.source == source)
    return session.scalar(statement.with_for_update().execution_options(populate_existing=True))


def _is_echo(session: Session, source: str, order: Order | None, content: Content) -> bool:
    """Whether a result only repeats a report of ours, as systems do that pass on all results."""
    if order is None:
        return False
    of_order = select(ReportOrderRow.report_id).where(
        ReportOrderRow.order_id == order.id, ReportOrderRow.live
    )
    wanted = ReportRow.id.in_(of_order), ReportRow.source != source, ReportRow.version > 0
    row = session.scalar(select(ReportRow).where(*wanted))
    if row is None:
        return False
    issued = queries.last_issued(session, records.report_of(session, row))
    told = _words(content.findings, content.impression, content.recommendation)
    ours = [issued.content.findings, issued.content.impression] if issued else []
    return any(ours) and all(_words(text) in told for text in ours)


def _words(*texts: str) -> str:
    return " ".join(" ".join(texts).split())


def _is_older(at: datetime | None, newest: datetime | None) -> bool:
    return at is not None and newest is not None and at < newest


def _new(session: Session, source: str, order: Order | None, uid: str) -> ReportRow:
    now = utc_now()
    row = ReportRow(
        uid=uuid4().hex,
        status=Status.DRAFT,
        revision=0,
        version=0,
        study_instance_uids=[uid] if uid else [],
        accession_numbers=[order.accession_number] if order and order.accession_number else [],
        language="vi",
        second_reading=False,
        retraction_asked_by="",
        locked_by="",
        locked_name="",
        source=source,
        created_at=now,
        changed_at=now,
    )
    session.add(row)
    session.flush()
    if order is not None:
        session.add(ReportOrderRow(report_id=row.id, order_id=order.id, live=True))
        session.flush()
    return row


def _write(
    session: Session,
    context: Context,
    row: ReportRow,
    status: Status,
    content: Content,
    result: ResultRequest,
) -> None:
    action = _ACTIONS[status]
    author = Practitioner(
        code=f"{context.sender}:{result.author_id}", name=result.author_name or context.sender
    )
    statement = select(ReportOrderRow.order_id).where(ReportOrderRow.report_id == row.id)
    order_ids: Sequence[int] = session.scalars(statement).all()
    subject = subjects.present(session, order_ids, row.study_instance_uids) or Subject()
    step = Step(
        action=action, status=status, content=content, author=author, reader=author, subject=subject
    )
    version = writing.write(session, row, step)
    verbs.follow_orders(session, row, step, version)
    releasing.settle(session, row.uid)
    if status is Status.RETRACTED:
        jobs.enqueue(session, verbs.REJECT, report_uid=row.uid, revision=version.revision)
    elif result.paper_sha256 and RULES[action].signs:
        jobs.enqueue(
            session,
            KEEP_PAPER,
            report_uid=row.uid,
            revision=version.revision,
            message_id=context.message_id,
            part=result.part,
        )


def _content(result: ResultRequest) -> Content:
    return Content(
        findings=result.findings,
        impression=result.impression,
        recommendation=result.recommendation,
    )


def _applied(outcome: str, order: Order | None, *notes: str) -> Applied:
    placer = order.placer_order_number if order else ""
    filler = order.filler_order_number if order else ""
    return Applied(outcome, placer, filler, notes=notes)
