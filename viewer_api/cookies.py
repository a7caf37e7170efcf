"""Cookies of people who signed in, and what keeps other sites from using them.

A browser sends our cookies along with requests that other pages cause. So a request
with a cookie changes something only when the browser itself says that one of our own
pages made it: by Sec-Fetch-Site or, where that is not sent (plain HTTP), by Origin.
A token in the Authorization header needs none of this: no browser adds it by itself.
"""

from collections.abc import Mapping
from typing import Final

from fastapi.responses import Response
from starlette.datastructures import Headers
from starlette.requests import cookie_parser

from storage.access.sessions import Audience
from storage.base.errors import NotPermitted
from viewer_api import addresses

NAMES: Final[Mapping[Audience, str]] = {
    Audience.PAGES: "lienthong_session",
    Audience.VIEWER: "lienthong_viewer",
}
"""Two, for browsers tell hosts apart but not ports."""
LANGUAGE: Final = "lienthong_language"
HANDOVER: Final = "lienthong_handover"

MAX_VALUE: Final = 128
_HOST_ONLY: Final = "__Host-"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class ForeignRequest(NotPermitted):
    """The page of another site made the browser send this."""


def read(headers: Headers, name: str, root: str) -> str:
    """Return the value of a cookie of ours, '' when there is none.

    `root` is our root as the client sees it: under https only a cookie counts that
    no other host of the domain can have set (RFC 6265bis 4.1.3.2).
    """
    given = cookie_parser(headers.get("cookie", ""))
    value = given.get(_name(name, root), "")
    return value if len(value) <= MAX_VALUE else ""


def write(response: Response, name: str, value: str, root: str, keep_s: int | None = None) -> None:
    """Set a cookie; without `keep_s` it is gone when the browser is closed."""
    response.set_cookie(
        _name(name, root),
        value,
        max_age=keep_s,
        path="/",
        secure=_is_secure(root),
        httponly=True,
        samesite="lax",
    )


def remove(response: Response, name: str, root: str) -> None:
    """Make the browser forget a cookie."""
    write(response, name, "", root, keep_s=0)


def require_own_page(method: str, headers: Headers, root: str) -> None:
    """Let a request that changes something pass when a page below `root` made it.

    Raises
    ------
    ForeignRequest
        Another site did, or nobody knows.
    """
    if method in _SAFE:
        return
    site = headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        raise ForeignRequest("another site's page made this request")
    if site is None and headers.get("origin", "").lower() != addresses.origin(root):
        raise ForeignRequest("the browser does not say that a page of ours made this request")


def _name(name: str, root: str) -> str:
    return f"{_HOST_ONLY}{name}" if _is_secure(root) else name


def _is_secure(root: str) -> bool:
    return root.startswith("https://")
