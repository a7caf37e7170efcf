"""Reports under ``/api/v1/reports``: write them, take them through their states, read them.

Every change names the revision that its writer has seen; when another came in between, the
answer is 409 with the report as it is now. Texts of errors come in the language that the
client asks for (Accept-Language: vi or en).
"""

from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pacs import reporting
from ris.reports import documents, locks, opening, practitioners, queries, releasing, verbs
from ris.reports.model import Command, Content, Opening, Practitioner, Report, SecondReading
from ris.reports.queries import Search
from ris.reports.states import Action, Status
from ris.reports.verbs import Stale
from storage.access.tokens import Action as Permission
from storage.audit.model import Kind
from storage.db.engine import Session
from viewer_api import deps, problems
from viewer_api.deps import Transaction
from viewer_api.rest import noting, report_views
from viewer_api.rest.report_views import ReportView, SignatureView, VersionView

router = APIRouter(
    prefix="/api/v1/reports",
    tags=["reports"],
    dependencies=[Depends(deps.may(Permission.READ_REPORTS))],
)
WRITES: Final = [Depends(deps.may(Permission.REPORT))]

_VIEW: Final = TypeAdapter(ReportView)
_READING: Final = TypeAdapter(SecondReading)
_JSON: Final = "application/json"
MAX_BIGINT: Final = 2**63 - 1
Uid = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
OrderId = Annotated[int, Field(ge=1, le=MAX_BIGINT)]
Revision = Annotated[int, Field(ge=1, le=MAX_BIGINT)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OpeningRequest(_Request):
    """What a new report is about: studies, orders, or both."""

    study_instance_uids: tuple[str, ...] = ()
    order_ids: tuple[OrderId, ...] | None = None
    language: str = "vi"
    second_reading: bool = False
    content: Content = Content()


class LockRequest(_Request):
    """A claim; `take_over` with a `reason` takes it from somebody else."""

    minutes: Annotated[int, Field(ge=1, le=240)] = 15
    take_over: bool = False
    reason: str = ""


class ActionRequest(_Request):
    """One action; without `content` the text stays as it is."""

    revision: Revision
    content: Content | None = None
    addendum: str = ""
    reason: str = ""


class SecondReadingRequest(_Request):
    """What a second reader found."""

    revision: Revision
    agreement: str
    comment: str = ""


class SecondReaderRequest(_Request):
    """Whether two persons have to read the report."""

    required: bool


class ReportSearch(_Request):
    """Which reports are wanted; `order_missing`: those that nobody else is told of."""

    status: tuple[Status, ...] = ()
    study_instance_uid: str = ""
    accession_number: str = ""
    order_id: OrderId | None = None
    order_missing: bool = False
    limit: Annotated[int, Field(ge=1, le=500)] = 100
    before: str = ""


def person_of(request: Request, session: Session) -> Practitioner:
    """Return who acts; `NotAllowed` when the caller is no practitioner."""
    caller = deps.caller_of(request)
    return practitioners.acting(session, caller.user or caller.prefix)


@router.get("")
def list_reports(
    request: Request,
    session: Transaction,
    search: Annotated[ReportSearch, Query()],
) -> list[ReportView]:
    """List reports, newest first; `before` is the uid of the last one seen."""
    caller = deps.caller_of(request)
    wanted = Search(
        statuses=search.status,
        study_instance_uid=search.study_instance_uid,
        accession_number=search.accession_number,
        order_id=search.order_id,
        order_missing=search.order_missing,
        issued=not report_views.writes(caller),
    )
    found = queries.find(session, wanted, limit=search.limit, before=search.before)
    named = search.study_instance_uid or search.accession_number or search.order_id
    if named and found:  # somebody looks for this one patient
        noting.note(request, session, Kind.LIST, *(_of(session, one) for one in found))
    elif wanted.issued:  # a reading room looks every few seconds
        noting.note(request, session, Kind.LIST, {"details": {"count": len(found)}})
    return [report_views.view(session, one, caller, flags=False) for one in found]


@router.post("", status_code=201, dependencies=WRITES)
def open_report(request: Request, session: Transaction, body: OpeningRequest) -> ReportView:
    """Begin a report; the caller has claimed it then."""
    asked = Opening(
        study_instance_uids=body.study_instance_uids,
        order_ids=body.order_ids,
        language=body.language,
        second_reading=body.second_reading,
        content=body.content,
    )
    report = opening.open_report(session, person_of(request, session), asked)
    return report_views.view(session, report, deps.caller_of(request))


@router.get("/{uid}")
def get_report(request: Request, session: Transaction, uid: Uid) -> ReportView:
    """Return a report with the newest version that the caller may see."""
    report = queries.get(session, uid)
    shown = report_views.view(session, report, deps.caller_of(request))
    number = shown.shown.version if shown.shown else 0
    noting.note(request, session, Kind.VIEW, _of(session, report, number))
    return shown


@router.get("/{uid}/versions")
def list_versions(request: Request, session: Transaction, uid: Uid) -> list[VersionView]:
    """List the versions, oldest first; who writes no reports sees those that were issued."""
    report = queries.get(session, uid)
    writes = report_views.writes(deps.caller_of(request))
    versions = queries.versions(session, uid, issued=not writes)
    approver = writes and person_of(request, session).may_approve
    noting.note(request, session, Kind.VIEW, _of(session, report))
    return report_views.version_views(report, versions, approver=approver)


@router.put("/{uid}/lock", dependencies=WRITES)
def claim(
    request: Request, session: Transaction, uid: Uid, body: Annotated[LockRequest, Body()]
) -> ReportView:
    """Claim a report for some minutes, renew the claim, or take it over with a reason."""
    person = person_of(request, session)
    if body.take_over:
        report = locks.take_over(session, person, uid, body.reason)
    else:
        report = locks.claim(session, person, uid, timedelta(minutes=body.minutes))
    return report_views.view(session, report, deps.caller_of(request), flags=False)


@router.delete("/{uid}/lock", dependencies=WRITES)
def release(request: Request, session: Transaction, uid: Uid) -> ReportView:
    """Give the claim back."""
    report = locks.release(session, person_of(request, session), uid)
    return report_views.view(session, report, deps.caller_of(request), flags=False)


@router.post("/{uid}/actions/{action}", dependencies=WRITES, response_model=ReportView)
def act(
    request: Request, session: Transaction, uid: Uid, action: Action, body: ActionRequest
) -> Response:
    """Do one action: save, submit, release, approve, unapprove, correct, addend, cancel, retract.

    409 with `current` when the report is not the one that the caller has seen.
    """
    command = Command(
        action=action,
        revision=body.revision,
        content=body.content,
        addendum=body.addendum,
        reason=body.reason,
    )
    try:
        report = verbs.act(session, person_of(request, session), uid, command)
    except Stale as stale:
        return _stale(request, session, stale)
    done = report_views.view(session, report, deps.caller_of(request))
    return Response(_VIEW.dump_json(done), media_type=_JSON)


@router.get("/{uid}/pdf")
def get_paper(
    request: Request,
    session: Transaction,
    uid: Uid,
    version: Annotated[int | None, Query(ge=1, le=MAX_BIGINT)] = None,
) -> Response:
    """Return the paper of an issued version, the newest when none is named.

    As it was signed; while the signature is awaited, and of what is not signed, a paper that
    says so across each page. Who writes reports gets the draft when nothing is named.
    """
    report = queries.get(session, uid)
    writes = report_views.writes(deps.caller_of(request))
    found = queries.for_paper(session, report, version, drafts=writes)
    if report.status is Status.RETRACTED and not (
        writes and person_of(request, session).may_approve
    ):
        raise queries.hidden()
    noting.note(request, session, Kind.DOWNLOAD, _of(session, report, found.version))
    parts = deps.parts(request)
    document = documents.find(session, uid, found.revision)
    name = f"{uid[:12]}-v{found.version}.pdf"
    headers = {"Content-Disposition": f'inline; filename="{name}"'}
    if document is not None:
        content = reporting.signed_paper(parts.store, document)
        headers["ETag"] = f'"{document.sha256}"'
    else:
        content = reporting.unsigned_paper(parts.settings, session, report, found)
    return Response(content, headers=headers, media_type="application/pdf")


@router.get("/{uid}/signatures")
def list_signatures(session: Transaction, uid: Uid) -> list[SignatureView]:
    """List the evidence of the signatures, one for each signed paper."""
    issued = queries.versions(session, uid, issued=True)
    found = (documents.find(session, uid, one.revision) for one in issued)
    return [SignatureView.of(one) for one in found if one is not None]


@router.put("/{uid}/second-reading", dependencies=WRITES)
def require_second_reading(
    request: Request, session: Transaction, uid: Uid, body: SecondReaderRequest
) -> ReportView:
    """Say whether two persons have to read the report."""
    person = person_of(request, session)
    report = verbs.require_second_reading(session, person, uid, required=body.required)
    return report_views.view(session, report, deps.caller_of(request), flags=False)


@router.get("/{uid}/second-readings", dependencies=WRITES)
def list_second_readings(session: Transaction, uid: Uid) -> list[SecondReading]:
    """List what second readers found, oldest first."""
    return [*queries.second_readings(session, uid)]


@router.post(
    "/{uid}/second-readings", status_code=201, dependencies=WRITES, response_model=SecondReading
)
def read_second(
    request: Request, session: Transaction, uid: Uid, body: SecondReadingRequest
) -> Response:
    """Note that the caller has read the text as its second reader: agree, minor or major."""
    person = person_of(request, session)
    said = body.revision, body.agreement, body.comment
    try:
        read = verbs.read_second(session, person, uid, *said)
    except Stale as stale:
        return _stale(request, session, stale)
    return Response(_READING.dump_json(read), 201, media_type=_JSON)


def _of(session: Session, report: Report, version: int = 0) -> dict[str, Any]:
    """Return what the journal is told of a report; version 0 is none that was issued."""
    return {
        "report_uid": report.uid,
        "report_version": version or None,
        "patient_id": releasing.patient_of(session, report.uid),
        "study_instance_uid": next(iter(report.study_instance_uids), ""),
    }


def _stale(request: Request, session: Session, stale: Stale) -> Response:
    """Answer 409 with the report as it is: nothing was written."""
    current = report_views.view(session, stale.current, deps.caller_of(request))
    members = {"current": _VIEW.dump_python(current, mode="json")}
    return problems.faulty(stale, problems.language_of(request), members)
