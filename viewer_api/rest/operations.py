"""What an operator looks at: held objects, incidents, peers."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from storage.access import peers
from storage.access.peers import Peer
from storage.access.tokens import Action
from storage.archive import incidents, quarantine
from storage.archive.incidents import Incident
from storage.archive.quarantine import Held, Reason, State
from viewer_api import deps
from viewer_api.deps import Transaction

router = APIRouter(
    prefix="/api/v1", tags=["operations"], dependencies=[Depends(deps.may(Action.MANAGE))]
)

MAX_ID = 2**63 - 1
Limit = Annotated[int, Query(ge=1, le=1000)]
LastId = Annotated[int | None, Query(ge=1, le=MAX_ID)]


@router.get("/quarantine")
def list_held(
    session: Transaction,
    limit: Limit = 100,
    after: LastId = None,
    state: State = State.HELD,
    reason: Reason | None = None,
) -> list[Held]:
    """List the received objects that are kept aside, newest first.

    `after` is the id of the last one seen.
    """
    return quarantine.list_held(session, limit=limit, after=after, state=state, reason=reason)


@router.get("/incidents")
def list_incidents(
    session: Transaction, limit: Limit = 100, before: LastId = None
) -> list[Incident]:
    """List what a person should look at though every object concerned is stored, newest first.

    `before` is the id of the last one seen.
    """
    return incidents.list_open(session, limit=limit, before=before)


@router.get("/peers")
def list_peers(session: Transaction) -> list[Peer]:
    """List the DICOM peers by AE title."""
    return peers.list_all(session)
