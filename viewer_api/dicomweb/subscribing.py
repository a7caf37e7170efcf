"""Who is told of changes of workitems: the subscriptions of UPS-RS (PS3.18 11.10 to 11.12)."""

from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ris.workitems import subscriptions
from storage.access.tokens import Action
from storage.base import values
from viewer_api import deps
from viewer_api.deps import Transaction
from viewer_api.dicomweb import workitem_search

router = APIRouter(
    prefix=deps.DICOMWEB, tags=["DICOMweb"], dependencies=[Depends(deps.may(Action.STORE))]
)


@router.post("/workitems/{uid}/subscribers/{ae_title}", status_code=201)
def subscribe(request: Request, session: Transaction, uid: str, ae_title: str) -> Response:
    """Watch a workitem, all of them or those that a filter lets pass."""
    lock, keys = workitem_search.subscription(request.url.query)
    title = values.ae_title(ae_title)
    zone = deps.parts(request).settings.zone
    subscriptions.subscribe(session, values.uid(uid), title, lock=lock, zone=zone, keys=keys)
    return Response(status_code=201, headers={"Content-Location": _channel_url(request, title)})


@router.delete("/workitems/{uid}/subscribers/{ae_title}")
def unsubscribe(session: Transaction, uid: str, ae_title: str) -> Response:
    """Watch it no more."""
    subscriptions.unsubscribe(session, values.uid(uid), ae_title)
    return Response(status_code=200)


@router.post("/workitems/{uid}/subscribers/{ae_title}/suspend")
def suspend(session: Transaction, uid: str, ae_title: str) -> Response:
    """Watch no new workitems."""
    subscriptions.suspend(session, values.uid(uid), ae_title)
    return Response(status_code=200)


def _channel_url(request: Request, title: str) -> str:
    root = deps.dicomweb_url(request).replace("http", "ws", 1)
    return f"{root}/subscribers/{quote(title, safe='')}"
