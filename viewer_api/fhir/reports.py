"""DiagnosticReport (FHIR R4 10.2) of an issued version of a report, and its Provenance (6.3)."""

import base64
from collections.abc import Iterator, Mapping
from datetime import tzinfo
from typing import Final

from ris.listing import people
from ris.listing.reports import Issued
from ris.reports.model import Content, Measurement, Practitioner, Version
from ris.reports.states import SIGNED, Action
from ris.requests import Code
from storage.base import names
from viewer_api.fhir import datatypes
from viewer_api.fhir.datatypes import Context, Json
from viewer_api.fhir.naming import CODES, V2

KIND: Final = "DiagnosticReport"
PROVENANCE: Final = "Provenance"
REPORT_CODE: Final = (CODES["LN"], "18748-4", "Diagnostic imaging study")
SECTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "clinical_information": ("55752-0", "Clinical information"),
    "technique": ("55111-5", "Current imaging procedure descriptions Document"),
    "comparison": ("18834-2", "Radiology Comparison study"),
    "findings": ("18782-3", "Radiology Study observation"),
    "recommendation": ("18783-1", "Radiology Study recommendation"),
}
"""Sections of our reports → LOINC; the impression is the conclusion."""
PARTICIPATION: Final = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
DATA_OPERATION: Final = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
SIGNATURES: Final = "urn:iso-astm:E1762-95:2013"
AUTHORSHIP: Final = ("1.2.840.10065.1.12.1.1", "Author's Signature")
ACTIVITIES: Final[Mapping[Action, str]] = {Action.RETRACT: "NULLIFY", Action.CANCEL: "ABORT"}
CREATED, REVISED = "CREATE", "UPDATE"


def render(report: Issued, context: Context) -> Json:
    """Return the resource; of what was retracted, and of what nothing was issued, without text."""
    version = report.version
    content = None if report.hidden or version is None else version.content
    observations = [*_observations(content, report.status)] if content else []
    uid = report.uid
    return datatypes.full(
        resourceType=KIND,
        id=uid,
        meta=datatypes.full(
            versionId=str(version.version) if version else None,
            lastUpdated=datatypes.instant(report.told_at),
        ),
        language=report.language,
        contained=observations,
        identifier=[
            datatypes.identifier(context.naming.system("report"), uid),
            *(
                datatypes.identifier(context.naming.system("accession"), one, "ACSN")
                for one in report.accession_numbers
                if one
            ),
        ],
        basedOn=[datatypes.reference("ServiceRequest", str(one)) for one in report.order_ids],
        status=report.status,
        category=[datatypes.coded(V2 + "0074", "RAD", "Radiology")],
        code=_code(report, context),
        subject=_subject(report),
        effectiveDateTime=datatypes.dicom_time(*report.performed, context.zone),
        issued=datatypes.instant(version.authored_at) if version else None,
        resultsInterpreter=_readers(version, context) if version else None,
        imagingStudy=[
            datatypes.reference("ImagingStudy", one) for one in report.study_instance_uids
        ],
        result=[{"reference": f"#{one['id']}"} for one in observations],
        conclusion=_conclusion(content, context.zone) if content else None,
        conclusionCode=[context.naming.concept(one) for one in content.diagnoses]
        if content
        else None,
        presentedForm=[_paper(report, version, context)] if content and version else None,
    )


def _code(report: Issued, context: Context) -> Json:
    local = [context.naming.concept(Code(*one)) for one in report.codes]
    shown = datatypes.coded(*REPORT_CODE)
    for one in local:
        shown["coding"] += one.get("coding", [])
    texts = [one["text"] for one in local if "text" in one]
    return {**shown, **({"text": ", ".join(map(str, texts))} if texts else {})}


def _subject(report: Issued) -> Json | None:
    number = report.patient_number
    if number is None:
        return None
    named = report.version.subject.patient_name if report.version else ""
    return datatypes.reference("Patient", people.id_of(number), names.in_reading_order(named))


def _readers(version: Version, context: Context) -> list[Json]:
    people_ = dict.fromkeys((version.reader, version.author))
    signed = version.status in SIGNED
    return [_who(one, context) for one in people_ if one.name and (signed or one == version.reader)]


def _who(one: Practitioner, context: Context) -> Json:
    named = " ".join(part for part in (one.qualification, one.name) if part)
    shown = datatypes.person(one.name, one.licence_number, context.naming)
    return {**shown, "display": named}


def _conclusion(content: Content, zone: tzinfo) -> str:
    added = (
        f"[{one.added_at.astimezone(zone):%Y-%m-%d}] {one.author}: {one.text}"
        for one in content.addenda
    )
    return "\n".join(part for part in (content.impression, *added) if part.strip())


_OBSERVED: Final = frozenset({"preliminary", "final", "amended", "corrected"})
"""Statuses of a report that an Observation (FHIR R4 10.1) has too."""


def _observations(content: Content, status: str) -> Iterator[Json]:
    told = status if status in _OBSERVED else "final"
    for section, (code, display) in SECTIONS.items():
        text = getattr(content, section)
        if text.strip():
            yield {
                "resourceType": "Observation",
                "id": section.replace("_", "-"),
                "status": told,
                "code": datatypes.coded(CODES["LN"], code, display),
                "valueString": text,
            }
    for number, one in enumerate(content.measurements, 1):
        yield _measured(one, number, told)


def _measured(one: Measurement, number: int, status: str) -> Json:
    code = (
        {"system": CODES.get(one.code.scheme.upper()), "code": one.code.value} if one.code else {}
    )
    unit = {"unit": one.unit, "system": CODES["UCUM"], "code": one.unit} if one.unit else {}
    try:
        value: Json = {"valueQuantity": {"value": float(one.value), **unit}}
    except ValueError:
        value = {"valueString": f"{one.value} {one.unit}".strip()}
    return {
        "resourceType": "Observation",
        "id": f"measurement-{number}",
        "status": status,
        "code": {**({"coding": [datatypes.full(**code)]} if code else {}), "text": one.name},
        **value,
    }


def _paper(report: Issued, version: Version, context: Context) -> Json:
    paper = report.paper
    return datatypes.full(
        contentType="application/pdf",
        language=report.language,
        url=f"{context.reports}/{report.uid}/pdf?version={version.version}",
        size=paper.size if paper else None,
        title=f"{report.uid[:12]} v{version.version}",
        creation=datatypes.instant(paper.signed_at if paper else version.authored_at),
    )


def render_provenance(report: Issued, context: Context) -> Json:
    """Return who made an issued version, when, of what, and how it was signed."""
    version = report.version
    if version is None:
        raise ValueError("nothing was issued")
    before = version.version - 1  # issued versions are counted without a gap
    activity = ACTIVITIES.get(version.action, REVISED if before else CREATED)
    return datatypes.full(
        resourceType=PROVENANCE,
        id=f"{report.uid}-{version.version}",
        meta={"lastUpdated": datatypes.instant(version.authored_at)},
        target=[{"reference": _version_of(report.uid, version.version)}],
        occurredDateTime=datatypes.instant(version.authored_at),
        recorded=datatypes.instant(version.authored_at),
        reason=[{"text": version.reason}] if version.reason.strip() else None,
        activity=datatypes.coded(DATA_OPERATION, activity),
        agent=[*_agents(version, context)],
        entity=[{"role": "revision", "what": {"reference": _version_of(report.uid, before)}}]
        if before
        else None,
        signature=[_signature(report, version, context)] if report.paper else None,
    )


def _version_of(uid: str, number: int) -> str:
    return f"{KIND}/{uid}/_history/{number}"


def _agents(version: Version, context: Context) -> Iterator[Json]:
    roles = [("author", version.reader)]
    roles.append(("verifier" if version.status in SIGNED else "enterer", version.author))
    for role, one in roles:
        who = _who(one, context) if one.name else {"display": "unknown"}
        yield {"type": datatypes.coded(PARTICIPATION, role), "who": who}


def _signature(report: Issued, version: Version, context: Context) -> Json:
    paper = report.paper
    if paper is None:
        raise ValueError("it is not signed")
    evidence = (
        f"PAdES {paper.algorithm}; {paper.subject}; {paper.issuer}; "
        f"{paper.serial_number}; sha256 {paper.sha256}"
    )
    return {
        "type": [{"system": SIGNATURES, "code": AUTHORSHIP[0], "display": AUTHORSHIP[1]}],
        "when": datatypes.instant(paper.signed_at),
        "who": _who(version.author, context),
        "targetFormat": "application/pdf",
        "sigFormat": "text/plain",
        "data": base64.b64encode(evidence.encode()).decode(),
    }
