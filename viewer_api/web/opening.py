"""The way to the viewer's origin, and the login handed over to it.

browser          pages                          viewer
│ /viewer?…      │                              │
├───────────────▶│ 303                          │
├──────────────────────────────────────────────▶│ no session: a nonce as a cookie
│                │ ◀────────────────────────303 │ state = SHA-256 of the nonce
├───────────────▶│ signed in? one-time code,    │
│                │ bound to the state           │
│                │ 303 ────────────────────────▶│ nonce, state and code fit:
│                                               │ a session of its own as a cookie
"""

import re
from typing import Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from storage.access import codes, sessions
from storage.access.sessions import Audience
from storage.access.tokens import Action
from storage.base.errors import Malformed, NotFound, NotPermitted
from viewer_api import cookies, deps, pages
from viewer_api.deps import Transaction
from viewer_api.pages import SignInFirst

router = APIRouter(include_in_schema=False)

_STATE: Final = re.compile(r"[0-9a-f]{64}")
SEE_OTHER: Final = 303


@router.get("/viewer", dependencies=[Depends(deps.may(Action.QUERY, page=True))])
def open_viewer(request: Request) -> Response:
    """Lead to the viewer: with a query to what it names, else to its study list."""
    if not deps.parts(request).settings.viewer_port:
        raise NotFound("this server has no viewer")
    path = f"/viewer?{request.url.query}" if request.url.query else "/"
    return RedirectResponse(deps.viewer_url(request) + pages.own_path(path), SEE_OTHER)


@router.get("/viewer/handover", dependencies=[Depends(deps.may(Action.QUERY, page=True))])
def hand_over(
    request: Request,
    session: Transaction,
    state: str,
    next: str = "/",  # noqa: A002 - the name in the URL
) -> Response:
    """Give the viewer's origin a one-time code for the session of this browser."""
    if not _STATE.fullmatch(state):
        raise Malformed("state is none that the viewer gave out")
    root = deps.root_url(request)
    secret = cookies.read(request.headers, cookies.NAMES[Audience.PAGES], root)
    try:
        pages_id = sessions.pages_id(session, secret, deps.idle(request))
        code = codes.issue_handover(session, pages_id, state)
    except NotPermitted as error:  # remembered for a moment, but over, or the bearer of a token
        raise SignInFirst(str(error)) from error
    shown = {
        "code": code,
        "language": pages.language_of(request, root),
        "next": pages.own_path(next),
    }
    return RedirectResponse(f"{deps.viewer_url(request)}/enter?{urlencode(shown)}", SEE_OTHER)
