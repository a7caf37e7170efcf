"""What a route may ask for: the parts of the node, a transaction, and who calls.

A route states with `may` which action it is; there is no route without, save for
the two health answers, and a test holds the table of all routes against all roles.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import Scope

from pacs.frames import FrameIndex, ImagePixel
from storage.access.sessions import Audience
from storage.access.tokens import Action, Caller
from storage.base.settings import Settings
from storage.db.engine import Engine, Session, transaction
from storage.db.notices import Notices
from storage.objects.store import ObjectStore
from storage.spool import Spool
from viewer_api import addresses, cookies
from viewer_api.cache import Recent
from viewer_api.callers import Callers, Credential
from viewer_api.health import Health
from viewer_api.metrics import Metrics
from viewer_api.pages import SignInFirst
from viewer_api.places import Places
from viewer_api.problems import Unauthenticated
from viewer_api.uploads import Uploads

MAX_SECRET: Final = 512
DICOMWEB: Final = "/dicom-web"
"""The path of the DICOMweb service below the root."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The opened parts of the node that routes work on."""

    settings: Settings
    engine: Engine
    store: ObjectStore
    spool: Spool
    health: Health
    metrics: Metrics
    callers: Callers
    uploads: Uploads
    places: Places
    notices: Notices
    """Of events of workitems."""
    releases: Notices
    """Which health station there is news for."""
    stopping: threading.Event
    frame_indexes: Recent[tuple[str, int], tuple[FrameIndex, ImagePixel | None]]
    """By object key and offset: objects never change."""
    compared: Recent[tuple[str, int], int]
    """Bytes of datasets that were whole when they were read, by object key and offset."""
    metadata: Recent[tuple[object, ...], bytes]
    """Texts that were made of objects, by their keys and what else went into them."""


def credential(scope: Scope, known: Parts, audience: Audience) -> Credential:
    """Return the bearer token of a request (RFC 6750 2.1), else the cookie for `audience`.

    Raises
    ------
    Unauthenticated
        There is neither.
    ForeignRequest
        There is a cookie, and the page of another site made the request.
    """
    headers = Headers(scope=scope)
    authorization = headers.get("authorization")
    if authorization is not None:
        return Credential(bearer(authorization))
    root = root_of(headers, scope, known, audience)
    secret = cookies.read(headers, cookies.NAMES[audience], root)
    if not secret:
        raise Unauthenticated("sign in, or send a token: Authorization: Bearer TOKEN")
    cookies.require_own_page(scope["method"], headers, root)
    return Credential(secret, audience)


@dataclass(frozen=True, slots=True)
class May:
    """The dependency of a route: its caller's role includes `action`, or the request fails."""

    action: Action | None
    """None: any valid token will do."""
    local: bool = False
    """Also without a token, from this machine itself: it shows nothing of patients."""
    page: bool = False
    """Who has not signed in is led to the form for it."""

    async def __call__(self, request: Request) -> None:
        """Check the token or the session.

        Raises
        ------
        Unauthenticated
            There is neither or it is not valid.
        NotPermitted
            The role does not include the action.
        """
        if self.local and "authorization" not in request.headers and is_local(request):
            return
        try:
            caller = await _authenticated(request, remembered=not self.page)
        except Unauthenticated as error:
            raise SignInFirst(str(error)) if self.page else error from error
        request.scope["state"]["caller"] = caller
        if self.action is not None:
            caller.require(self.action)


async def _authenticated(request: Request, *, remembered: bool) -> Caller:
    """Return who calls; a page asks the database, so that who signed out is out at once."""
    known = parts(request)
    shown = credential(request.scope, known, audience(request))
    caller = known.callers.remembered(shown) if remembered else None
    if caller is None:
        caller = await run_in_threadpool(known.callers.authenticate, shown)
    return caller


async def socket_caller(socket: HTTPConnection, action: Action) -> Caller:
    """Return who opens a WebSocket; a page of another site may not do it with our cookie.

    Raises
    ------
    Unauthenticated
        There is no token or session, or it is not valid any more.
    NotPermitted
        The role does not include `action`.
    """
    known: Parts = socket.app.state.parts
    scheme = socket.scope["scheme"].replace("ws", "http", 1)
    scope = {**socket.scope, "scheme": scheme, "method": "CONNECT"}
    shown = credential(scope, known, socket.app.state.audience)
    caller = await run_in_threadpool(known.callers.authenticate, shown)
    caller.require(action)
    return caller


def may(action: Action | None, *, local: bool = False, page: bool = False) -> May:
    """Return the dependency that stands in ``dependencies=[Depends(may(…))]`` of every route."""
    return May(action, local, page)


def caller_of(request: Request) -> Caller:
    """Return who calls; only of a route that is not open to this machine without a token."""
    caller: Caller = request.scope["state"]["caller"]
    return caller


def address_of(request: Request) -> str:
    """Return the address that the request came from, a proxy's if there is one."""
    return request.client.host if request.client else ""


def parts(request: Request) -> Parts:
    """Return the parts of the node."""
    found: Parts = request.app.state.parts
    return found


def audience(request: Request) -> Audience:
    """Return on which of our two origins the request came."""
    on: Audience = request.app.state.audience
    return on


def root_url(request: Request) -> str:
    """Return the root of the URLs in the answer to `request`."""
    return root_of(request.headers, request.scope, parts(request), audience(request))


def viewer_url(request: Request) -> str:
    """Return the root of the viewer's origin, for a request to the pages."""
    settings = parts(request).settings
    return addresses.viewer_url(root_url(request), settings.viewer_url, settings.viewer_port)


def pages_url(request: Request) -> str:
    """Return the root of the pages, for a request to the viewer's origin."""
    settings = parts(request).settings
    return addresses.pages_url(root_url(request), settings.public_url, settings.http_port)


def home(request: Request) -> str:
    """Return where the pages are, for a page on the viewer's origin; '' for one of them."""
    return f"{pages_url(request)}/" if audience(request) is Audience.VIEWER else ""


def viewer_origin(request: Request) -> str:
    """Return the viewer's origin, '' when there is none."""
    has_one = parts(request).settings.viewer_port
    return addresses.origin(viewer_url(request)) if has_one else ""


def require_own_page(request: Request) -> None:
    """Raise `ForeignRequest` when another site's page made a request that changes something."""
    cookies.require_own_page(request.method, request.headers, root_url(request))


def idle(request: Request) -> timedelta:
    """Return how long a session lasts that nobody uses."""
    return timedelta(minutes=parts(request).settings.session_idle_minutes)


def root_of(headers: Headers, scope: Scope, parts: Parts, on: Audience) -> str:
    """Return the root of one of our two origins as the sender of a request sees it."""
    settings = parts.settings
    given = settings.viewer_url if on is Audience.VIEWER else settings.public_url
    return addresses.root_url(headers, scope["scheme"], given, scope["server"])


def dicomweb_url(request: Request) -> str:
    """Return the root of the DICOMweb service as the client sees it."""
    return root_url(request) + DICOMWEB


def bearer(header: str) -> str:
    """Return the token of an Authorization header (RFC 6750 2.1).

    Raises
    ------
    Unauthenticated
        There is none.
    """
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(secret.strip()) <= MAX_SECRET:
        raise Unauthenticated("send a token: Authorization: Bearer TOKEN")
    return secret.strip()


def is_local(request: Request) -> bool:
    """Whether the request was made on this machine and came through no proxy."""
    return addresses.is_local(address_of(request), request.headers)


def _session(request: Request) -> Iterator[Session]:
    with transaction(parts(request).engine) as session:
        yield session


# scope="function": commit before the answer is sent, so that a 200 is never a promise broken
Transaction = Annotated[Session, Depends(_session, scope="function")]
