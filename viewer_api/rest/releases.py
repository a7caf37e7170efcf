"""What the hospital says of stations under ``/api/v1``: consents, marks, referrals, alarms."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ris.releases import bases, marks, receipts
from ris.releases.model import Basis, BasisKind, Receipt, Sensitive
from ris.reports import queries, releasing
from ris.stations import alarms, consents, referrals
from ris.stations.alarms import Alarm
from ris.stations.consents import Consent
from ris.stations.referrals import Referral, ReferralState
from storage.access import stations
from storage.access.stations import Facility
from storage.access.tokens import Action
from storage.audit import journal, use
from storage.audit.model import Event, Kind, Search
from storage.audit.use import Use
from storage.base.clock import utc_now
from storage.base.errors import Malformed, NotFound
from storage.db.engine import Session
from viewer_api import deps
from viewer_api.deps import Transaction
from viewer_api.rest import noting

router = APIRouter(
    prefix="/api/v1",
    tags=["health stations"],
    dependencies=[Depends(deps.may(Action.RELEASE))],
)
MANAGES = [Depends(deps.may(Action.MANAGE))]

MAX_ID = 2**63 - 1
THIS, FAR = 2000, 2200
Uid = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
Id = Annotated[int, Path(ge=1, le=MAX_ID)]
Number = Annotated[int, Field(ge=1, le=MAX_ID)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Code = Annotated[str, Field(max_length=32)]
Text = Annotated[str, Field(max_length=500)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConsentRequest(_Request):
    """A patient agrees that a station sees his reports; `evidence` names the paper or record."""

    patient_id: Number
    station: Code
    via: Annotated[str, Field(pattern="^(written|electronic)$")] = "written"
    evidence: Annotated[str, Field(min_length=1, max_length=500)]
    covers: tuple[Sensitive, ...] = ()
    ends_at: datetime | None = None


class CodeRequest(_Request):
    """A code that a patient shows at the desk of a station, once."""

    patient_id: Number
    hours: Annotated[int, Field(ge=1, le=consents.LONGEST_HOURS)] = 24
    covers: tuple[Sensitive, ...] = ()


class WithdrawRequest(_Request):
    """Why a basis ends."""

    reason: Text = ""


class ReviewRequest(_Request):
    """What somebody thinks of an emergency access."""

    verdict: Annotated[str, Field(pattern="^(justified|unjustified)$")]
    note: Text = ""


class MarksRequest(_Request):
    """The sensitive classes of a report; none: it has none."""

    sensitive: tuple[Sensitive, ...]


class AcceptRequest(_Request):
    """The order that a referral became."""

    order_id: Number


class DeclineRequest(_Request):
    """Why nothing will come of it."""

    note: Text


class AuditSearch(_Request):
    """Which entries are wanted; `before` is the id of the last one seen."""

    patient_id: Number | None = None
    report_uid: Annotated[str, Field(max_length=64)] = ""
    station: Code = ""
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    before: Number | None = None


@dataclass(frozen=True, slots=True)
class StationView:
    """A health station as it is called now."""

    code: str
    facility: Facility
    revoked: bool
    wiped: bool


@dataclass(frozen=True, slots=True)
class CodeView:
    """The code, shown this once."""

    code: str


@router.get("/stations")
def list_stations(session: Transaction) -> list[StationView]:
    """List the health stations."""
    return [
        StationView(one.code, one.facility, one.revoked_at is not None, one.wiped_at is not None)
        for one in stations.list_all(session)
    ]


@router.post("/consents", status_code=201)
def give_consent(request: Request, session: Transaction, body: ConsentRequest) -> Basis:
    """Record a consent; what it shows is released in the same moment."""
    ends_at = body.ends_at
    if ends_at is not None and (ends_at.tzinfo is None or not THIS < ends_at.year < FAR):
        raise Malformed("ends_at: a time with a zone, in this century, is expected")
    station = stations.find(session, body.station)
    consent = Consent(
        patient_id=body.patient_id,
        station_id=station.id,
        via=body.via,
        evidence=body.evidence,
        covers=frozenset(body.covers),
        ends_at=body.ends_at,
    )
    basis = consents.give(session, consent, noting.actor(request))
    noting.note(request, session, Kind.GRANT, _of(session, basis))
    return basis


@router.post("/consent-codes", status_code=201)
def make_code(request: Request, session: Transaction, body: CodeRequest) -> CodeView:
    """Make a code for a patient to show at a desk; it is shown this once."""
    made = consents.code(
        session,
        body.patient_id,
        noting.actor(request),
        hours=body.hours,
        covers=frozenset(body.covers),
    )
    facts = {"patient_id": body.patient_id, "basis": "consent", "details": {"what": "code"}}
    noting.note(request, session, Kind.GRANT, facts)
    return CodeView(made)


@router.get("/release-bases")
def list_bases(
    session: Transaction, kind: BasisKind = BasisKind.CONSENT, limit: Limit = 100
) -> list[Basis]:
    """List the legal bases of a kind, newest first."""
    return [*bases.list_kind(session, kind, limit)]


@router.post("/release-bases/{uid}/withdraw")
def withdraw(request: Request, session: Transaction, uid: Uid, body: WithdrawRequest) -> Basis:
    """End a basis; copies that nothing else shows are deleted at the station."""
    basis = consents.withdraw(session, uid, noting.actor(request), body.reason)
    noting.note(request, session, Kind.WITHDRAW, _of(session, basis))
    return basis


@router.post("/release-bases/{uid}/review", dependencies=MANAGES)
def review(request: Request, session: Transaction, uid: Uid, body: ReviewRequest) -> Basis:
    """Judge an emergency access."""
    verdict = f"{body.verdict}: {body.note}".rstrip(": ")
    basis = bases.review(session, uid, noting.actor(request), verdict)
    facts = {**_of(session, basis), "details": {"verdict": body.verdict}}
    noting.note(request, session, Kind.REVIEW, facts)
    return basis


@router.put("/reports/{uid}/sensitive")
def mark(request: Request, session: Transaction, uid: Uid, body: MarksRequest) -> MarksRequest:
    """Say in which sensitive classes a report is; only a basis that says so shows it then."""
    patient_id = releasing.patient_of(session, queries.get(session, uid).uid)
    if patient_id is not None:
        releasing.lock_patient(session, patient_id)
    marks.put(session, noting.actor(request), body.sensitive, report_uid=uid)
    releasing.settle(session, uid)
    facts = {
        "report_uid": uid,
        "patient_id": patient_id,
        "details": {"sensitive": sorted(body.sensitive)},
    }
    noting.note(request, session, Kind.GRANT, facts)
    return body


@router.put("/patients/{patient_id}/sensitive")
def mark_patient(
    request: Request, session: Transaction, patient_id: Id, body: MarksRequest
) -> MarksRequest:
    """Say the same of everything of a patient, also of what comes."""
    root = releasing.lock_patient(session, patient_id)
    marks.put(session, noting.actor(request), body.sensitive, patient_id=root)
    releasing.settle_patient(session, root)
    facts = {"patient_id": root, "details": {"sensitive": sorted(body.sensitive)}}
    noting.note(request, session, Kind.GRANT, facts)
    return body


@router.get("/reports/{uid}/receipts")
def list_receipts(session: Transaction, uid: Uid) -> list[Receipt]:
    """List the proof of delivery of a report, oldest first."""
    return [*receipts.of_report(session, uid)]


@router.get("/referrals")
def list_referrals(
    session: Transaction, state: ReferralState | None = None, limit: Limit = 100
) -> list[Referral]:
    """List what stations sent, newest first."""
    return [*referrals.newest(session, state=state, limit=limit)]


@router.post("/referrals/{uid}/accept")
def accept(request: Request, session: Transaction, uid: Uid, body: AcceptRequest) -> Referral:
    """Say which order a referral became; its reports are released to the station."""
    referral = referrals.accept(session, uid, body.order_id)
    facts = {"station": _code(session, referral.station_id), "evidence": uid, "basis": "referral"}
    noting.note(request, session, Kind.GRANT, facts)
    return referral


@router.post("/referrals/{uid}/decline")
def decline(request: Request, session: Transaction, uid: Uid, body: DeclineRequest) -> Referral:
    """Say that nothing will come of a referral, and why."""
    referral = referrals.decline(session, uid, body.note)
    facts = {
        "station": _code(session, referral.station_id),
        "evidence": uid,
        "details": {"state": str(referral.state)},
    }
    noting.note(request, session, Kind.REFER, facts)
    return referral


@router.get("/station-use", dependencies=MANAGES)
def list_use(
    request: Request, session: Transaction, days: Annotated[int, Query(ge=1, le=366)] = 7
) -> list[Use]:
    """Say by station and person what somebody should look at: for a weekly reading.

    Look-ups that found something and that nothing of the patient was read after, look-ups that
    found nothing, what was done at night (22 to 5 o'clock), refusals, emergencies.
    """
    since = utc_now() - timedelta(days=days)
    found = use.by_person(session, since, deps.parts(request).settings.time_zone)
    noting.note(request, session, Kind.EXPORT, {"details": {"what": "use", "days": days}})
    return [*found]


@router.get("/station-alarms", dependencies=MANAGES)
def list_alarms(session: Transaction, limit: Limit = 100, *, unseen: bool = False) -> list[Alarm]:
    """List emergencies, limits that were reached and probing, newest first."""
    return [*alarms.newest(session, unseen=unseen, limit=limit)]


@router.post("/station-alarms/{alarm_id}/seen", dependencies=MANAGES)
def see_alarm(request: Request, session: Transaction, alarm_id: Id) -> Alarm:
    """Note that somebody looked at an alarm."""
    return alarms.see(session, alarm_id, noting.actor(request))


@router.get("/audit", dependencies=MANAGES)
def list_audit(
    request: Request, session: Transaction, search: Annotated[AuditSearch, Query()]
) -> list[Event]:
    """Say who saw what, newest first: of a patient, of a report, of a station."""
    wanted = Search(
        patient_id=search.patient_id, report_uid=search.report_uid, station=search.station
    )
    found = journal.find(session, wanted, limit=search.limit, before=search.before)
    facts = {
        "patient_id": search.patient_id,
        "report_uid": search.report_uid,
        "details": {"count": len(found)},
    }
    noting.note(request, session, Kind.EXPORT, facts)
    return [*found]


def _code(session: Session, station_id: int) -> str:
    try:
        return stations.get(session, station_id).code
    except NotFound:
        return ""


def _of(session: Session, basis: Basis) -> dict[str, Any]:
    return {
        "station": _code(session, basis.station_id),
        "patient_id": basis.patient_id,
        "basis": str(basis.kind),
        "evidence": basis.uid,
    }
