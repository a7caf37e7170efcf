"""Critical results: ``/api/v1/critical-results`` and those of one report."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict

from ris.reports import criticals
from ris.reports.criticals import Critical, Telling
from storage.access.tokens import Action
from viewer_api import deps
from viewer_api.deps import Transaction
from viewer_api.rest.reports import Uid, person_of

router = APIRouter(
    prefix="/api/v1",
    tags=["reports"],
    dependencies=[Depends(deps.may(Action.REPORT))],
)


class CriticalRequest(BaseModel):
    """A finding; `level` is red (30 minutes), orange (6 hours) or yellow (3 days)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: str
    finding: str


class TellingRequest(BaseModel):
    """Somebody was told; `channel` is phone, in_person, message or system."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    told: str
    channel: str
    read_back: bool = False
    acknowledged: bool = False
    note: str = ""


@router.get("/critical-results")
def list_open(
    session: Transaction, limit: Annotated[int, Query(ge=1, le=500)] = 100
) -> list[Critical]:
    """List what nobody has acknowledged, the most often escalated first."""
    return [*criticals.list_open(session, limit)]


@router.get("/reports/{uid}/critical-results")
def list_of_report(session: Transaction, uid: Uid) -> list[Critical]:
    """List the critical results of a report, with everybody who was told."""
    return [*criticals.of_report(session, uid)]


@router.post("/reports/{uid}/critical-results", status_code=201)
def raise_critical(
    request: Request, session: Transaction, uid: Uid, body: CriticalRequest
) -> Critical:
    """Note a critical finding; its clock runs from now."""
    person = person_of(request, session)
    return criticals.raise_critical(session, person, uid, body.level, body.finding)


@router.post("/critical-results/{critical}/notices", status_code=201)
def tell(
    request: Request,
    session: Transaction,
    critical: Annotated[str, Path(pattern="^[0-9a-f]{32}$")],
    body: TellingRequest,
) -> Critical:
    """Note who was told, whether he read it back and acknowledged it."""
    telling = Telling(**body.model_dump())
    return criticals.tell(session, person_of(request, session), critical, telling)
