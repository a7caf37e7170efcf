"""What a worklist says of a scheduled step (PS3.4 K.6.1.2.2, RAD-5)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from ris.keys import Attributes
from ris.model import Order, Patient, RequestedProcedure, ScheduledStep, Visit
from ris.requests import Code
from ris.worklist.keywords import STEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduled:
    """A scheduled step with everything that it is a part of."""

    step: ScheduledStep
    procedure: RequestedProcedure
    order: Order
    patient: Patient
    """Who stands for the patient of the order."""
    visit: Visit | None


def entry_of(one: Scheduled) -> Attributes:
    """Return the whole entry of a step, in the clock of the hospital."""
    step = {keyword: read(one.step) for keyword, read in _STEP.items()}
    entry: dict[str, str | Sequence[Attributes]] = {}
    for further in (one.patient.further, one.visit and one.visit.further, one.order.further):
        entry.update({keyword: str(text) for keyword, text in (further or {}).items()})
    entry.update({keyword: str(text) for keyword, text in one.procedure.further.items()})
    for keyword, read in _REST.items():
        value = read(one)
        if value or keyword not in entry:
            entry[keyword] = value
    told = {keyword: str(text) for keyword, text in one.step.further.items()}
    entry[STEP] = [
        {**told, **{name: value for name, value in step.items() if value or name not in told}}
    ]
    return entry


def _word(text: str) -> str:
    """Return one value: a backslash would make two of it."""
    return " ".join(text.replace("\\", "/").split())


def _code(code: Code | None) -> Sequence[Attributes]:
    if code is None or not code.value:
        return ()
    return (
        {
            "CodeValue": _word(code.value),
            "CodingSchemeDesignator": _word(code.scheme) or "L",
            "CodeMeaning": _word(code.meaning or code.value),
        },
    )


def _meaning(code: Code | None) -> str:
    return _word(code.meaning or code.value) if code else ""


def _issuer(name: str) -> Sequence[Attributes]:
    return ({"LocalNamespaceEntityID": _word(name)},) if name else ()


def _day(moment: date | None) -> str:
    return f"{moment:%Y%m%d}" if moment else ""


def _time(moment: datetime | None) -> str:
    return f"{moment:%H%M%S}" if moment else ""


def _others(patient: Patient) -> Sequence[Attributes]:
    return tuple(
        {
            "PatientID": one.value,
            "IssuerOfPatientID": _word(one.issuer),
            "TypeOfPatientID": "TEXT",
        }
        for one in patient.identifiers[1:]
        if not one.retired
    )


def _age(one: Scheduled) -> str:
    """Return the age in years, where the year of birth is all that is known too (VR AS)."""
    born, start = one.patient.patient_birth_date_sent.strip(), one.step.start
    birth = one.patient.patient_birth_date
    if start is None or not (birth or born[:4].isdigit()):
        return ""
    if birth is None:
        years = start.year - int(born[:4])
        return f"{years:03d}Y" if 0 <= years <= _OLDEST else ""
    days = (start.date() - birth).days
    months = (start.year - birth.year) * 12 + start.month - birth.month - (start.day < birth.day)
    if days < 0 or months > _OLDEST * 12:
        return ""
    if months < 1:
        return f"{days:03d}D"
    return f"{months:03d}M" if months < _BY_MONTH else f"{months // 12:03d}Y"


_OLDEST: Final = 150
_BY_MONTH: Final = 72
"""Children under six are told by months, as Vietnamese forms do."""

_STEP: Final[Mapping[str, Callable[[ScheduledStep], "str | Sequence[Attributes]"]]] = {
    "ScheduledStationAETitle": lambda step: "\\".join(step.station_ae_titles),
    "ScheduledProcedureStepStartDate": lambda step: _day(step.start),
    "ScheduledProcedureStepStartTime": lambda step: _time(step.start),
    "ScheduledProcedureStepEndDate": lambda step: _day(step.end),
    "ScheduledProcedureStepEndTime": lambda step: _time(step.end),
    "Modality": lambda step: step.modality,
    "ScheduledPerformingPhysicianName": lambda step: _word(step.performing_physician),
    "ScheduledProcedureStepDescription": lambda step: (
        _word(step.description) or _meaning(step.protocol)
    ),
    "ScheduledProtocolCodeSequence": lambda step: _code(step.protocol),
    "ScheduledStationName": lambda step: _word(step.station_name),
    "ScheduledProcedureStepLocation": lambda step: _word(step.location),
    "ScheduledProcedureStepID": lambda step: step.scheduled_procedure_step_id,
    "ScheduledProcedureStepStatus": lambda step: step.status.value,
    "PreMedication": lambda _step: "",
    "RequestedContrastAgent": lambda _step: "",
    "CommentsOnTheScheduledProcedureStep": lambda _step: "",
}
_REST: Final[Mapping[str, Callable[[Scheduled], "str | Sequence[Attributes]"]]] = {
    # Requested Procedure
    "RequestedProcedureID": lambda one: one.procedure.requested_procedure_id,
    "RequestedProcedureDescription": lambda one: (
        _word(one.procedure.description) or _meaning(one.procedure.code)
    ),
    "RequestedProcedureCodeSequence": lambda one: _code(one.procedure.code),
    "StudyInstanceUID": lambda one: one.procedure.study_instance_uid,
    "RequestedProcedurePriority": lambda one: one.order.priority,
    "PatientTransportArrangements": lambda one: _word(one.order.transport),
    "ReasonForTheRequestedProcedure": lambda one: (
        _meaning(one.order.reason) or _word(one.order.clinical_information)
    ),
    "ReasonForRequestedProcedureCodeSequence": lambda one: _code(one.order.reason),
    "RequestedProcedureComments": lambda one: one.order.comments,
    # Imaging Service Request
    "AccessionNumber": lambda one: one.order.accession_number,
    "IssuerOfAccessionNumberSequence": lambda one: _issuer(one.order.accession_issuer),
    "RequestingPhysician": lambda one: _word(one.order.requesting_physician),
    "RequestingService": lambda one: _word(one.order.requesting_service),
    "ReferringPhysicianName": lambda one: (
        _word(one.visit.referring_physician if one.visit else "")
        or _word(one.order.requesting_physician)
    ),
    "PlacerOrderNumberImagingServiceRequest": lambda one: _word(one.order.placer_order_number),
    "FillerOrderNumberImagingServiceRequest": lambda one: _word(one.order.filler_order_number),
    "OrderPlacerIdentifierSequence": lambda one: _issuer(one.order.placer_issuer),
    "IssueDateOfImagingServiceRequest": lambda one: _day(one.order.issued_at),
    "IssueTimeOfImagingServiceRequest": lambda one: _time(one.order.issued_at),
    # Visit
    "AdmissionID": lambda one: _word(one.visit.admission_id) if one.visit else "",
    "CurrentPatientLocation": lambda one: _word(one.visit.location) if one.visit else "",
    "VisitStatusID": lambda one: one.visit.status.value if one.visit else "",
    "InstitutionName": lambda one: _word(one.order.institution),
    # Patient
    "PatientName": lambda one: one.patient.patient_name.replace("\\", "/"),
    "PatientID": lambda one: one.patient.identifiers[0].value if one.patient.identifiers else "",
    "IssuerOfPatientID": lambda one: _word(
        one.patient.identifiers[0].issuer if one.patient.identifiers else ""
    ),
    "OtherPatientIDsSequence": lambda one: _others(one.patient),
    "PatientBirthDate": lambda one: _day(one.patient.patient_birth_date),
    "PatientSex": lambda one: one.patient.patient_sex,
    "PatientAge": _age,
    "PatientAddress": lambda one: _word(one.patient.patient_address),
    "PatientTelephoneNumbers": lambda one: _word(one.patient.patient_telephone),
    "PatientMotherBirthName": lambda one: _word(one.patient.mother_name),
    "EthnicGroup": lambda one: _word(one.patient.ethnic_group),
    "ConfidentialityConstraintOnPatientDataDescription": lambda one: _word(
        one.order.confidentiality
    ),
    "PatientState": lambda one: _word(one.order.danger),
    "PregnancyStatus": lambda one: "3" if one.visit and one.visit.pregnant else "",
    # relevant clinical information is where IHE has alerts (RAD-4, OBR-13)
    "MedicalAlerts": lambda one: _word(one.order.clinical_information),
    "AdditionalPatientHistory": lambda one: one.order.clinical_information,
    "PatientWeight": lambda _one: "",
    "PatientSize": lambda _one: "",
    "Allergies": lambda _one: "",
    "SpecialNeeds": lambda _one: "",
}
_CODES: Final = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
_ITEMS: Final[Mapping[str, Sequence[str]]] = {
    f"{STEP}.ScheduledProtocolCodeSequence": _CODES,
    "RequestedProcedureCodeSequence": _CODES,
    "ReasonForRequestedProcedureCodeSequence": _CODES,
    "IssuerOfAccessionNumberSequence": ("LocalNamespaceEntityID",),
    "OrderPlacerIdentifierSequence": ("LocalNamespaceEntityID",),
    "OtherPatientIDsSequence": ("PatientID", "IssuerOfPatientID", "TypeOfPatientID"),
}
MATCHED: Final = frozenset(
    {keyword for keyword in _REST if keyword not in _ITEMS}
    | {f"{STEP}.{keyword}" for keyword in _STEP if f"{STEP}.{keyword}" not in _ITEMS}
    | {f"{keyword}.{inner}" for keyword, items in _ITEMS.items() for inner in items}
)
"""Every keyword that a key may have; what else is asked for is universal."""
