"""UPS-RS, the Worklist Service (PS3.18 11): workitems, their state, and the search for them."""

from urllib.parse import parse_qsl
from uuid import uuid4

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from ris.workitems import contents, search, verbs
from ris.workitems.attributes import STATE, TRANSACTION
from ris.workitems.states import Answer
from ris.workitems.verbs import Wish
from storage.access.tokens import Action
from storage.base import values
from storage.base.errors import Malformed
from viewer_api import deps
from viewer_api.deps import Transaction
from viewer_api.dicomweb import models, workitem_bodies, workitem_search
from viewer_api.problems import warning

router = APIRouter(prefix=deps.DICOMWEB, tags=["DICOMweb"])

READING = [Depends(deps.may(Action.QUERY))]
WORKING = [Depends(deps.may(Action.STORE))]


@router.post("/workitems", dependencies=WORKING, status_code=201)
def create(request: Request, session: Transaction) -> Response:
    """Create a workitem; its UID is ``?workitem=``, that of the dataset, or a new one."""
    sent = workitem_bodies.read(request)
    named = _parameter(request, "workitem") or contents.text(sent, "SOPInstanceUID")
    uid = values.uid(named or f"2.25.{uuid4().int}")
    supplied = verbs.create(session, uid, sent, deps.parts(request).settings.zone)
    headers = {"Location": _url(request, uid), "Content-Location": _url(request, uid)}
    if supplied:
        headers |= warning("The Workitem was created with modifications.")
    return Response(status_code=201, headers=headers)


@router.get("/workitems", dependencies=READING)
def search_workitems(request: Request, session: Transaction) -> Response:
    """Search for workitems."""
    chosen = models.offer(request, "search results are")
    settings = deps.parts(request).settings
    asked = workitem_search.parse(request.url.query, settings.max_find_results)
    found = search.find(session, asked.query, settings.zone, asked.limit + 1, asked.offset)
    headers = {}
    if len(found) > asked.limit:
        headers = warning("There are additional results that can be requested")
    shown = workitem_search.shown(asked, found[: asked.limit])
    if not shown:
        return Response(status_code=204, headers=headers)
    return models.answer(request, chosen, shown, headers)


@router.get("/workitems/{uid}", dependencies=READING)
def retrieve(request: Request, session: Transaction, uid: str) -> Response:
    """Retrieve a workitem; the Transaction UID is never in it."""
    chosen = models.offer(request, "a workitem is", models.ALONE)
    return models.answer(request, chosen, [verbs.get(session, values.uid(uid))], {})


@router.post("/workitems/{uid}", dependencies=WORKING)
def update(request: Request, session: Transaction, uid: str) -> Response:
    """Change attributes; of a claimed workitem with ``?transaction-uid=``."""
    sent = workitem_bodies.read(request)
    bare = values.uid(uid)
    claim = _parameter(request, "transaction-uid") or contents.text(sent, TRANSACTION)
    verbs.update(session, bare, sent, claim, deps.parts(request).settings.zone)
    return Response(status_code=200, headers={"Content-Location": _url(request, bare)})


@router.put("/workitems/{uid}/state", dependencies=WORKING)
def change_state(request: Request, session: Transaction, uid: str) -> Response:
    """Claim, complete or cancel a workitem."""
    return _change_state(request, session, uid, "")


@router.put("/workitems/{uid}/state/{ae_title}", dependencies=WORKING)
def change_state_as(request: Request, session: Transaction, uid: str, ae_title: str) -> Response:
    """Claim, complete or cancel a workitem as an application entity that can be told things."""
    return _change_state(request, session, uid, values.ae_title(ae_title))


@router.post("/workitems/{uid}/cancelrequest", dependencies=WORKING, status_code=202)
def request_cancel(request: Request, session: Transaction, uid: str) -> Response:
    """Wish that somebody else's workitem be cancelled."""
    return _request_cancel(request, session, uid, _title_of_caller(request))


@router.post("/workitems/{uid}/cancelrequest/{ae_title}", dependencies=WORKING, status_code=202)
def request_cancel_as(request: Request, session: Transaction, uid: str, ae_title: str) -> Response:
    """Wish it as an application entity."""
    return _request_cancel(request, session, uid, values.ae_title(ae_title))


def _change_state(request: Request, session: Transaction, uid: str, performer: str) -> Response:
    sent = workitem_bodies.read(request)
    wish = Wish(contents.text(sent, STATE), contents.text(sent, TRANSACTION), performer)
    answer = verbs.change_state(session, values.uid(uid), wish)
    headers = {"Content-Location": _url(request, values.uid(uid))}
    if answer is Answer.ALREADY:
        headers |= warning(f"The UPS is already in the requested state of {wish.state}.")
    return Response(status_code=200, headers=headers)


def _request_cancel(request: Request, session: Transaction, uid: str, by: str) -> Response:
    sent = workitem_bodies.read_optional(request) or {}
    answer = verbs.request_cancel(session, values.uid(uid), sent, by)
    headers = {}
    if answer is Answer.ALREADY:
        headers = warning("The UPS is already in the requested state of CANCELED.")
    return Response(status_code=202, headers=headers)


def _parameter(request: Request, name: str) -> str:
    """Return a parameter by its name, or one UID that stands alone as the query string."""
    query = request.url.query
    if values.is_uid(query):
        return query
    return dict(parse_qsl(query[:1024])).get(name, "")


def _title_of_caller(request: Request) -> str:
    """Return the label of the caller as far as it is an AE title."""
    label = "".join(c for c in deps.caller_of(request).label if c.isascii() and c.isprintable())
    try:
        return values.ae_title(label.replace("\\", "")[: values.AE_TITLE_MAX])
    except Malformed:
        return "HTTP"


def _url(request: Request, uid: str) -> str:
    return f"{deps.dicomweb_url(request)}/workitems/{uid}"
