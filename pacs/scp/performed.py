"""Modality Performed Procedure Step SCP and its retrieval (PS3.4 F.7 and F.8).

Consoles leave much of a step empty, so an empty attribute is refused only where
nothing could be done without it: the status and the study.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Final
from uuid import uuid4

from pacs import header
from pacs.scp import datasets, status
from pacs.scp.datasets import Attributes
from pacs.scp.exchange import Exchange, Request, Response
from storage.base import values
from storage.base.errors import Conflict

log = logging.getLogger(__name__)

MAX_STEP_BYTES: Final = 32 << 20
"""A step names each of its images."""

IN_PROGRESS: Final = "IN PROGRESS"
STATUSES: Final = frozenset({IN_PROGRESS, "COMPLETED", "DISCONTINUED"})
_STATUS: Final = "PerformedProcedureStepStatus"
_SCHEDULED: Final = "ScheduledStepAttributesSequence"

# PS3.4 Table F.7.2-1, Type 1 in N-CREATE
REQUIRED: Final = (
    "Modality",
    "PerformedStationAETitle",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    _STATUS,
    "PerformedProcedureStepID",
    _SCHEDULED,
)
_NEVER_EMPTY: Final = (_STATUS, _SCHEDULED)
# PS3.4 Table F.7.2-1, not allowed in N-SET
NOT_SETTABLE: Final = (
    _SCHEDULED,
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "ReferencedPatientSequence",
    "PerformedProcedureStepID",
    "PerformedStationAETitle",
    "PerformedStationName",
    "PerformedLocation",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "Modality",
    "StudyID",
)

Create = Callable[[str, Attributes, str], None]
"""Begins the step of a SOP Instance UID; the last argument is the calling AE title."""
Update = Callable[[str, Attributes], None]
Get = Callable[[str], Attributes]


def create(
    request: Request,
    exchange: Exchange,  # noqa: ARG001 - a Service
    *,
    create_step: Create,
) -> Iterator[Response]:
    """Begin a step: N-CREATE (PS3.4 F.7.2.1).

    Raises
    ------
    Malformed
        The data set cannot be read.
    Conflict
        There is a step of that UID.
    StoreUnavailable
        The step cannot be kept now.
    """
    attributes = _attributes(request)
    refusal = _refusal_to_begin(attributes)
    if refusal is not None:
        log.warning("performed_step_refused", extra={"reason": refusal.comment})
        yield refusal
        return
    uid = request.command.affected_sop_instance_uid or f"2.25.{uuid4().int}"
    if not values.is_uid(uid):
        yield Response(status.INVALID_OBJECT_INSTANCE, "the SOP Instance UID is no UID")
        return
    create_step(uid, attributes, request.caller.calling_ae_title)
    yield Response(status.SUCCESS, sop_instance_uid=uid)


def update(
    request: Request,
    exchange: Exchange,  # noqa: ARG001 - a Service
    *,
    update_step: Update,
    get_step: Get,
) -> Iterator[Response]:
    """Change a step that is in progress, or bring it to its end: N-SET (PS3.4 F.7.2.2).

    What may not be set is left as it is; that is a warning where the value differs.

    Raises
    ------
    Malformed
        The data set cannot be read.
    NotFound
        There is no step of that UID.
    StoreUnavailable
        The change cannot be kept now.
    """
    attributes = _attributes(request)
    uid = request.command.requested_sop_instance_uid or ""
    wanted = datasets.text(attributes, _STATUS)
    if _STATUS in attributes and wanted not in STATUSES:
        yield _complaint(status.INVALID_ATTRIBUTE_VALUE, "not a status of a step", (_STATUS,))
        return
    held = get_step(uid)
    left = [name for name in NOT_SETTABLE if name in attributes]
    try:
        update_step(uid, {name: attributes[name] for name in attributes if name not in left})
    except Conflict as error:
        log.warning("performed_step_not_changed", extra={"reason": str(error)})
        comment = "Performed Procedure Step Object may no longer be updated"
        yield Response(status.PROCESSING_FAILURE, comment, error_id=status.MAY_NO_LONGER_BE_UPDATED)
        return
    differing = [name for name in left if (attributes[name] or "") != (held.get(name) or "")]
    if differing:
        yield _complaint(status.ATTRIBUTE_LIST_ERROR, "not changed by N-SET", differing)
    else:
        yield Response(status.SUCCESS)


def get(
    request: Request,
    exchange: Exchange,  # noqa: ARG001 - a Service
    *,
    get_step: Get,
) -> Iterator[Response]:
    """Return the attributes of a step, or those that are asked for: N-GET (PS3.4 F.8.2.1).

    Raises
    ------
    NotFound
        There is no step of that UID.
    StoreUnavailable
        The steps cannot be looked up.
    """
    held = get_step(request.command.requested_sop_instance_uid or "")
    wanted = request.command.attribute_identifier_list
    found = {
        keyword: value
        for keyword, value in held.items()
        if not wanted or header.tag_of(keyword) in wanted
    }
    missing = set(wanted or ()) - set(datasets.tags(found))
    yield Response(
        status.OPTIONAL_ATTRIBUTES_NOT_SUPPORTED if missing else status.SUCCESS,
        identifier=datasets.write(found, request.context.transfer_syntax),
    )


def _attributes(request: Request) -> Attributes:
    data = request.identifier(MAX_STEP_BYTES)
    return datasets.read(data, request.context.transfer_syntax)


def _refusal_to_begin(attributes: Attributes) -> Response | None:
    """Return what an N-CREATE lacks, None when it lacks nothing."""
    absent = [name for name in REQUIRED if name not in attributes]
    if absent:
        return _complaint(status.MISSING_ATTRIBUTE, "required", absent)
    empty = [name for name in _NEVER_EMPTY if not attributes[name]]
    if not empty and not all(map(_has_study, datasets.items(attributes, _SCHEDULED))):
        empty = [_SCHEDULED]
    if empty:
        return _complaint(status.MISSING_ATTRIBUTE_VALUE, "may not be empty", empty)
    if attributes[_STATUS] != IN_PROGRESS:
        return _complaint(status.INVALID_ATTRIBUTE_VALUE, "a step begins IN PROGRESS", (_STATUS,))
    return None


def _has_study(item: Attributes) -> bool:
    return values.is_uid(datasets.text(item, "StudyInstanceUID"))


def _complaint(code: int, what: str, keywords: Iterable[str]) -> Response:
    names = list(keywords)
    return Response(code, f"{', '.join(names)}: {what}", attributes=datasets.tags(names))
