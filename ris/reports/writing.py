"""How one step becomes a version: written once, chained to the one before it."""

import secrets
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select

from ris.reports import contents, records, subjects
from ris.reports.model import Content, Practitioner, Subject
from ris.reports.records import json_of
from ris.reports.states import RULES, Action, Status
from ris.reports.tables import ReportRow, VersionRow
from storage.base.clock import utc_now
from storage.db.engine import Session

CODE_BYTES: Final = 12
"""Of a verify code: 96 random bits, which nobody guesses, in 16 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a version is made of."""

    action: Action
    status: Status
    content: Content
    author: Practitioner
    reader: Practitioner
    subject: Subject
    reason: str = ""


def write(session: Session, row: ReportRow, step: Step) -> VersionRow:
    """Write the next version of a report whose row is held for change."""
    rule = RULES[step.action]
    before = _digest(session, row)
    supersedes = _issued_revision(session, row) if rule.issues else None
    row.status = step.status
    row.revision += 1
    row.version += rule.issues
    row.changed_at = utc_now()
    version = VersionRow(
        report_id=row.id,
        revision=row.revision,
        version=row.version if rule.issues else 0,
        status=step.status,
        action=step.action,
        content=contents.to_json(step.content),
        content_sha256=contents.digest_of(step.content),
        author=json_of(step.author),
        reader=json_of(step.reader),
        authored_at=row.changed_at,
        reason=step.reason,
        supersedes=supersedes,
        subject=json_of(step.subject),
        images=subjects.images_of(session, row.study_instance_uids),
        verify_code=secrets.token_urlsafe(CODE_BYTES) if rule.signs else None,
    )
    version.digest = contents.chained(before, records.chained_facts(version, row.uid))
    session.add(version)
    session.flush()
    return version


def _digest(session: Session, row: ReportRow) -> str:
    statement = select(VersionRow.digest).where(
        VersionRow.report_id == row.id, VersionRow.revision == row.revision
    )
    return session.scalar(statement) or ""


def _issued_revision(session: Session, row: ReportRow) -> int | None:
    statement = (
        select(VersionRow.revision)
        .where(VersionRow.report_id == row.id, VersionRow.version > 0)
        .order_by(VersionRow.version.desc())
        .limit(1)
    )
    return session.scalar(statement)
