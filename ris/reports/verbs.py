"""What people do to reports; each call is one step of one transaction, and writes one version.

    open ─ claim ─ save … ─ submit ─ approve        (or release as preliminary in between)
    afterwards: unapprove, correct, addend, retract

A step names the revision that the person has seen. An issued version and the event for those
who are to be told of it are written in the same transaction.
"""

from dataclasses import replace
from typing import Final

from sqlalchemy import select, update

from ris import orders, outbox
from ris.reports import attaching, contents, locks, records, releasing, subjects, writing
from ris.reports.faults import Fault, Invalid, Refused, Words, refused
from ris.reports.model import (
    Addendum,
    Command,
    Content,
    Practitioner,
    Report,
    SecondReading,
    Subject,
    situation_of,
)
from ris.reports.states import ENDED, RULES, Action, Status, decide
from ris.reports.tables import ReportOrderRow, ReportRow, SecondReadingRow, VersionRow
from ris.reports.writing import Step
from storage.base.clock import utc_now
from storage.db.engine import Session
from storage.jobs import queue as jobs

DOCUMENT: Final = "pacs.document_report"
REJECT: Final = "pacs.reject_report"
"""What is done with a version afterwards: paper, signature, objects of the study."""
AGREEMENTS: Final = ("agree", "minor", "major")
"""What a second reader may find: no discrepancy, one without or with consequences."""
_ONE_READER: Final = Words("let one reader do", "chỉ cần một người đọc")


class Stale(Refused):
    """Another step came in between; `current` is the report as it is now."""

    def __init__(self, current: Report) -> None:
        super().__init__(Fault("stale", values={"author": current.latest.author.name}))
        self.current = current


def act(session: Session, person: Practitioner, uid: str, command: Command) -> Report:
    """Do one action; a `save` that changes nothing writes nothing.

    Raises
    ------
    Stale
        The report is not the one that the person has seen.
    Refused, NotAllowed
        `ris.reports.states.decide` forbids it.
    Invalid
        A reason is missing, the text cannot be used, or is not enough to be signed.
    """
    row = records.held(session, uid, for_change=True)
    report = records.report_of(session, row)
    if report.source:
        raise refused("foreign", source=report.source)
    if command.revision != report.revision:
        raise Stale(report)
    content = _content_after(report, command, person)
    changed = content != report.latest.content
    status = _decide(session, row, report, command.action, person, changed=changed)
    _require(command, content)
    if _tells_of_patient(command.action):
        attaching.require_at_home(session, report)
    if command.action is Action.SAVE:
        locks.hold(row, person)
    else:
        locks.let_go(row)
    if changed or command.action is not Action.SAVE:
        step = Step(
            action=command.action,
            status=status,
            content=content,
            author=person,
            reader=person if changed and not command.addendum else report.latest.reader,
            subject=_subject_after(session, report, command.action),
            reason=contents.check_short(command.reason, "/reason") or _asked(session, row, command),
        )
        _write(session, row, step)
    session.flush()
    return records.report_of(session, row)


def read_second(
    session: Session,
    person: Practitioner,
    uid: str,
    revision: int,
    agreement: str,
    comment: str = "",
) -> SecondReading:
    """Note that a second reader has read the text.

    Raises
    ------
    Stale
        The text is not the one that the person has read.
    Refused
        The person wrote it.
    Invalid
        The agreement is none of `AGREEMENTS`.
    """
    if agreement not in AGREEMENTS:
        raise Invalid(Fault("unknown_value", "/agreement", {"known": ", ".join(AGREEMENTS)}))
    row = records.held(session, uid, for_change=True)
    report = records.report_of(session, row)
    if revision != report.revision:
        raise Stale(report)
    if report.latest.reader.code == person.code:
        raise refused("own_reading")
    read = SecondReading(
        revision, person, agreement, contents.check_short(comment, "/comment"), utc_now()
    )
    session.add(
        SecondReadingRow(
            report_id=row.id,
            revision=revision,
            content_sha256=contents.digest_of(report.latest.content),
            reader=records.json_of(person),
            agreement=read.agreement,
            comment=read.comment,
            read_at=read.read_at,
        )
    )
    session.flush()
    return read


def require_second_reading(
    session: Session, person: Practitioner, uid: str, *, required: bool
) -> Report:
    """Say whether two persons have to read a report; only an approver takes the demand back.

    Raises
    ------
    Refused
        Somebody else works on it.
    NotAllowed
        The person may not take it back.
    """
    row = records.held(session, uid, for_change=True)
    locks.require_free(row, person)
    if not required:
        locks.require_approver(person, _ONE_READER)
    row.second_reading = required
    session.flush()
    return records.report_of(session, row)


def _decide(
    session: Session,
    row: ReportRow,
    report: Report,
    action: Action,
    person: Practitioner,
    *,
    changed: bool,
) -> Status:
    read = records.second_readers(session, row.id, contents.digest_of(report.latest.content))
    return decide(
        situation_of(report, read),
        action,
        person.code,
        utc_now(),
        approver=person.may_approve,
        changed=changed,
    )


def _content_after(report: Report, command: Command, person: Practitioner) -> Content:
    before = report.latest.content
    if command.action is Action.ADDEND:
        text = contents.check_short(command.addendum, "/addendum", contents.MOST_CHARACTERS)
        if not text:
            raise Invalid(Fault("required", "/addendum"))
        return replace(before, addenda=(*before.addenda, Addendum(text, person.name, utc_now())))
    if command.content is None or not RULES[command.action].takes_content:
        return before
    return contents.cleaned(replace(command.content, addenda=before.addenda))


def _require(command: Command, content: Content) -> None:
    rule = RULES[command.action]
    if rule.reason and not contents.check_short(command.reason, "/reason"):
        raise Invalid(Fault("needs_reason", "/reason"))
    if rule.signs:
        contents.require_complete(content)


def _tells_of_patient(action: Action) -> bool:
    """Return whether others get a text of a patient by it."""
    return RULES[action].signs or action is Action.RELEASE


def _subject_after(session: Session, report: Report, action: Action) -> Subject:
    """Return the patient as a version has it: the present one when others are told of a text."""
    if not _tells_of_patient(action):
        return report.latest.subject
    found = subjects.present(session, report.order_ids, report.study_instance_uids)
    return found or report.latest.subject


def _write(session: Session, row: ReportRow, step: Step) -> None:
    """Write the version and what follows from it."""
    if step.action is Action.REQUEST_RETRACTION:
        row.retraction_asked_by = step.author.code
    elif step.action in {Action.DECLINE_RETRACTION, Action.RETRACT}:
        row.retraction_asked_by = ""
    version = writing.write(session, row, step)
    follow_orders(session, row, step, version)
    if RULES[step.action].issues:
        outbox.enqueue_report(session, row.uid, version.revision, version.authored_at)
        releasing.settle(session, row.uid)
    job = REJECT if step.status is Status.RETRACTED else DOCUMENT
    if RULES[step.action].signs or job == REJECT:
        jobs.enqueue(session, job, report_uid=row.uid, revision=version.revision)


def _asked(session: Session, row: ReportRow, command: Command) -> str:
    """Return why the retraction was asked for that is confirmed now; others are told of it."""
    if command.action is not Action.RETRACT:
        return ""
    statement = select(VersionRow.reason).where(
        VersionRow.report_id == row.id, VersionRow.action == Action.REQUEST_RETRACTION
    )
    return session.scalar(statement.order_by(VersionRow.revision.desc()).limit(1)) or ""


def follow_orders(session: Session, row: ReportRow, step: Step, version: VersionRow) -> None:
    """Let the orders of a report follow what was written."""
    _mark_orders(session, row, step, version)
    if step.status in ENDED:
        _free_orders(session, row)


def _mark_orders(session: Session, row: ReportRow, step: Step, version: VersionRow) -> None:
    """Let the orders know that a signed report is there, or not there any more."""
    signs, retracted = RULES[step.action].signs, step.status is Status.RETRACTED
    if not signs and not retracted:
        return
    statement = select(ReportOrderRow.order_id).where(ReportOrderRow.report_id == row.id)
    for order_id in session.scalars(statement.order_by(ReportOrderRow.order_id)):
        orders.mark_reported(session, order_id, version.authored_at if signs else None)


def _free_orders(session: Session, row: ReportRow) -> None:
    """Let the orders have another report."""
    session.execute(
        update(ReportOrderRow)
        .where(ReportOrderRow.report_id == row.id)
        .values(live=False)
        .execution_options(synchronize_session=False)
    )
