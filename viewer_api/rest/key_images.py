"""Key images of a report: ``/api/v1/reports/{uid}/key-images``."""

from fastapi import APIRouter, Depends, Request

from pacs import reporting
from ris.reports import key_images, queries
from ris.reports.faults import Fault, Missing
from ris.reports.key_images import KeyImage
from ris.reports.model import Report
from ris.reports.states import Status
from storage.access.tokens import Action
from viewer_api import deps
from viewer_api.deps import Transaction
from viewer_api.rest import report_views
from viewer_api.rest.reports import Uid, person_of

router = APIRouter(
    prefix="/api/v1/reports/{uid}/key-images",
    tags=["reports"],
    dependencies=[Depends(deps.may(Action.READ_REPORTS))],
)


@router.get("")
def list_key_images(request: Request, session: Transaction, uid: Uid) -> list[KeyImage]:
    """List the images that the reader has chosen, to who may see the text of the report too."""
    _require_shown(request, queries.get(session, uid))
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
    _require_shown(request, report)
    return [*reporting.selected(deps.parts(request).store, session, report)]


def _require_shown(request: Request, report: Report) -> None:
    """Raise for who may not see the text of a report either: a label tells of what was found."""
    if report_views.writes(deps.caller_of(request)):
        return
    if not report.version:
        raise Missing(Fault("no_version"))
    if report.status is Status.RETRACTED:
        raise queries.hidden()
