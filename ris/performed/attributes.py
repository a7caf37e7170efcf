"""The attributes of a performed step: read as they were sent, or made in a device's place."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from ris.keys import Attributes
from ris.performed.model import Made
from ris.verdict import PerformedStatus
from storage.base import temporal
from storage.base.errors import Malformed
from storage.base.values import is_uid

STATUS: Final = "PerformedProcedureStepStatus"
ITEMS: Final = "ScheduledStepAttributesSequence"
_SERIES: Final = "PerformedSeriesSequence"
_REASONS: Final = "PerformedProcedureStepDiscontinuationReasonCodeSequence"
_OBJECTS: Final = ("ReferencedImageSequence", "ReferencedNonImageCompositeSOPInstanceSequence")


def items(attributes: Attributes) -> Iterator[dict[str, str]]:
    """Return the columns of each scheduled step that a step says it is for, each once."""
    names = {
        "study_instance_uid": "StudyInstanceUID",
        "accession_number": "AccessionNumber",
        "requested_procedure_id": "RequestedProcedureID",
        "scheduled_procedure_step_id": "ScheduledProcedureStepID",
    }
    seen = set()
    for item in _sequence(attributes, ITEMS):
        found = {column: _word(item, keyword) for column, keyword in names.items()}
        key = tuple(found.values())
        if key not in seen:
            seen.add(key)
            yield found


def columns(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a step that has these attributes."""
    reasons = _sequence(attributes, _REASONS)
    return {
        "attributes": attributes,
        "status": _word(attributes, STATUS),
        "reason": _word(reasons[0], "CodeValue") if reasons else "",
        "performed_procedure_step_id": _word(attributes, "PerformedProcedureStepID"),
        "modality": _word(attributes, "Modality"),
        "station_ae_title": _word(attributes, "PerformedStationAETitle"),
        "patient_id": _word(attributes, "PatientID"),
        "started": _moment(attributes, "PerformedProcedureStepStart"),
        "ended": _moment(attributes, "PerformedProcedureStepEnd"),
        "instance_uids": sorted(_named_objects(attributes)),
    }


def _named_objects(attributes: Attributes) -> set[str]:
    return {
        uid
        for series in _sequence(attributes, _SERIES)
        for keyword in _OBJECTS
        for reference in _sequence(series, keyword)
        if is_uid(uid := _word(reference, "ReferencedSOPInstanceUID"))
    }


def _moment(attributes: Attributes, prefix: str) -> datetime | None:
    try:
        day = temporal.parse_da(_word(attributes, f"{prefix}Date"))
        moment = temporal.parse_tm(_word(attributes, f"{prefix}Time"))
    except Malformed:
        return None
    return datetime.combine(day, moment or datetime.min.time()) if day else None


def _sequence(attributes: Attributes, keyword: str) -> Sequence[Attributes]:
    value = attributes.get(keyword, ())
    return () if isinstance(value, str) else value


def _word(attributes: Attributes, keyword: str) -> str:
    value = attributes.get(keyword, "")
    return value.strip() if isinstance(value, str) else ""


def stored(attributes: Attributes) -> dict[str, Any]:
    """Return what the database can keep: no NUL."""
    return {
        keyword: value.replace("\0", "") if isinstance(value, str) else [*map(stored, value)]
        for keyword, value in attributes.items()
    }


def of_made(made: Made) -> dict[str, Any]:
    """Return the attributes of the completed step that no device told."""
    return {
        STATUS: PerformedStatus.COMPLETED.value,
        "Modality": made.modality,
        "PatientID": made.patient_id,
        "PerformedStationAETitle": made.station_ae_title,
        "PerformedProcedureStepStartDate": _day(made.started),
        "PerformedProcedureStepStartTime": _time(made.started),
        "PerformedProcedureStepEndDate": _day(made.ended),
        "PerformedProcedureStepEndTime": _time(made.ended),
        ITEMS: [{"StudyInstanceUID": made.study_instance_uid}],
        _SERIES: [{"SeriesInstanceUID": one} for one in made.series_instance_uids],
    }


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y%m%d}" if moment else ""


def _time(moment: datetime | None) -> str:
    return f"{moment:%H%M%S}" if moment else ""
