"""Pages of other origins that may read our answers (Fetch Standard, CORS protocol).

Only origins that the operator named. Cookies never count across origins: such a page sends
a token, so no answer depends on who is signed in to ours.
"""

from collections.abc import Collection, Mapping
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY: Final = "*"
METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE"
SENT: Final = (
    "Accept, Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Match, If-Range, "
    "Range"
)
"""Headers that a page may send."""
READ: Final = (
    "Accept-Ranges, Content-Disposition, Content-Length, Content-Location, Content-Range, ETag, "
    "Link, Location, Retry-After, Warning, X-Total-Count"
)
"""Headers that a page may read besides those that every page may."""
REMEMBERED_S: Final = "600"


class Cors:
    """ASGI middleware; `origins` are those that may read, `ANY` for all."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not self._origins:
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        allowed = self._allowed(asked.get("origin", ""))
        if scope["method"] == "OPTIONS" and "access-control-request-method" in asked and allowed:
            answer = Response(status_code=204, headers={**allowed, **_PREFLIGHT})
            await answer(scope, receive, send)
            return

        async def passed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                headers.add_vary_header("Origin")
                if allowed:
                    headers.update({**allowed, "Access-Control-Expose-Headers": READ})
            await send(message)

        await self._app(scope, receive, passed)

    def _allowed(self, origin: str) -> Mapping[str, str]:
        """Return the header that lets a page of `origin` read, nothing when it may not."""
        if origin and ANY in self._origins:
            return {"Access-Control-Allow-Origin": ANY}
        return {"Access-Control-Allow-Origin": origin} if origin in self._origins else {}


_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": METHODS,
    "Access-Control-Allow-Headers": SENT,
    "Access-Control-Max-Age": REMEMBERED_S,
    "Vary": "Origin",
}
