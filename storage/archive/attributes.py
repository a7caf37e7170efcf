"""The attributes that the index keeps: one row each.

C-FIND (PS3.4 C.6) and QIDO-RS (PS3.18 10.6) answer from this table, the tables
of the database are laid from it, and conformance statements are made from it.
An attribute of a sequence item has a dotted keyword, as in QIDO-RS.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from types import MappingProxyType
from typing import Final

from storage.archive.model import Level


class Matching(StrEnum):
    """How a query key is compared with what is kept (PS3.4 C.2.2.2)."""

    UID = "uid"
    """A list of UIDs."""
    TEXT = "text"
    """Single value and wild card, case-sensitive."""
    NAME = "name"
    """Folded words, wild card over the folded name (PS3.4 C.2.2.2.1 for VR PN)."""
    DATE = "date"
    TIME = "time"
    """Single value and range."""
    INTEGER = "integer"
    """By number, not by text."""
    LIST = "list"
    """Any member of what the entity holds, single value and wild card."""
    NONE = "none"
    """Returned, never matched."""


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute at one level of the hierarchy."""

    keyword: str
    path: tuple[int, ...]
    """Its tag, after those of the sequences that it is in."""
    vr: str
    level: Level
    column: str
    """Where its value is kept; '' when it is computed for the answer."""
    matching: Matching
    multiple: bool = False
    """VM may exceed 1; a key matches when it matches any value."""
    received: bool = True
    """Read from the object; else kept by the archive itself."""

    @property
    def tag(self) -> int:
        """The tag of the attribute itself."""
        return self.path[-1]

    @property
    def number(self) -> bool:
        """Whether the column is an integer."""
        return self.vr in {"IS", "US"}


_P, _ST, _SE, _I = Level.PATIENT, Level.STUDY, Level.SERIES, Level.IMAGE
_UID, _TEXT, _NAME, _NONE = Matching.UID, Matching.TEXT, Matching.NAME, Matching.NONE
_DATE, _TIME, _INTEGER, _LIST = Matching.DATE, Matching.TIME, Matching.INTEGER, Matching.LIST
_REQUEST: Final = 0x00400275

ATTRIBUTES: Final = (
    # Patient level, PS3.4 Table C.6-1
    Attribute("PatientName", (0x00100010,), "PN", _P, "patient_name", _NAME),
    Attribute("PatientID", (0x00100020,), "LO", _P, "patient_id", _TEXT),
    Attribute("IssuerOfPatientID", (0x00100021,), "LO", _P, "issuer_of_patient_id", _TEXT),
    Attribute("PatientBirthDate", (0x00100030,), "DA", _P, "patient_birth_date", _DATE),
    Attribute("PatientBirthTime", (0x00100032,), "TM", _P, "patient_birth_time", _NONE),
    Attribute("PatientSex", (0x00100040,), "CS", _P, "patient_sex", _TEXT),
    Attribute(
        "OtherPatientIDs", (0x00101000,), "LO", _P, "other_patient_ids", _TEXT, multiple=True
    ),
    Attribute("PatientComments", (0x00104000,), "LT", _P, "patient_comments", _TEXT),
    Attribute("NumberOfPatientRelatedStudies", (0x00201200,), "IS", _P, "", _NONE, received=False),
    Attribute("NumberOfPatientRelatedSeries", (0x00201202,), "IS", _P, "", _NONE, received=False),
    Attribute(
        "NumberOfPatientRelatedInstances", (0x00201204,), "IS", _P, "", _NONE, received=False
    ),
    # Study level, PS3.4 Tables C.6-2 and C.6-5
    Attribute("StudyInstanceUID", (0x0020000D,), "UI", _ST, "study_instance_uid", _UID),
    Attribute("StudyDate", (0x00080020,), "DA", _ST, "study_date", _DATE),
    Attribute("StudyTime", (0x00080030,), "TM", _ST, "study_time", _TIME),
    Attribute("AccessionNumber", (0x00080050,), "SH", _ST, "accession_number", _TEXT),
    Attribute("StudyID", (0x00200010,), "SH", _ST, "study_id", _TEXT),
    Attribute("StudyDescription", (0x00081030,), "LO", _ST, "study_description", _TEXT),
    Attribute(
        "ReferringPhysicianName", (0x00080090,), "PN", _ST, "referring_physician_name", _NAME
    ),
    Attribute(
        "NameOfPhysiciansReadingStudy",
        (0x00081060,),
        "PN",
        _ST,
        "name_of_physicians_reading_study",
        _NAME,
        multiple=True,
    ),
    Attribute("InstitutionName", (0x00080080,), "LO", _ST, "institution_name", _TEXT),
    Attribute("AdmissionID", (0x00380010,), "LO", _ST, "admission_id", _TEXT),
    Attribute("PatientAge", (0x00101010,), "AS", _ST, "patient_age", _NONE),
    Attribute("PatientSize", (0x00101020,), "DS", _ST, "patient_size", _NONE),
    Attribute("PatientWeight", (0x00101030,), "DS", _ST, "patient_weight", _NONE),
    Attribute("TimezoneOffsetFromUTC", (0x00080201,), "SH", _ST, "timezone_offset_from_utc", _NONE),
    Attribute("ModalitiesInStudy", (0x00080061,), "CS", _ST, "modalities", _LIST, received=False),
    Attribute("SOPClassesInStudy", (0x00080062,), "UI", _ST, "sop_classes", _LIST, received=False),
    Attribute(
        "NumberOfStudyRelatedSeries",
        (0x00201206,),
        "IS",
        _ST,
        "number_of_series",
        _NONE,
        received=False,
    ),
    Attribute(
        "NumberOfStudyRelatedInstances",
        (0x00201208,),
        "IS",
        _ST,
        "number_of_instances",
        _NONE,
        received=False,
    ),
    # Series level, PS3.4 Table C.6-3
    Attribute("SeriesInstanceUID", (0x0020000E,), "UI", _SE, "series_instance_uid", _UID),
    Attribute("Modality", (0x00080060,), "CS", _SE, "modality", _TEXT),
    Attribute("SeriesNumber", (0x00200011,), "IS", _SE, "series_number", _INTEGER),
    Attribute("SeriesDescription", (0x0008103E,), "LO", _SE, "series_description", _TEXT),
    Attribute("SeriesDate", (0x00080021,), "DA", _SE, "series_date", _DATE),
    Attribute("SeriesTime", (0x00080031,), "TM", _SE, "series_time", _TIME),
    Attribute("BodyPartExamined", (0x00180015,), "CS", _SE, "body_part_examined", _TEXT),
    Attribute("Laterality", (0x00200060,), "CS", _SE, "laterality", _TEXT),
    Attribute("ProtocolName", (0x00181030,), "LO", _SE, "protocol_name", _TEXT),
    Attribute(
        "PerformedProcedureStepStartDate",
        (0x00400244,),
        "DA",
        _SE,
        "performed_procedure_step_start_date",
        _DATE,
    ),
    Attribute(
        "PerformedProcedureStepStartTime",
        (0x00400245,),
        "TM",
        _SE,
        "performed_procedure_step_start_time",
        _TIME,
    ),
    Attribute(
        "PerformedProcedureStepID", (0x00400253,), "SH", _SE, "performed_procedure_step_id", _TEXT
    ),
    Attribute(
        "PerformedProcedureStepDescription",
        (0x00400254,),
        "LO",
        _SE,
        "performed_procedure_step_description",
        _TEXT,
    ),
    Attribute("StationName", (0x00081010,), "SH", _SE, "station_name", _TEXT),
    Attribute("Manufacturer", (0x00080070,), "LO", _SE, "manufacturer", _TEXT),
    Attribute("ManufacturerModelName", (0x00081090,), "LO", _SE, "manufacturer_model_name", _TEXT),
    # of the equipment, so each series has its own; the study answers with its first one
    Attribute("InstitutionName", (0x00080080,), "LO", _SE, "institution_name", _TEXT),
    Attribute(
        "InstitutionalDepartmentName",
        (0x00081040,),
        "LO",
        _SE,
        "institutional_department_name",
        _TEXT,
    ),
    Attribute("OperatorsName", (0x00081070,), "PN", _SE, "operators_name", _NAME, multiple=True),
    Attribute(
        "PerformingPhysicianName",
        (0x00081050,),
        "PN",
        _SE,
        "performing_physician_name",
        _NAME,
        multiple=True,
    ),
    Attribute("FrameOfReferenceUID", (0x00200052,), "UI", _SE, "frame_of_reference_uid", _UID),
    Attribute(
        "RequestAttributesSequence.ScheduledProcedureStepID",
        (_REQUEST, 0x00400009),
        "SH",
        _SE,
        "scheduled_procedure_step_id",
        _TEXT,
        multiple=True,
    ),
    Attribute(
        "RequestAttributesSequence.RequestedProcedureID",
        (_REQUEST, 0x00401001),
        "SH",
        _SE,
        "requested_procedure_id",
        _TEXT,
        multiple=True,
    ),
    Attribute(
        "NumberOfSeriesRelatedInstances",
        (0x00201209,),
        "IS",
        _SE,
        "number_of_instances",
        _NONE,
        received=False,
    ),
    # Composite Object Instance level, PS3.4 Table C.6-4
    Attribute("SOPInstanceUID", (0x00080018,), "UI", _I, "sop_instance_uid", _UID),
    Attribute("SOPClassUID", (0x00080016,), "UI", _I, "sop_class_uid", _UID),
    Attribute("InstanceNumber", (0x00200013,), "IS", _I, "instance_number", _INTEGER),
    Attribute("ContentDate", (0x00080023,), "DA", _I, "content_date", _DATE),
    Attribute("ContentTime", (0x00080033,), "TM", _I, "content_time", _TIME),
    Attribute("AcquisitionDate", (0x00080022,), "DA", _I, "acquisition_date", _DATE),
    Attribute("AcquisitionTime", (0x00080032,), "TM", _I, "acquisition_time", _TIME),
    Attribute("AcquisitionNumber", (0x00200012,), "IS", _I, "acquisition_number", _INTEGER),
    Attribute("ImageType", (0x00080008,), "CS", _I, "image_type", _TEXT, multiple=True),
    Attribute("Rows", (0x00280010,), "US", _I, "rows", _INTEGER),
    Attribute("Columns", (0x00280011,), "US", _I, "columns", _INTEGER),
    Attribute("BitsAllocated", (0x00280100,), "US", _I, "bits_allocated", _INTEGER),
    Attribute("NumberOfFrames", (0x00280008,), "IS", _I, "number_of_frames", _INTEGER),
    Attribute("InstanceCreationDate", (0x00080012,), "DA", _I, "instance_creation_date", _DATE),
    Attribute("InstanceCreationTime", (0x00080013,), "TM", _I, "instance_creation_time", _TIME),
    Attribute(
        "AvailableTransferSyntaxUID",
        (0x00083002,),
        "UI",
        _I,
        "transfer_syntax_uid",
        _UID,
        received=False,
    ),
)

STORED: Final = frozenset(row.keyword for row in ATTRIBUTES if row.received)
"""The keywords that `ReceivedInstance.attributes` is read for."""

REQUIRED: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
"""Without these an object has no place in the hierarchy."""

WILD_VRS: Final = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
"""VRs that take wild cards, PS3.4 C.2.2.2.4."""

BACKSLASH_VRS: Final = frozenset({"LT", "ST", "UT"})
"""VRs in which a backslash is text and separates nothing, PS3.5 6.2."""


def of_level(level: Level) -> tuple[Attribute, ...]:
    """Return the attributes of `level` itself, in the table's order."""
    return _OF_LEVEL[level]


def visible(level: Level) -> Mapping[str, Attribute]:
    """Return the attributes that a query at `level` matches and returns, by keyword.

    These are its own and those of the levels above; of two with the same keyword
    the nearer one.
    """
    return _VISIBLE[level]


def _levels_down_to(level: Level) -> tuple[Level, ...]:
    return (*takewhile(lambda upper: upper is not level, Level), level)


_OF_LEVEL: Final = {
    level: tuple(row for row in ATTRIBUTES if row.level is level) for level in Level
}
_VISIBLE: Final = {
    level: MappingProxyType(
        {row.keyword: row for upper in _levels_down_to(level) for row in _OF_LEVEL[upper]}
    )
    for level in Level
}
