"""Reports as JSON: what is shown of them to whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from ris.reports import queries
from ris.reports.documents import Document
from ris.reports.model import Content, Flags, Lock, Practitioner, Report, Subject, Version
from ris.reports.states import ENDED, NAMES, NEXT, RULES, Action, Status
from storage.access.tokens import PERMITTED, Caller
from storage.access.tokens import Action as Permission
from storage.db.engine import Session


@dataclass(frozen=True, slots=True)
class VersionView:
    """One version; `content` is null where it is not to be shown."""

    revision: int
    version: int
    status: Status
    action: Action
    content: Content | None
    author: Practitioner
    reader: Practitioner
    authored_at: datetime
    reason: str
    supersedes: int | None
    subject: Subject
    images: Mapping[str, int]
    digest: str


@dataclass(frozen=True, slots=True)
class ReportView:
    """A report as its caller may see it."""

    uid: str
    status: Status
    status_name: Mapping[str, str]
    """By language."""
    revision: int
    version: int
    study_instance_uids: tuple[str, ...]
    order_ids: tuple[int, ...]
    accession_numbers: tuple[str, ...]
    language: str
    second_reading: bool
    retraction_asked: bool
    lock: Lock | None
    flags: Flags | None
    actions: tuple[Action, ...]
    """What the caller may try now."""
    source: str
    """The system of another maker that writes it; empty: it is written here."""
    created_at: datetime
    changed_at: datetime
    shown: VersionView | None
    """The newest version that the caller may see; null: none yet."""


@dataclass(frozen=True, slots=True)
class SignatureView:
    """What is kept of the signature of one paper."""

    revision: int
    sha256: str
    size: int
    method: str
    qualified: bool
    level: str
    algorithm: str
    subject: str
    issuer: str
    serial_number: str
    signed_at: datetime
    time_stamped_at: datetime | None

    @staticmethod
    def of(document: Document) -> "SignatureView":
        """Return it without the bytes of the certificate."""
        evidence = document.evidence
        return SignatureView(
            revision=document.revision,
            sha256=document.sha256,
            size=document.size,
            method=evidence.method,
            qualified=evidence.qualified,
            level=evidence.level,
            algorithm=evidence.algorithm,
            subject=evidence.subject,
            issuer=evidence.issuer,
            serial_number=evidence.serial_number,
            signed_at=evidence.signed_at,
            time_stamped_at=evidence.time_stamped_at,
        )


def writes(caller: Caller) -> bool:
    """Return whether the caller may see what was not issued."""
    return Permission.REPORT in PERMITTED[caller.role]


def view(session: Session, report: Report, caller: Caller, *, flags: bool = True) -> ReportView:
    """Return a report: drafts are seen by who writes reports, the others see what was issued."""
    author = writes(caller)
    shown = report.latest if author else queries.last_issued(session, report)
    status = shown.status if shown else Status.DRAFT
    names = NAMES[status].words
    return ReportView(
        uid=report.uid,
        status=status,
        status_name={"en": names.english, "vi": names.vietnamese},
        revision=shown.revision if shown else 0,
        version=report.version,
        study_instance_uids=report.study_instance_uids,
        order_ids=report.order_ids,
        accession_numbers=report.accession_numbers,
        language=report.language,
        second_reading=report.second_reading,
        retraction_asked=bool(report.retraction_asked_by),
        lock=report.lock if author else None,
        flags=queries.flags(session, report) if flags and report.version else None,
        actions=_actions(report) if author and not report.source else (),
        source=report.source,
        created_at=report.created_at,
        changed_at=report.changed_at,
        shown=version_view(shown, hidden=report.status is Status.RETRACTED) if shown else None,
    )


def version_view(version: Version, *, hidden: bool) -> VersionView:
    """Return one version; `hidden`: without its text."""
    return VersionView(
        revision=version.revision,
        version=version.version,
        status=version.status,
        action=version.action,
        content=None if hidden else version.content,
        author=version.author,
        reader=version.reader,
        authored_at=version.authored_at,
        reason=version.reason,
        supersedes=version.supersedes,
        subject=version.subject,
        images=version.images,
        digest=version.digest,
    )


def version_views(
    report: Report, versions: Sequence[Version], *, approver: bool
) -> list[VersionView]:
    """Return versions; the texts of a retracted report only for who may approve."""
    hidden = report.status is Status.RETRACTED and not approver
    return [version_view(one, hidden=hidden) for one in versions]


def _actions(report: Report) -> tuple[Action, ...]:
    if report.status in ENDED:
        return ()
    asked = bool(report.retraction_asked_by)
    answers = {Action.RETRACT, Action.DECLINE_RETRACTION}
    left_out = {Action.REQUEST_RETRACTION} if asked else answers
    return tuple(one for one in RULES if one in NEXT[report.status] and one not in left_out)
