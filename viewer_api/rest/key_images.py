"""Key images of a report: ``/api/v1/reports/{uid}/key-images``."""

from fastapi import APIRouter, Depends, Request

from pacs import reporting
from ris.reports import key_images, queries
from ris.reports.key_images import KeyImage
from storage.access.tokens import Action
from viewer_api import deps
from viewer_api.deps import Transaction
from viewer_api.rest.reports import Uid, person_of

router = APIRouter(
    prefix="/api/v1/reports/{uid}/key-images",
    tags=["reports"],
    dependencies=[Depends(deps.may(Action.READ_REPORTS))],
)


@router.get("")
def list_key_images(session: Transaction, uid: Uid) -> list[KeyImage]:
    """List the images that the reader has chosen."""
    return [*key_images.of_report(session, uid)]


@router.put("", dependencies=[Depends(deps.may(Action.REPORT))])
def put_key_images(
    request: Request, session: Transaction, uid: Uid, chosen: list[KeyImage]
) -> list[KeyImage]:
    """Choose the images anew, in this order."""
    return [*key_images.put(session, person_of(request, session), uid, chosen)]


@router.get("/received")
def list_received(request: Request, session: Transaction, uid: Uid) -> list[KeyImage]:
    """List what Key Object Selections in the studies of the report name, others' and ours."""
    report = queries.get(session, uid)
    return [*reporting.selected(deps.parts(request).store, session, report)]
