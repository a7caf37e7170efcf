"""AuditEvent (FHIR R4 6.4) of an entry of the journal, and what this service writes into it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from storage.access.tokens import Caller
from storage.audit.model import CODES, INDICATORS, Entry, Event, Kind, Outcome
from viewer_api.fhir import datatypes
from viewer_api.fhir.datatypes import Context, Json
from viewer_api.fhir.naming import CODES as SYSTEMS

KIND: Final = "AuditEvent"
IP_ADDRESS: Final = "2"
"""Of the value set network-type."""
MOST: Final = 200
"""Patients of one answer that are each told of."""


def render(event: Event, context: Context) -> Json:
    """Return the resource."""
    coded = CODES[event.kind]
    return datatypes.full(
        resourceType=KIND,
        id=str(event.id),
        meta={"lastUpdated": datatypes.instant(event.recorded_at)},
        type={"system": SYSTEMS["DCM"], "code": coded.event_id, "display": coded.meaning},
        subtype=[{"system": context.naming.system("audit"), "code": str(event.kind)}],
        action=coded.action,
        recorded=datatypes.instant(event.recorded_at),
        outcome=INDICATORS[event.outcome],
        agent=[_agent(event)],
        source=datatypes.full(site=event.station, observer={"display": "Lienthong"}),
        entity=[*_entities(event)],
    )


def _agent(event: Event) -> Json:
    network = {"address": event.address, "type": IP_ADDRESS} if event.address else None
    shown = datatypes.full(
        role=[{"text": event.role}] if event.role else None,
        who={"display": event.actor_name} if event.actor_name else None,
        altId=event.actor,
        name=event.actor_name,
        network=network,
    )
    return {**shown, "requestor": True}


def _entities(event: Event) -> Iterator[Json]:
    if event.patient_id is not None:
        yield {"what": datatypes.reference("Patient", str(event.patient_id))}
    if event.report_uid:
        version = f"/_history/{event.report_version}" if event.report_version else ""
        yield {"what": {"reference": f"DiagnosticReport/{event.report_uid}{version}"}}
    if event.study_instance_uid:
        yield {"what": datatypes.reference("ImagingStudy", event.study_instance_uid)}
    if event.basis or event.evidence:
        told = [("basis", event.basis), ("evidence", event.evidence)]
        yield {
            "name": "basis",
            "detail": [{"type": name, "valueString": text} for name, text in told if text],
        }


# What is written of an answer


def of_read(caller: Caller, address: str, resource: Mapping[str, Any]) -> Entry:
    """Return what is told of one resource that was given out."""
    kind = Kind.EXPORT if resource["resourceType"] == KIND else Kind.VIEW
    uid = resource["id"] if resource["resourceType"] == "DiagnosticReport" else ""
    version = resource.get("meta", {}).get("versionId") if uid else None
    return Entry(
        kind=kind,
        **who(caller, address),
        patient_id=patient_of(resource),
        report_uid=uid,
        report_version=int(version) if version else None,
        study_instance_uid=resource["id"] if resource["resourceType"] == "ImagingStudy" else "",
        details={"wire": "fhir", "resource": resource["resourceType"]},
    )


def of_search(
    caller: Caller, address: str, type_: str, resources: Sequence[Mapping[str, Any]]
) -> list[Entry]:
    """Return what is told of the page of a search: one entry for each patient, or that none was."""
    told = who(caller, address)
    details = {"wire": "fhir", "resource": type_, "count": len(resources)}
    if type_ == KIND:
        return [Entry(kind=Kind.EXPORT, **told, details=details)]
    people = dict.fromkeys(map(patient_of, resources))
    if not people:
        return [Entry(kind=Kind.LOOK_UP, outcome=Outcome.EMPTY, **told, details=details)]
    return [
        Entry(kind=Kind.LIST, **told, patient_id=one, details=details) for one in [*people][:MOST]
    ]


def patient_of(resource: Mapping[str, Any]) -> int | None:
    """Return the patient of the RIS that a resource is about, if it names one."""
    if resource["resourceType"] == "Patient":
        named = resource["id"]
    else:
        named = resource.get("subject", {}).get("reference", "").removeprefix("Patient/")
    return int(named) if named.isdecimal() and named.isascii() else None


def who(caller: Caller, address: str) -> dict[str, Any]:
    """Return who calls, as the journal has it."""
    return {
        "actor": caller.user or caller.prefix,
        "actor_name": caller.label if not caller.user else caller.user,
        "role": str(caller.role),
        "address": address,
    }
