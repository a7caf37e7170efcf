"""The letterhead of papers, under ``/api/v1/letterhead``: for administrators."""

from dataclasses import asdict

from fastapi import APIRouter, Depends, Request
from pydantic import Base64Bytes, BaseModel, ConfigDict

from pacs import reporting
from ris.reports import documents
from ris.reports.paper.model import Letterhead
from storage.access.tokens import Action
from storage.audit.model import Kind
from viewer_api import deps
from viewer_api.deps import Transaction
from viewer_api.rest import noting

router = APIRouter(
    prefix="/api/v1/letterhead",
    tags=["reports"],
    dependencies=[Depends(deps.may(Action.MANAGE))],
)


class LetterheadTexts(BaseModel):
    """The head of every paper, and what stands at its foot; `logo` is a PNG or JPEG in base64."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    authority: str = ""
    hospital: str = ""
    department: str = ""
    address: str = ""
    telephone: str = ""
    form_number: str = ""
    place: str = ""
    system: str = "Lienthong"
    owner: str = ""
    logo: Base64Bytes = b""


@router.get("")
def get_letterhead(session: Transaction) -> LetterheadTexts:
    """Return the letterhead."""
    return _shown(documents.letterhead(session))


@router.put("")
def put_letterhead(
    request: Request, session: Transaction, body: LetterheadTexts
) -> LetterheadTexts:
    """Change the letterhead; papers that were signed keep theirs."""
    given = Letterhead(**dict(body))  # a dump would have the logo in base64
    reporting.check_letterhead(given)
    noting.note(request, session, Kind.REGISTRY, {"details": {"what": "letterhead"}})
    return _shown(documents.put_letterhead(session, given))


def _shown(letterhead: Letterhead) -> LetterheadTexts:
    return LetterheadTexts.model_construct(**asdict(letterhead))
