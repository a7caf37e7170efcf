"""The login that the pages hand over (see `web.opening`), on the viewer's side.

The nonce stays in the browser that asked; its hash goes round by the pages. A code that
comes back without the nonce was meant for another browser.
"""

import hashlib
from typing import Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from storage.access import codes, random_secrets, sessions
from storage.access.sessions import Audience
from storage.base.errors import NotPermitted
from storage.db.engine import transaction
from viewer_api import cookies, deps, pages, texts

router = APIRouter(include_in_schema=False)

NONCE_S: Final = 3600
"""So long the person may take to sign in on the way."""
_SEE_OTHER: Final = 303


@router.get("/enter")
def enter(
    request: Request,
    code: str = "",
    language: str = "",
    next: str = "/",  # noqa: A002 - the name in the URL
) -> Response:
    """Exchange the one-time code for a session of this origin, and lead on."""
    root, path = deps.root_url(request), pages.own_path(next)
    nonce = cookies.read(request.headers, cookies.HANDOVER, root)
    try:
        with transaction(deps.parts(request).engine) as session:
            pages_id = codes.redeem_handover(session, code, _state(nonce))
            secret = sessions.begin_viewer(session, pages_id)
    except NotPermitted:
        if code:  # the address that stays in the browser has none
            return pages.redirect(root, f"/enter?{urlencode({'next': path})}")
        shown = {"next": quote(path, safe="/?=&.%"), "home": deps.home(request)}
        return pages.render(request, root, "handover_failed.html", 403, **shown)
    answer = pages.redirect(root, path)
    cookies.write(answer, cookies.NAMES[Audience.VIEWER], secret, root)
    cookies.write(answer, cookies.LANGUAGE, texts.language(language), root, keep_s=pages.YEAR_S)
    cookies.remove(answer, cookies.HANDOVER, root)
    return answer


def ask(request: Request) -> Response:
    """Lead to the pages, which know who this is, and back to where the request wanted to go."""
    root = deps.root_url(request)
    # one that is there already is kept: two tabs may be on their way at once
    nonce = cookies.read(request.headers, cookies.HANDOVER, root) or random_secrets.new()
    query = f"?{request.url.query}" if request.url.query else ""
    wanted = {"state": _state(nonce), "next": pages.own_path(quote(request.url.path) + query)}
    address = f"{deps.pages_url(request)}/viewer/handover?{urlencode(wanted)}"
    answer = RedirectResponse(address, _SEE_OTHER)
    cookies.write(answer, cookies.HANDOVER, nonce, root, keep_s=NONCE_S)
    return answer


def _state(nonce: str) -> str:
    return hashlib.sha256(nonce.encode("utf-8", "surrogatepass")).hexdigest()
