"""The register of deliveries under ``/api/v1/deliveries``: entered, taken back, never changed."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from ris import deliveries
from ris.deliveries import Channel, Delivery, Handover, RecipientKind, Search
from storage.access.tokens import Action
from viewer_api import deps
from viewer_api.deps import Transaction

router = APIRouter(
    prefix="/api/v1/deliveries",
    tags=["deliveries"],
    dependencies=[Depends(deps.may(Action.SEE_ORDERS)), Depends(deps.may(Action.READ_REPORTS))],
)

MAX_BIGINT = 2**63 - 1
Text = Annotated[str, Field(max_length=500)]
Uid = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HandoverRequest(_Request):
    """What was handed over: of a report, or of a study."""

    channel: Channel
    recipient_kind: RecipientKind
    recipient: Text = ""
    report_uid: Annotated[str, Field(max_length=32)] = ""
    report_version: Annotated[int, Field(ge=1, le=MAX_BIGINT)] | None = None
    study_instance_uid: Annotated[str, Field(max_length=64)] = ""
    count: Annotated[int, Field(ge=1, le=10_000)] = 1
    delivered_at: AwareDatetime | None = None
    evidence: Text = ""
    note: Text = ""


class RevocationRequest(_Request):
    """Why an entry is taken back."""

    reason: Annotated[str, Field(min_length=1, max_length=500)]


class DeliverySearch(_Request):
    """Which entries are wanted."""

    report_uid: Annotated[str, Field(max_length=32)] = ""
    study_instance_uid: Annotated[str, Field(max_length=64)] = ""
    patient_id: Annotated[int, Field(ge=1, le=MAX_BIGINT)] | None = None
    channel: Channel | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 100
    before: Annotated[str, Field(max_length=32)] = ""


@router.get("")
def list_deliveries(
    session: Transaction, search: Annotated[DeliverySearch, Query()]
) -> list[Delivery]:
    """List entries, the newest first; `before` is the uid of the last one seen."""
    wanted = search.model_dump(exclude={"limit", "before"})
    found = deliveries.find(session, Search(**wanted), limit=search.limit, before=search.before)
    return [*found]


@router.post("", status_code=201)
def enter(request: Request, session: Transaction, body: HandoverRequest) -> Delivery:
    """Enter what was handed over: film, paper, disc, QR code, portal."""
    caller = deps.caller_of(request)
    return deliveries.enter(session, Handover(**body.model_dump()), caller.user or caller.prefix)


@router.post("/{uid}/revocation", status_code=201)
def revoke(request: Request, session: Transaction, uid: Uid, body: RevocationRequest) -> Delivery:
    """Take an entry back by another one; both stay."""
    caller = deps.caller_of(request)
    return deliveries.revoke(session, uid, body.reason, caller.user or caller.prefix)
