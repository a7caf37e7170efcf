"""Patient (FHIR R4 8.1) of a patient of the RIS, or of the archive alone."""

from collections.abc import Iterator
from typing import Final

from ris.listing import people
from ris.listing.people import KINDS, Person
from ris.model import Patient, PatientIdentifier
from viewer_api.fhir import datatypes
from viewer_api.fhir.datatypes import Context, Json

KIND: Final = "Patient"
MEDICAL_RECORD_NUMBER: Final = "MR"
_NAMES: Final = {kind: name for name, kind in KINDS.items()}
RELATIONSHIPS: Final = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"


def render(person: Person, context: Context) -> Json:
    """Return the resource; without `Context.full` nothing but hospital number, name, birth, sex."""
    if person.patient is not None:
        return _of_ris(person, person.patient, context)
    return _of_archive(person, context)


def _of_ris(person: Person, patient: Patient, context: Context) -> Json:
    shown = datatypes.full(
        resourceType=KIND,
        id=people.id_of(person.number),
        meta={"lastUpdated": datatypes.instant(person.changed_at)},
        identifier=[*_identifiers(person, patient, context)],
        name=datatypes.human_name(patient.patient_name),
        gender=datatypes.gender(patient.patient_sex),
        birthDate=datatypes.birth_date(patient.patient_birth_date, patient.patient_birth_date_sent),
        link=[*_links(person)],
    )
    shown["active"] = person.replaced_by is None
    if context.full:
        shown |= _further(patient)
    return shown


def _further(patient: Patient) -> Json:
    phone, address = patient.patient_telephone, patient.patient_address
    mother = datatypes.human_name(patient.mother_name)
    contact = {
        "relationship": [datatypes.coded(RELATIONSHIPS, "MTH", "mother")],
        "name": mother[0] if mother else {},
    }
    return datatypes.full(
        telecom=[{"system": "phone", "value": phone}] if phone.strip() else None,
        address=[{"text": address}] if address.strip() else None,
        contact=[contact] if mother else None,
    )


def _identifiers(person: Person, patient: Patient, context: Context) -> Iterator[Json]:
    for one in patient.identifiers:
        if one.identifies or context.full:
            yield _identifier(one, context, "old" if one.retired else "")
    for other in person.merged:
        for one in other.identifiers:
            if one.identifies or context.full:
                yield _identifier(one, context, "old")


def _identifier(one: PatientIdentifier, context: Context, use: str) -> Json:
    own = _NAMES.get(one.kind) if not one.identifies else None
    if own:
        system: str | None = context.naming.system(own)
    else:
        system = context.naming.system("issuer", one.issuer) if one.issuer else None
    kind = one.kind or MEDICAL_RECORD_NUMBER
    kind = kind if kind.isascii() and kind.isalnum() else ""
    return datatypes.identifier(
        system, one.value, kind, use or ("official" if own == "cccd" else "usual")
    )


def _links(person: Person) -> Iterator[Json]:
    if person.replaced_by is not None:
        other = datatypes.reference(KIND, people.id_of(person.replaced_by))
        yield {"other": other, "type": "replaced-by"}
    for one in person.merged:
        yield {"other": datatypes.reference(KIND, people.id_of(one.id)), "type": "replaces"}


def _of_archive(person: Person, context: Context) -> Json:
    held = person.archived
    assert held is not None, "a patient is of the RIS or of the archive"  # noqa: S101
    issuer = held.issuer_of_patient_id
    system = context.naming.system("issuer", issuer) if issuer else None
    number = datatypes.identifier(system, held.patient_id, MEDICAL_RECORD_NUMBER, "usual")
    shown = datatypes.full(
        resourceType=KIND,
        id=people.id_of(person.number),
        meta={"lastUpdated": datatypes.instant(person.changed_at)},
        identifier=[number] if held.patient_id else None,
        name=datatypes.human_name(held.patient_name),
        gender=datatypes.gender(held.patient_sex),
        birthDate=datatypes.birth_date(None, held.patient_birth_date),
        link=[*_links(person)],
    )
    shown["active"] = person.replaced_by is None
    return shown
