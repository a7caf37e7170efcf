"""Patients at the desk, referrals, and the glass that is broken in an emergency."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from ris.model import Patient
from ris.releases.model import BasisKind, Sensitive
from ris.reports.faults import VIETNAMESE
from ris.stations import faults, limits, people, referrals, repeats
from ris.stations.people import Found, Number, Wanted
from ris.stations.referrals import Referral, ReferralState
from storage.audit.model import Kind, Outcome
from storage.base.clock import utc_now
from viewer_api.problems import language_of
from viewer_api.stations import views
from viewer_api.stations.views import ItemView, PatientView
from viewer_api.stations.visits import Here, Visit

router = APIRouter(prefix="/stations/v1", tags=["health stations"])

_STATES: Final[Mapping[ReferralState, str]] = {
    ReferralState.SENT: "đã gửi",
    ReferralState.ACCEPTED: "đã tiếp nhận",
    ReferralState.DECLINED: "không tiếp nhận",
}

NumberText = Annotated[str, Field(max_length=64)]
Uid = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=200)]


class _Request(BaseModel):
    """What a newer client sends besides is not read."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class PatientRequest(_Request):
    """Who is meant: one number, and the year of birth as a check."""

    cccd: NumberText = ""
    bhyt: NumberText = ""
    ma_bn: NumberText = ""
    birth_year: Annotated[int, Field(ge=1850, le=2200)]

    @model_validator(mode="after")
    def _has_one_number(self) -> Self:
        if sum(bool(getattr(self, one).strip()) for one in Number) != 1:
            raise ValueError("exactly one of cccd, bhyt and ma_bn is needed")
        return self

    def wanted(self) -> Wanted:
        """Return it as the domain takes it."""
        number = next(one for one in Number if getattr(self, one).strip())
        value = getattr(self, number).strip()
        return Wanted(number=number, value=value, birth_year=self.birth_year)


class LookUpRequest(PatientRequest):
    """A look-up. With the basis consent, `evidence` is the code that the patient shows."""

    basis: BasisKind = BasisKind.REFERRAL
    evidence: Annotated[str, Field(max_length=200)] = ""


class EmergencyRequest(PatientRequest):
    """An emergency; `sensitive` names the classes that are needed too."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]
    sensitive: tuple[Sensitive, ...] = ()


class ReferredPatient(_Request):
    """The patient as the station knows him."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    birth_date: Annotated[str, Field(pattern=r"^\d{4}(-\d{2}(-\d{2})?)?$")]
    sex: Annotated[str, Field(pattern="^[MFOU]?$")] = ""
    cccd: NumberText = ""
    bhyt: NumberText = ""
    phone: Annotated[str, Field(max_length=30)] = ""


class ReferralRequest(_Request):
    """A patient who is sent to the hospital."""

    patient: ReferredPatient
    reason: Annotated[str, Field(min_length=1, max_length=2000)]
    diagnosis_code: Annotated[str, Field(max_length=20)] = ""
    """ICD-10."""
    service: Annotated[str, Field(max_length=200)] = ""
    urgency: Annotated[str, Field(pattern="^(routine|urgent|emergency)$")] = "routine"
    paper_number: Annotated[str, Field(max_length=50)] = ""
    """Of the referral's paper (giấy chuyển)."""
    written_on: date | None = None


@dataclass(frozen=True, slots=True)
class LookUpView:
    """What a look-up brought; the patient only when something of him is the station's."""

    patient: PatientView | None
    reports: Sequence[ItemView]
    basis_ends_at: str | None
    server_time: str


@dataclass(frozen=True, slots=True)
class EmergencyView:
    """What was opened, and until when."""

    id: str
    patient: PatientView
    reports: Sequence[ItemView]
    ends_at: str | None
    server_time: str


@dataclass(frozen=True, slots=True)
class ReferralView:
    """A referral and what became of it."""

    id: str
    state: str
    state_name: str
    note: str
    sent_at: str
    changed_at: str
    content: Mapping[str, Any]


_LOOK_UP: Final = TypeAdapter(LookUpView)
_EMERGENCY: Final = TypeAdapter(EmergencyView)
_REFERRAL: Final = TypeAdapter(ReferralView)
_REFERRALS: Final = TypeAdapter(list[ReferralView])


@router.post("/patients/lookup", response_model=LookUpView)
def look_up(request: Request, visit: Here, body: LookUpRequest) -> Response:
    """Look a patient up by one of his numbers; every try is written down.

    By POST, so that no number stands in an address or a log. Nothing found and nothing released
    are the same answer.
    """
    facts = {"basis": str(body.basis), "details": {"number": str(body.wanted().number)}}
    with visit.doing(Kind.LOOK_UP, **facts) as doing:
        visit.require_person()
        visit.spend(faults.LOOK_UPS, visit.visitor.station.look_ups_a_day)
        found = people.look_up(
            doing.session, visit.visitor, body.wanted(), body.basis, body.evidence
        )
        doing.tell(
            patient_id=found.patient.id if found.patient else None,
            evidence=found.basis.uid if found.basis else "",
            outcome=Outcome.SUCCESS if found.items else Outcome.EMPTY,
        )
    shown = LookUpView(
        patient=_patient(found.patient) if found.patient and found.items else None,
        reports=_items(request, visit, found),
        basis_ends_at=_ends_at(visit, found),
        server_time=_now(visit),
    )
    return views.answer(request, _LOOK_UP, shown)


@router.post("/access/emergency", status_code=201, response_model=EmergencyView)
def break_glass(request: Request, visit: Here, body: EmergencyRequest) -> Response:
    """Open a patient's reports to the station for four hours; the hospital is alarmed.

    Somebody at the hospital judges it afterwards.
    """
    facts = {"basis": "emergency", "details": {"number": str(body.wanted().number)}}
    with visit.doing(Kind.EMERGENCY, **facts) as doing:
        visit.require_person()
        visit.spend(faults.EMERGENCIES, limits.EMERGENCIES_A_DAY)
        found = people.break_glass(
            doing.session,
            visit.visitor,
            body.wanted(),
            body.reason,
            frozenset(body.sensitive),
        )
        basis, patient = found.basis, found.patient
        if basis is None or patient is None:
            raise faults.no_report()
        doing.tell(
            patient_id=patient.id,
            evidence=basis.uid,
            details={**doing.entry.details, "sensitive": sorted(body.sensitive)},
        )
    shown = EmergencyView(
        id=basis.uid,
        patient=_patient(patient),
        reports=_items(request, visit, found),
        ends_at=_ends_at(visit, found),
        server_time=_now(visit),
    )
    answer = views.answer(request, _EMERGENCY, shown)
    answer.status_code = 201
    return answer


@router.post("/referrals", status_code=201, response_model=ReferralView)
def refer(
    request: Request, visit: Here, body: ReferralRequest, idempotency_key: Key = ""
) -> Response:
    """Send a patient to the hospital. With the same Idempotency-Key it is done once."""
    content = body.model_dump(mode="json")
    with visit.doing(Kind.REFER) as doing:
        visit.require_person()

        def send() -> Mapping[str, Any]:
            zone = visit.parts.settings.zone
            most = limits.REFERRALS_A_DAY
            limits.spend(doing.session, visit.station_id, zone, faults.REFERRALS, most)
            sent = referrals.send(doing.session, visit.visitor, content)
            return {"id": sent.uid}

        made = repeats.once(doing.session, visit.station_id, idempotency_key, content, send)
        referral = referrals.get(doing.session, visit.station_id, made["id"])
        doing.tell(evidence=referral.uid)
    answer = views.answer(request, _REFERRAL, _referral(request, visit, referral))
    answer.status_code = 201
    return answer


@router.get("/referrals", response_model=list[ReferralView])
def list_referrals(
    request: Request, visit: Here, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> Response:
    """List the station's referrals, newest first."""
    with visit.doing(Kind.LIST, details={"what": "referrals"}) as doing:
        found = referrals.newest(doing.session, visit.station_id, limit=limit)
        doing.tell(outcome=Outcome.SUCCESS if found else Outcome.EMPTY)
    shown = [_referral(request, visit, one) for one in found]
    return views.answer(request, _REFERRALS, shown)


@router.get("/referrals/{referral_id}", response_model=ReferralView)
def get_referral(request: Request, visit: Here, referral_id: Uid) -> Response:
    """Return one referral of the station, and what became of it."""
    with visit.doing(Kind.VIEW, details={"what": "referral"}, evidence=referral_id) as doing:
        referral = referrals.get(doing.session, visit.station_id, referral_id)
    return views.answer(request, _REFERRAL, _referral(request, visit, referral))


def _items(request: Request, visit: Visit, found: Found) -> Sequence[ItemView]:
    zone, language = visit.parts.settings.zone, language_of(request)
    return [views.item(one, zone, language) for one in found.items]


def _ends_at(visit: Visit, found: Found) -> str | None:
    ends_at = found.basis.ends_at if found.basis else None
    return views.shown(ends_at, visit.parts.settings.zone) if ends_at else None


def _now(visit: Visit) -> str:
    return views.shown(utc_now(), visit.parts.settings.zone)


def _patient(patient: Patient) -> PatientView:
    born = patient.patient_birth_date
    shown = f"{born:%Y%m%d}" if born else patient.patient_birth_date_sent
    return views.patient_of(
        patient.patient_name, patient.identifier.value, shown, patient.patient_sex
    )


def _referral(request: Request, visit: Visit, one: Referral) -> ReferralView:
    zone = visit.parts.settings.zone
    vietnamese = language_of(request) == VIETNAMESE
    return ReferralView(
        id=one.uid,
        state=one.state,
        state_name=_STATES[one.state] if vietnamese else str(one.state),
        note=one.note,
        sent_at=views.shown(one.sent_at, zone),
        changed_at=views.shown(one.changed_at, zone),
        content=one.content,
    )
