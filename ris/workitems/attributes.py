"""What a workitem must have, may change and shows (PS3.4 Table CC.2.5-3)."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from ris.workitems import contents
from ris.workitems.contents import Json
from ris.workitems.faults import (
    FinalStateUnmet,
    InvalidValue,
    MissingAttribute,
    MissingValue,
    NotScheduled,
)
from ris.workitems.states import State
from storage.base import temporal, values
from storage.base.errors import Malformed

STATE: Final = "ProcedureStepState"
TRANSACTION: Final = "TransactionUID"
MODIFIED: Final = "ScheduledProcedureStepModificationDateTime"
START: Final = "ScheduledProcedureStepStartDateTime"
PRIORITY: Final = "ScheduledProcedureStepPriority"
READINESS: Final = "InputReadinessState"
WORKLIST: Final = "WorklistLabel"
PROGRESS: Final = "ProcedureStepProgressInformationSequence"
PERFORMED: Final = "UnifiedProcedureStepPerformedProcedureSequence"
REQUESTS: Final = "ReferencedRequestSequence"
DEFAULT_WORKLIST: Final = "DEFAULT"
"""Of a workitem that comes without a Worklist Label, which has to have one."""

REQUIRED: Final = (STATE, PRIORITY, "ProcedureStepLabel", START, READINESS)
"""Type 1 in N-CREATE."""

# Type 2 in N-CREATE: what is not sent is held without a value
FILLED: Final = (
    "ScheduledProcessingParametersSequence",
    "ScheduledStationNameCodeSequence",
    "ScheduledStationClassCodeSequence",
    "ScheduledStationGeographicLocationCodeSequence",
    "ScheduledWorkitemCodeSequence",
    "CommentsOnTheScheduledProcedureStep",
    "InputInformationSequence",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    REQUESTS,
    PROGRESS,
    PERFORMED,
)

NOT_SETTABLE: Final = (
    "SOPClassUID",
    "SOPInstanceUID",
    STATE,
    MODIFIED,
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "PatientBirthDate",
    "PatientSex",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    REQUESTS,
    "ReplacedProcedureStepSequence",
)
"""Not allowed in N-SET; what is sent just as it is held does no harm."""
_NEVER_EMPTY: Final = frozenset({*REQUIRED, WORKLIST})

_DEFINED: Final[Mapping[str, frozenset[str]]] = {
    PRIORITY: frozenset({"HIGH", "MEDIUM", "LOW"}),
    READINESS: frozenset({"INCOMPLETE", "UNAVAILABLE", "READY"}),
}
_MOMENTS: Final = (
    START,
    "ExpectedCompletionDateTime",
    "ScheduledProcedureStepExpirationDateTime",
)

# Final state R: what the performed procedure of a COMPLETED workitem has
_FINAL: Final = (
    "PerformedStationNameCodeSequence",
    "PerformedWorkitemCodeSequence",
    "PerformedProcedureStepStartDateTime",
    "PerformedProcedureStepEndDateTime",
)

ASSIGNMENT: Final = ("ScheduledStationNameCodeSequence", "ScheduledHumanPerformersSequence")
REASONS: Final = ("ReasonForCancellation", "ProcedureStepDiscontinuationReasonCodeSequence")
CONTACT: Final = ("ContactURI", "ContactDisplayName")
_CANCELED_AT: Final = "ProcedureStepCancellationDateTime"

RETURNED: Final = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    PRIORITY,
    MODIFIED,
    "ProcedureStepLabel",
    WORKLIST,
    *FILLED[:4],
    "ScheduledHumanPerformersSequence",
    START,
    "ExpectedCompletionDateTime",
    "ScheduledWorkitemCodeSequence",
    "CommentsOnTheScheduledProcedureStep",
    READINESS,
    "InputInformationSequence",
    "StudyInstanceUID",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "OtherPatientIDsSequence",
    "PatientBirthDate",
    "PatientSex",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    REQUESTS,
    "ReplacedProcedureStepSequence",
    STATE,
    PROGRESS,
)
"""In every search result over HTTP: return key type 1 or 2."""

_UNSPECIFIED: Final = {  # CID 9300
    **contents.attribute("CodeValue", "110513"),
    **contents.attribute("CodingSchemeDesignator", "DCM"),
    **contents.attribute("CodeMeaning", "Discontinued for unspecified reason"),
}


def to_hold(sent: Json) -> tuple[dict[str, Any], bool]:
    """Return a workitem as it is held, and whether values that it has to have were supplied.

    Raises
    ------
    NotScheduled
        It does not begin SCHEDULED.
    MissingAttribute, MissingValue, InvalidValue
        It lacks what it must have, or has it wrong.
    """
    absent = [name for name in REQUIRED if contents.tag_of(name) not in sent]
    if absent:
        raise MissingAttribute("required", *absent)
    empty = [name for name in REQUIRED if not contents.has_value(sent, name)]
    if empty:
        raise MissingValue("must have a value", *empty)
    if contents.text(sent, STATE) != State.SCHEDULED:
        raise NotScheduled
    if contents.has_value(sent, TRANSACTION):
        raise InvalidValue("a workitem that is created is claimed by nobody", TRANSACTION)
    _check_values(sent)
    held = _without(sent, (TRANSACTION, STATE, MODIFIED, "SOPClassUID", "SOPInstanceUID"))
    supplied = [name for name in FILLED if contents.tag_of(name) not in sent]
    for name in supplied:
        held |= contents.attribute(name)
    if not contents.has_value(sent, WORKLIST):
        supplied.append(WORKLIST)
        held |= contents.attribute(WORKLIST, DEFAULT_WORKLIST)
    return held, bool(supplied)


def to_set(held: Json, sent: Json) -> dict[str, Any]:
    """Return what an update changes; `held` is the whole workitem as it is shown.

    Raises
    ------
    MissingValue, InvalidValue
        It changes what may not be changed, or empties what must have a value.
    """
    fixed = [name for name in NOT_SETTABLE if contents.tag_of(name) in sent]
    differing = [name for name in fixed if not _same(held, sent, name)]
    if differing:
        raise InvalidValue("is not changed by an update", *differing)
    changes = _without(sent, (*fixed, TRANSACTION))
    empty = [
        name
        for name in sorted(_NEVER_EMPTY)
        if contents.tag_of(name) in changes and not contents.has_value(changes, name)
    ]
    if empty:
        raise MissingValue("must have a value", *empty)
    _check_values(changes)
    return {tag: value for tag, value in changes.items() if held.get(tag) != value}


def require_final(held: Json) -> None:
    """Check what has to be known of work that is done (PS3.4 CC.2.5.1.1).

    Raises
    ------
    FinalStateUnmet
        The performed procedure is not told, or not wholly.
    """
    performed = contents.items(held, PERFORMED)
    if not performed or not all(contents.has_value(performed[0], name) for name in _FINAL):
        raise FinalStateUnmet


def canceled(held: Json, request: Json, now: datetime) -> dict[str, Any]:
    """Return the Progress Information of a cancelled workitem: when, why, and whom to ask."""
    told = contents.items(held, PROGRESS)
    first = {**(told[0] if told else {}), **contents.select(request, REASONS)}
    if not contents.has_value(first, _CANCELED_AT):
        first |= contents.attribute(_CANCELED_AT, dt_of(now))
    if not contents.has_value(first, REASONS[1]):
        first |= contents.attribute(REASONS[1], _UNSPECIFIED)
    contact = contents.select(request, CONTACT)
    if contact:
        known = "ProcedureStepCommunicationsURISequence"
        first |= contents.attribute(known, *contents.items(first, known), contact)
    return contents.attribute(PROGRESS, dict(sorted(first.items())), *told[1:])


def studies(held: Json) -> list[str]:
    """Return the Study Instance UIDs that a workitem is about, each once."""
    where = (
        held,
        *contents.items(held, REQUESTS),
        *contents.items(held, "InputInformationSequence"),
    )
    found = (contents.text(one, "StudyInstanceUID") for one in where)
    return [*dict.fromkeys(uid for uid in found if uid)]


def dt_of(moment: datetime) -> str:
    """Return a DT in UTC, with its offset (PS3.5 6.2)."""
    return moment.astimezone(UTC).strftime("%Y%m%d%H%M%S.%f+0000")


def _check_values(sent: Json) -> None:
    for name, known in _DEFINED.items():
        if (given := contents.text(sent, name)) and given not in known:
            raise InvalidValue(f"is none of {', '.join(sorted(known))}", name)
    for name in _MOMENTS:
        try:
            temporal.parse_dt(contents.text(sent, name))
        except Malformed as error:
            raise InvalidValue(str(error), name) from error
    study = contents.text(sent, "StudyInstanceUID")
    if study and not values.is_uid(study):
        raise InvalidValue("is no UID", "StudyInstanceUID")


def _without(dataset: Json, keywords: Iterable[str]) -> dict[str, Any]:
    left_out = {*map(contents.tag_of, keywords), contents.tag_of("SpecificCharacterSet")}
    return {tag: value for tag, value in dataset.items() if tag not in left_out}


def _same(held: Json, sent: Json, keyword: str) -> bool:
    mine, theirs = contents.values(held, keyword), contents.values(sent, keyword)
    return [*mine] == [*theirs]
