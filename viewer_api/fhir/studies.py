"""ImagingStudy (FHIR R4 12.12) of a study of the archive, and the Endpoint of its images (12.5)."""

import re
from typing import Final

from ris.listing import people
from ris.listing.studies import ENDPOINT, Study
from storage.archive.listing import ListedSeries
from storage.base import names
from viewer_api.fhir import datatypes
from viewer_api.fhir.datatypes import Context, Json
from viewer_api.fhir.naming import CODES, OID, UID

KIND: Final = "ImagingStudy"
LATERALITY: Final = {"L": ("7771000", "Left"), "R": ("24028007", "Right")}
"""Image Laterality (0020,0062) → SNOMED CT."""
CONNECTIONS: Final = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
PAYLOADS: Final = "http://hl7.org/fhir/resource-types"
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")


def render(study: Study, context: Context) -> Json:
    """Return the resource, with every series but no instances: those are for DICOMweb."""
    held = study.listed
    endpoint = [datatypes.reference("Endpoint", ENDPOINT)]
    return datatypes.full(
        resourceType=KIND,
        id=held.study_instance_uid,
        meta={"lastUpdated": datatypes.instant(held.changed_at)},
        identifier=[
            datatypes.identifier(UID, OID + held.study_instance_uid, use="official"),
            *(
                [
                    datatypes.identifier(
                        context.naming.system("accession"), held.accession_number, "ACSN"
                    )
                ]
                if held.accession_number
                else []
            ),
        ],
        status="available",
        modality=[{"system": CODES["DCM"], "code": one} for one in held.modalities if one],
        subject=datatypes.reference(
            "Patient",
            people.id_of(study.patient_number),
            names.in_reading_order(held.patient.patient_name),
        ),
        started=datatypes.dicom_time(held.study_date, held.study_time, context.zone),
        basedOn=[datatypes.reference("ServiceRequest", str(one)) for one in study.order_ids],
        referrer=datatypes.full(display=names.in_reading_order(held.referring_physician_name)),
        endpoint=endpoint,
        numberOfSeries=held.number_of_series,
        numberOfInstances=held.number_of_instances,
        description=held.study_description,
        series=[_series(one, context) for one in held.series if one.modality],
    )


def has_id(study: Study) -> bool:
    """Return whether the UID of a study can be an id: devices make some that are none."""
    return _ID.fullmatch(study.listed.study_instance_uid) is not None


def _series(one: ListedSeries, context: Context) -> Json:
    number = one.series_number
    code, side = LATERALITY.get(one.laterality, ("", ""))
    region = one.body_part_examined
    return datatypes.full(
        uid=one.series_instance_uid,
        number=number if number is not None and number >= 0 else None,
        modality={"system": CODES["DCM"], "code": one.modality},
        description=one.series_description,
        numberOfInstances=one.instances,
        bodySite={"display": region} if region else None,
        laterality={"system": CODES["SCT"], "code": code, "display": side} if code else None,
        started=datatypes.dicom_time(one.series_date, one.series_time, context.zone),
    )


def render_endpoint(context: Context) -> Json:
    """Return the Endpoint (FHIR R4 12.5) of DICOMweb."""
    return {
        "resourceType": "Endpoint",
        "id": ENDPOINT,
        "status": "active",
        "connectionType": {"system": CONNECTIONS, "code": "dicom-wado-rs"},
        "name": "DICOMweb",
        "payloadType": [datatypes.coded(PAYLOADS, KIND)],
        "payloadMimeType": ["application/dicom", "application/dicom+json"],
        "address": context.dicomweb,
    }
