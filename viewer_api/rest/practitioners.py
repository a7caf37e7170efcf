"""Who reads and signs, under ``/api/v1/practitioners``: for administrators."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict

from ris.reports import practitioners
from ris.reports.model import Practitioner
from storage.access.tokens import Action
from storage.audit.model import Kind
from viewer_api import deps
from viewer_api.deps import Transaction
from viewer_api.rest import noting

router = APIRouter(
    prefix="/api/v1/practitioners",
    tags=["reports"],
    dependencies=[Depends(deps.may(Action.MANAGE))],
)


class PractitionerRequest(BaseModel):
    """A person; `caller` is the account, or the prefix of the token, that acts as this person.

    `credential` names the person's key at the signing provider.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    qualification: str = ""
    licence_number: str = ""
    may_approve: bool = False
    caller: str | None = None
    credential: str = ""


@router.get("")
def list_practitioners(session: Transaction) -> list[Practitioner]:
    """List everybody by code."""
    return [*practitioners.list_all(session)]


@router.put("/{code}")
def put_practitioner(
    request: Request,
    session: Transaction,
    code: Annotated[str, Path(max_length=64)],
    body: PractitionerRequest,
) -> Practitioner:
    """Register a person, or change one."""
    person = Practitioner(
        code, body.name, body.qualification, body.licence_number, body.may_approve
    )
    kept = practitioners.put(session, person, body.caller, body.credential)
    told = {"what": "practitioner", "code": kept.code, "may_approve": kept.may_approve}
    details = {**told, "caller": body.caller or ""}
    noting.note(request, session, Kind.REGISTRY, {"details": details})
    return kept
