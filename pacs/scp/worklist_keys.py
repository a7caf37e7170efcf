"""What a worklist entry has: the attributes of PS3.4 Table K.6-1 with their return key types.

Dotted keywords stand in the item of a sequence. Type 1 always has a value, type 2
may be empty, type 3 comes when the order has it.
"""

from collections.abc import Iterator, Mapping
from typing import Final

STEP: Final = "ScheduledProcedureStepSequence"

_CODE: Final[Mapping[str, str]] = {
    "CodeValue": "1",
    "CodingSchemeDesignator": "1",
    "CodingSchemeVersion": "3",
    "CodeMeaning": "3",
}
_REFERENCE: Final[Mapping[str, str]] = {
    "ReferencedSOPClassUID": "1",
    "ReferencedSOPInstanceUID": "1",
}
_ISSUER: Final[Mapping[str, str]] = {
    "LocalNamespaceEntityID": "3",
    "UniversalEntityID": "3",
    "UniversalEntityIDType": "3",
}
_PATIENT_ID: Final[Mapping[str, str]] = {
    "PatientID": "1",
    "IssuerOfPatientID": "3",
    "TypeOfPatientID": "3",
}

_SEQUENCES: Final[Mapping[str, Mapping[str, str]]] = {
    f"{STEP}.ScheduledProtocolCodeSequence": _CODE,
    "RequestedProcedureCodeSequence": _CODE,
    "ReasonForRequestedProcedureCodeSequence": _CODE,
    "ReferencedStudySequence": _REFERENCE,
    "ReferencedPatientSequence": _REFERENCE,
    "IssuerOfAccessionNumberSequence": _ISSUER,
    "OrderPlacerIdentifierSequence": _ISSUER,
    "OrderFillerIdentifierSequence": _ISSUER,
    "IssuerOfAdmissionIDSequence": _ISSUER,
    "OtherPatientIDsSequence": _PATIENT_ID,
}

_TYPES: Final[Mapping[str, str]] = {
    # Scheduled Procedure Step
    STEP: "1",
    f"{STEP}.ScheduledStationAETitle": "1",
    f"{STEP}.ScheduledProcedureStepStartDate": "1",
    f"{STEP}.ScheduledProcedureStepStartTime": "1",
    f"{STEP}.ScheduledProcedureStepEndDate": "3",
    f"{STEP}.ScheduledProcedureStepEndTime": "3",
    f"{STEP}.Modality": "1",
    f"{STEP}.ScheduledPerformingPhysicianName": "2",
    f"{STEP}.ScheduledProcedureStepDescription": "1C",
    f"{STEP}.ScheduledProtocolCodeSequence": "1C",
    f"{STEP}.ScheduledStationName": "2",
    f"{STEP}.ScheduledProcedureStepLocation": "2",
    f"{STEP}.PreMedication": "2C",
    f"{STEP}.ScheduledProcedureStepID": "1",
    f"{STEP}.RequestedContrastAgent": "2C",
    f"{STEP}.ScheduledProcedureStepStatus": "3",
    f"{STEP}.CommentsOnTheScheduledProcedureStep": "3",
    # Requested Procedure
    "RequestedProcedureID": "1",
    "RequestedProcedureDescription": "1C",
    "RequestedProcedureCodeSequence": "1C",
    "StudyInstanceUID": "1",
    "StudyDate": "3",
    "StudyTime": "3",
    "TimezoneOffsetFromUTC": "3",
    "ReferencedStudySequence": "2",
    "RequestedProcedurePriority": "2",
    "PatientTransportArrangements": "2",
    "ReasonForTheRequestedProcedure": "3",
    "ReasonForRequestedProcedureCodeSequence": "3",
    "RequestedProcedureLocation": "3",
    "RequestedProcedureComments": "3",
    "NamesOfIntendedRecipientsOfResults": "3",
    # Imaging Service Request
    "AccessionNumber": "2",
    "IssuerOfAccessionNumberSequence": "3",
    "RequestingPhysician": "2",
    "RequestingService": "3",
    "ReferringPhysicianName": "2",
    "PlacerOrderNumberImagingServiceRequest": "3",
    "FillerOrderNumberImagingServiceRequest": "3",
    "OrderPlacerIdentifierSequence": "3",
    "OrderFillerIdentifierSequence": "3",
    "ImagingServiceRequestComments": "3",
    "IssueDateOfImagingServiceRequest": "3",
    "IssueTimeOfImagingServiceRequest": "3",
    "OrderEnteredBy": "3",
    "OrderEntererLocation": "3",
    "OrderCallbackPhoneNumber": "3",
    # Visit
    "AdmissionID": "2",
    "IssuerOfAdmissionIDSequence": "3",
    "AdmittingDate": "3",
    "AdmittingDiagnosesDescription": "3",
    "CurrentPatientLocation": "2",
    "PatientInstitutionResidence": "3",
    "VisitStatusID": "3",
    "InstitutionName": "3",
    "InstitutionalDepartmentName": "3",
    "ReferencedPatientSequence": "2",
    # Patient
    "PatientName": "1",
    "PatientID": "1",
    "IssuerOfPatientID": "3",
    "OtherPatientIDs": "3",
    "OtherPatientIDsSequence": "3",
    "PatientBirthDate": "2",
    "PatientBirthTime": "3",
    "PatientSex": "2",
    "PatientAge": "3",
    "PatientSize": "3",
    "PatientWeight": "2",
    "PatientAddress": "3",
    "PatientTelephoneNumbers": "3",
    "PatientMotherBirthName": "3",
    "EthnicGroup": "3",
    "Occupation": "3",
    "PatientComments": "3",
    "ConfidentialityConstraintOnPatientDataDescription": "2",
    "PatientState": "2",
    "PregnancyStatus": "2",
    "LastMenstrualDate": "3",
    "SmokingStatus": "3",
    "MedicalAlerts": "2",
    "Allergies": "2",
    "SpecialNeeds": "2",
    "AdditionalPatientHistory": "3",
}


def _with_items() -> Iterator[tuple[str, str]]:
    for keyword, type_ in _TYPES.items():
        yield keyword, type_
        for inner, inner_type in _SEQUENCES.get(keyword, {}).items():
            yield f"{keyword}.{inner}", inner_type


ATTRIBUTES: Final[Mapping[str, str]] = dict(_with_items())
"""Dotted keyword → return key type."""
REQUIRED_KEYS: Final = frozenset(
    {
        "PatientName",
        "PatientID",
        f"{STEP}.ScheduledStationAETitle",
        f"{STEP}.ScheduledProcedureStepStartDate",
        f"{STEP}.ScheduledProcedureStepStartTime",
        f"{STEP}.Modality",
        f"{STEP}.ScheduledPerformingPhysicianName",
    }
)
"""The matching keys that every SCP has (matching key type R)."""
