"""What a route may ask for: the parts of the node, a transaction, and who calls.

A route states with `may` which action it is; there is no route without, save for
the two health answers, and a test holds the table of all routes against all roles.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Depends, Request
from starlette.concurrency import run_in_threadpool

from pacs.frames import FrameIndex, ImagePixel
from storage.access import tokens
from storage.access.tokens import Action, Caller
from storage.base.errors import NotPermitted
from storage.base.settings import Settings
from storage.db.engine import Engine, Session, transaction
from storage.objects.store import ObjectStore
from storage.spool import Spool
from viewer_api import addresses
from viewer_api.cache import Recent
from viewer_api.health import Health
from viewer_api.metrics import Metrics
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
    callers: "Callers"
    uploads: Uploads
    places: Places
    frame_indexes: Recent[tuple[str, int], tuple[FrameIndex, ImagePixel | None]]
    """By object key and offset: objects never change."""
    compared: Recent[tuple[str, int], int]
    """Bytes of datasets that were whole when they were read, by object key and offset."""
    metadata: Recent[tuple[object, ...], bytes]
    """Texts that were made of objects, by their keys and what else went into them."""


class Callers:
    """Who the bearer of a token is, remembered for `keep_s` seconds.

    So a viewer that fetches 400 frames costs one query, and a token that was
    revoked is refused everywhere within that time.
    """

    def __init__(self, engine: Engine, keep_s: float = 5.0, most: int = 1024) -> None:
        self._engine = engine
        self._keep_s = keep_s
        self._most = most
        self._known: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()
        self._lock = threading.Lock()

    def remembered(self, secret: str) -> Caller | None:
        """Return the caller if the token was found valid a moment ago."""
        with self._lock:
            until, caller = self._known.get(_digest(secret), (0.0, None))
        return caller if until > time.monotonic() else None

    def authenticate(self, secret: str) -> Caller:
        """Ask the database.

        Raises
        ------
        Unauthenticated
            The token is not known or not valid any more.
        StoreUnavailable
            The database does not answer.
        """
        try:
            with transaction(self._engine) as session:
                caller = tokens.authenticate(session, secret)
        except NotPermitted as error:
            raise Unauthenticated("the token is not valid") from error
        with self._lock:
            self._known[_digest(secret)] = (time.monotonic() + self._keep_s, caller)
            self._known.move_to_end(_digest(secret))
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return caller


def _digest(secret: str) -> bytes:
    """Secrets themselves are not kept in memory."""
    return hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class May:
    """The dependency of a route: its caller's role includes `action`, or the request fails."""

    action: Action | None
    """None: any valid token will do."""
    local: bool = False
    """Also without a token, from this machine itself: it shows nothing of patients."""

    async def __call__(self, request: Request) -> None:
        """Check the Authorization header (RFC 6750 2.1).

        Raises
        ------
        Unauthenticated
            There is no bearer token or it is not valid.
        NotPermitted
            The role does not include the action.
        """
        if self.local and "authorization" not in request.headers and is_local(request):
            return
        secret = bearer(request.headers.get("authorization", ""))
        callers = parts(request).callers
        caller = callers.remembered(secret)
        if caller is None:
            caller = await run_in_threadpool(callers.authenticate, secret)
        request.scope["state"]["caller"] = caller
        if self.action is not None:
            caller.require(self.action)


def may(action: Action | None, *, local: bool = False) -> May:
    """Return the dependency that stands in ``dependencies=[Depends(may(…))]`` of every route."""
    return May(action, local)


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


def root_url(request: Request) -> str:
    """Return the root of the URLs in the answer to `request`."""
    public_url = parts(request).settings.public_url
    scheme, listener = request.scope["scheme"], request.scope["server"]
    return addresses.root_url(request.headers, scheme, public_url, listener)


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
