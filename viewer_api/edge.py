"""What every answer goes through: security headers, the access log, figures, defects.

This is the only place outside the routes, so a path that is refused by the router
gets the same. Query strings are never logged: they hold names.
"""

import logging
import time
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from viewer_api import problems
from viewer_api.metrics import Metrics

log = logging.getLogger(__name__)

SECURITY_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Set unless the route has set its own."""
FRAMED: Final[Mapping[str, str]] = {
    **SECURITY_HEADERS,
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
}
"""On the viewer's origin, where its page shows documents in a frame."""

UNROUTED: Final = "none"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
MISTAKES: Final = 400
_QUIET: Final = "/health"
_CODE: Final = "{code}"


class Edge:
    """ASGI middleware around the whole app."""

    def __init__(
        self, app: ASGIApp, metrics: Metrics, headers: Mapping[str, str] = SECURITY_HEADERS
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send, self._headers)
        started = time.perf_counter()
        try:
            await self._app(exchange.scope, receive, exchange.send)
        except Exception as error:
            answer = problems.defect(error)
            if exchange.status:
                raise  # too late for a problem document: the connection is cut
            await answer(scope, receive, exchange.send)
        finally:
            self._note(exchange, time.perf_counter() - started)

    def _note(self, exchange: "_Exchange", seconds: float) -> None:
        method, route = exchange.method, exchange.route
        self._metrics.answered(method, route, exchange.status, seconds)
        log.log(
            logging.DEBUG if route.startswith(_QUIET) else logging.INFO,
            "http_request",
            extra={
                "method": method,
                "route": route,
                "path": exchange.told_path,
                "http_status": exchange.status,
                "duration_ms": round(seconds * 1000, 1),
                "bytes": exchange.sent,
                "peer": (exchange.scope.get("client") or ("",))[0],
                "token_prefix": getattr(exchange.scope["state"].get("caller"), "prefix", ""),
            },
        )


class _Exchange:
    """One request and its answer as it goes out.

    HEAD runs as GET; the answer ends behind its headers (RFC 9110 9.3.2).
    """

    def __init__(self, scope: Scope, send: Send, headers: Mapping[str, str]) -> None:
        self.scope = {**scope, "state": dict(scope.get("state", {}))}
        self.status = 0
        self.sent = 0
        self._send = send
        self._headers = headers
        self._head = scope["method"] == "HEAD"
        self._ended = False
        if self._head:
            self.scope["method"] = "GET"

    @property
    def method(self) -> str:
        """The method, if it is one of the usual ones."""
        method = "HEAD" if self._head else self.scope["method"]
        return method if method in _METHODS else "OTHER"

    @property
    def route(self) -> str:
        """The template of the path that was routed."""
        route: BaseRoute | None = self.scope.get("route")
        return getattr(route, "path", UNROUTED)

    @property
    def told_path(self) -> str:
        """The path, unless it may hold what nobody is to read in a log.

        A path that led nowhere may hold anything, a name too; a code lets its bearer in.
        """
        secret = self.status >= MISTAKES or _CODE in self.route
        return "" if secret else str(self.scope["path"])

    async def send(self, message: Message) -> None:
        """Pass on a message of the app."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(raw=message["headers"])
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        elif self._head:
            if self._ended:
                return
            self._ended = True
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        else:
            self.sent += len(message.get("body", b""))
        await self._send(message)
