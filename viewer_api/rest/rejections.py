"""Rejected objects under ``/api/v1/rejections``: reject, see what is hidden, show it again."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from pacs import illustrating, rejection_notes, report_objects
from pacs.rejection_notes import Preview, Wanted
from storage.access.tokens import Action
from storage.archive import rejections
from storage.archive.model import StoredInstance
from storage.archive.rejection_rules import Title
from storage.archive.rejections import Rejection, RejectionNote
from storage.audit import journal
from storage.audit.model import Entry, Kind
from storage.db.engine import Session, transaction
from viewer_api import deps
from viewer_api.deps import Transaction

router = APIRouter(
    prefix="/api/v1/rejections",
    tags=["rejections"],
    dependencies=[Depends(deps.may(Action.RECONCILE))],
)
Uid = Annotated[str, Path(max_length=64, pattern=r"^[0-9.]+$")]
GivenUid = Annotated[str, Field(max_length=64, pattern=r"^[0-9.]+$")]
PRIVATE = {"Cache-Control": "private, no-store"}


class RejectRequest(BaseModel):
    """What is to be rejected: all of a study that is shown, a series, or some objects."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    study_instance_uid: GivenUid
    series_instance_uid: Annotated[str, Field(max_length=64, pattern=r"^[0-9.]*$")] = ""
    sop_instance_uids: list[GivenUid] = Field(default=[], max_length=10_000)
    title: Title
    """113001 quality, 113037 patient safety, 113038 wrong worklist entry, 113039 retention."""
    reason: str = Field(default="", max_length=rejection_notes.MOST_REASON)


class Made(BaseModel):
    """The rejection note; it has its effect when it is archived, a moment later."""

    sop_instance_uid: str


@router.get("")
def list_notes(
    session: Transaction,
    study_instance_uid: Annotated[str, Query(max_length=64)] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[str, Query(max_length=64)] = "",
) -> list[RejectionNote]:
    """List the rejection notes, the newest first.

    `after` is the UID of the last one seen.
    """
    return rejections.list_notes(
        session, study_instance_uid=study_instance_uid, limit=limit, after=after
    )


@router.post("", status_code=202)
def reject(request: Request, wanted: RejectRequest) -> Made:
    """Reject objects: a rejection note is made and archived, nobody finds them any more."""
    parts = deps.parts(request)
    with transaction(parts.engine) as session:
        note = rejection_notes.note_of(session, _wanted(request, wanted), parts.settings.zone)
    report_objects.put(parts.spool, note, parts.settings.ae_title)
    return Made(sop_instance_uid=str(note.SOPInstanceUID))


@router.post("/preview")
def preview(request: Request, session: Transaction, wanted: RejectRequest) -> Preview:
    """Return what rejecting would hide; nothing is done."""
    return rejection_notes.preview(session, _wanted(request, wanted))


@router.get("/{note}")
def show(session: Transaction, note: Uid) -> RejectionNote:
    """Return one rejection note."""
    return rejections.get(session, note)


@router.get("/{note}/instances")
def list_named(session: Transaction, note: Uid) -> list[Rejection]:
    """List what a note names, and what became of each object."""
    return rejections.named_by(session, note)


@router.get("/{note}/instances/{instance}", response_class=Response)
def fetch(request: Request, note: Uid, instance: Uid) -> Response:
    """Return a rejected object, or the note itself, as a DICOM file."""
    held = _held(request, note, instance, Kind.DOWNLOAD)
    content = rejection_notes.file_of(deps.parts(request).store, held)
    return Response(content, media_type="application/dicom", headers=PRIVATE)


@router.get("/{note}/instances/{instance}/preview", response_class=Response)
def look(
    request: Request,
    note: Uid,
    instance: Uid,
    frame: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Response:
    """Return a small picture of a rejected object, to decide whether it stays so."""
    held = _held(request, note, instance, Kind.VIEW)
    jpeg = illustrating.draw(deps.parts(request).store, held, frame)
    return Response(jpeg, media_type="image/jpeg", headers=PRIVATE)


@router.post("/{note}/restore")
def restore(request: Request, session: Transaction, note: Uid) -> RejectionNote:
    """Withdraw a note: what no other one rejects is shown again."""
    name, address = _name(request), deps.address_of(request)
    return rejection_notes.restore(session, note, by=name, address=address)


def _held(request: Request, note: str, instance: str, kind: Kind) -> StoredInstance:
    with transaction(deps.parts(request).engine) as session:
        held = rejection_notes.held_by(session, note, instance)
        _tell(request, session, kind, held, note)
    return held


def _tell(request: Request, session: Session, kind: Kind, held: StoredInstance, note: str) -> None:
    entry = Entry(
        kind=kind,
        actor=_name(request),
        role=deps.caller_of(request).role,
        address=deps.address_of(request),
        study_instance_uid=held.study_instance_uid,
        details={"note": note, "rejected": held.sop_instance_uid},
    )
    journal.append(session, entry)


def _wanted(request: Request, wanted: RejectRequest) -> Wanted:
    return Wanted(
        study_instance_uid=wanted.study_instance_uid,
        series_instance_uid=wanted.series_instance_uid,
        sop_instance_uids=wanted.sop_instance_uids,
        title=wanted.title,
        reason=wanted.reason,
        by=_name(request),
    )


def _name(request: Request) -> str:
    caller = deps.caller_of(request)
    return caller.label or caller.prefix
