"""Merged patients under ``/api/v1/patients/merges``: which there were, and their undoing."""

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Path, Query, Request

from ris import unmerging
from ris.model import Merge
from ris.unmerging import Listed, Preview
from storage.access.tokens import Action
from viewer_api import deps
from viewer_api.deps import Transaction

router = APIRouter(
    prefix="/api/v1/patients/merges",
    tags=["patients"],
    dependencies=[Depends(deps.may(Action.SEE_ORDERS))],
)
DOES: Final = [Depends(deps.may(Action.RECONCILE))]
MAX_ID: Final = 2**63 - 1
MergeId = Annotated[int, Path(ge=1, le=MAX_ID)]


@router.get("")
def list_merges(
    session: Transaction,
    patient_id: Annotated[str, Query(max_length=128)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    before: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
) -> Sequence[Listed]:
    """List merges, the newest first: all, or those that a patient had a part in.

    `before` is the id of the last one seen.
    """
    return unmerging.journal(session, limit, number=patient_id, before=before)


@router.post("/{merge_id}/preview", dependencies=DOES)
def preview(session: Transaction, merge_id: MergeId) -> Preview:
    """Return who would have which numbers, orders and studies after the undo; nothing is done."""
    return unmerging.preview(session, merge_id)


@router.post("/{merge_id}/undo", dependencies=DOES)
def undo(request: Request, session: Transaction, merge_id: MergeId) -> Merge:
    """Make two patients of one again, each with what is its own.

    Studies with objects that came while they were one become incidents.
    """
    caller = deps.caller_of(request)
    return unmerging.undo(session, merge_id, caller.user or caller.label or caller.prefix)
