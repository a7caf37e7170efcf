"""Which study belongs to which order, under ``/api/v1/reconcile``: see, try, do, undo."""

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from ris import reconcile
from ris.reconcile import Deed, Entry, Preview, Reconciled, Standing
from storage.access.tokens import Action
from storage.base.clock import utc_now
from viewer_api import deps
from viewer_api.deps import Transaction

router = APIRouter(
    prefix="/api/v1/reconcile",
    tags=["reconcile"],
    dependencies=[Depends(deps.may(Action.SEE_ORDERS))],
)
DOES: Final = [Depends(deps.may(Action.RECONCILE))]
MAX_ID: Final = 2**63 - 1
Uid = Annotated[str, Path(max_length=64, pattern=r"^[0-9.]+$")]
ProcedureId = Annotated[int, Field(ge=1, le=MAX_ID)]


class DeedRequest(BaseModel):
    """What is to be done about a study."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Literal["attach", "detach", "move", "set aside"]
    procedure_ids: list[ProcedureId] = Field(default=[], max_length=50)
    """Requested procedures; none with ``detach``: all."""
    reason: str = Field(default="", max_length=1000)
    in_spite: bool = False
    """Though study and order are of different persons."""


@router.get("")
def list_open(
    session: Transaction,
    standing: Standing | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    after: Annotated[str, Query(max_length=64)] = "",
) -> list[Reconciled]:
    """List the studies that wait for a person, by Study Instance UID.

    `after` is the UID of the last one seen.
    """
    return reconcile.list_open(session, limit, standing, after)


@router.get("/{study_instance_uid}")
def show(session: Transaction, study_instance_uid: Uid) -> Reconciled:
    """Return what is known of a study: its orders, proposals, and whether it is complete."""
    return reconcile.show(session, study_instance_uid)


@router.get("/{study_instance_uid}/journal")
def journal(session: Transaction, study_instance_uid: Uid) -> list[Entry]:
    """List what was done about a study, oldest first."""
    return reconcile.journal(session, study_instance_uid)


@router.post("/{study_instance_uid}/preview", dependencies=DOES)
def preview(
    request: Request, session: Transaction, study_instance_uid: Uid, wanted: DeedRequest
) -> Preview:
    """Return what a deed would change; nothing is done."""
    deed = _deed(request, study_instance_uid, wanted)
    return reconcile.preview(session, deed, utc_now(), deps.parts(request).settings.zone)


@router.post("/{study_instance_uid}/actions", dependencies=DOES)
def do(
    request: Request, session: Transaction, study_instance_uid: Uid, wanted: DeedRequest
) -> Entry:
    """Attach, detach, move or set aside a study; the answer can be undone."""
    deed = _deed(request, study_instance_uid, wanted)
    return reconcile.do(session, deed, utc_now(), deps.parts(request).settings.zone)


@router.post("/journal/{entry_id}/undo", dependencies=DOES)
def undo(
    request: Request, session: Transaction, entry_id: Annotated[int, Path(ge=1, le=MAX_ID)]
) -> Entry:
    """Bring a study to where it was before an entry of its journal."""
    zone = deps.parts(request).settings.zone
    return reconcile.undo(session, entry_id, _name(request), utc_now(), zone)


def _deed(request: Request, study_instance_uid: str, wanted: DeedRequest) -> Deed:
    return Deed(
        action=reconcile.Action(wanted.action),
        study_instance_uid=study_instance_uid,
        procedure_ids=wanted.procedure_ids,
        by=_name(request),
        reason=wanted.reason,
        in_spite=wanted.in_spite,
    )


def _name(request: Request) -> str:
    caller = deps.caller_of(request)
    return caller.label or caller.prefix
