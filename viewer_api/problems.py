"""How our errors read in HTTP: problem details (RFC 9457)."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from uuid import uuid4

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from ris.reports.faults import ENGLISH, LANGUAGES, Faulty
from ris.stations.faults import Exhausted, Stale
from ris.workitems.faults import NeverScheduledAgain, StateConflict, WrongTransaction
from storage.access.guesses import TooOften
from storage.base.errors import (
    Conflict,
    ImagingError,
    Malformed,
    NotFound,
    NotPermitted,
    NotSupported,
    StoreFull,
    Unavailable,
)

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = "5"


class Unauthenticated(NotPermitted):
    """The request carries no token, or one that is not valid."""


class UnsupportedMediaType(NotSupported):
    """The body is of a media type or coding that this route does not read."""


class UnsupportedCoding(UnsupportedMediaType):
    """The body has a Content-Encoding."""


class TooLarge(Malformed):
    """The request is larger than a limit of this server."""


class TooSlow(Malformed):
    """The body stopped coming."""


class Busy(Unavailable):
    """All places for this kind of request are taken."""


STATUS: Final[Mapping[type[ImagingError], int]] = {
    Malformed: 400,
    Unauthenticated: 401,
    NotPermitted: 403,
    Exhausted: 429,
    TooOften: 429,
    NotFound: 404,
    NotSupported: 406,
    TooSlow: 408,
    Conflict: 409,
    TooLarge: 413,
    UnsupportedMediaType: 415,
    Unavailable: 503,
    StoreFull: 507,
}

HEADERS: Final[Mapping[type[ImagingError], Mapping[str, str]]] = {
    Unauthenticated: {"WWW-Authenticate": 'Bearer realm="lienthong"'},
    UnsupportedCoding: {"Accept-Encoding": "identity"},  # RFC 9110 15.5.16
    TooSlow: {"Connection": "close"},
    Unavailable: {"Retry-After": RETRY_AFTER_S},
}

WARNED: Final = (StateConflict, WrongTransaction, NeverScheduledAgain)
"""What PS3.18 11.6.3.2, 11.7.3.2 and 11.8.3.2 want in a Warning header too."""


def warning(text: str) -> dict[str, str]:
    """Return the header that warns of something (RFC 7234 5.5)."""
    return {"Warning": f'299 lienthong "{text}"'}


def status_of(error: ImagingError) -> int:
    """Return the status of the nearest ancestor of `error` in `STATUS`."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def answer(error: ImagingError) -> Response:
    """Return the answer to an error that was raised on purpose."""
    headers = next((HEADERS[kind] for kind in type(error).__mro__ if kind in HEADERS), {})
    if isinstance(error, WARNED):
        headers = {**headers, **warning(str(error))}
    return problem(status_of(error), type(error).__name__, str(error), headers)


def answer_to(error: Exception) -> Response:
    """Return the answer to an error of ours or of the router."""
    if isinstance(error, ImagingError):
        return answer(error)
    if isinstance(error, HTTPException):
        title = HTTPStatus(error.status_code).phrase.title().replace(" ", "")
        return problem(error.status_code, title, str(error.detail), error.headers)
    return defect(error)


def defect(error: Exception) -> Response:
    """Log what nobody foresaw and answer 500 with the reference of the log line only."""
    reference = uuid4().hex[:12]
    log.error("http_defect", exc_info=error, extra={"request_id": reference})
    return problem(500, "InternalError", f"The fault was logged under {reference}.")


def problem(
    status: int,
    title: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, object] | None = None,
) -> Response:
    """Return a problem document; `members` are added to it (RFC 9457 3.2)."""
    content = {"title": title, "status": status, "detail": detail, **(members or {})}
    return JSONResponse(content, status, headers, MEDIA_TYPE)


def language_of(request: Request) -> str:
    """Return the language of ours that the client likes best (RFC 9110 12.5.4), or English."""
    wanted = []
    for each in request.headers.get("accept-language", "").split(","):
        tag, _, weight = each.partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            quality = 0.0
        wanted.append((quality, tag.strip().partition("-")[0].lower()))
    known = [(quality, tag) for quality, tag in wanted if tag in LANGUAGES and quality > 0]
    return max(known, key=lambda one: one[0])[1] if known else ENGLISH


def register(app: FastAPI) -> None:
    """Answer every error of `app` with a problem document."""
    app.add_exception_handler(ImagingError, _on_error)
    app.add_exception_handler(Faulty, _on_faulty)
    app.add_exception_handler(HTTPException, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)


def permitted(request: Request) -> str:
    """Return the methods of a path, as the header Allow has them (RFC 9110 10.2.1)."""
    methods: set[str] = set()
    for route in request.app.router.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


# `async` spares a change of thread; nothing is waited for.
async def _on_error(_request: Request, error: Exception) -> Response:
    return answer_to(error)


async def _on_faulty(request: Request, error: Exception) -> Response:
    """Tell each fault with its code, the field it is about and a text that a person reads."""
    if not isinstance(error, Faulty) or not isinstance(error, ImagingError):
        return defect(error)
    members = {"current": error.current} if isinstance(error, Stale) else None
    return faulty(error, language_of(request), members)


def faulty(error: Faulty, language: str, members: Mapping[str, object] | None = None) -> Response:
    """Return the problem document of an error that can be told in several languages."""
    faults = [
        {"pointer": one.pointer, "code": one.code, "detail": one.told(language)}
        for one in error.faults
    ]
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    headers = {"Content-Language": language}
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    told = {"errors": faults, **(members or {})}
    return problem(status, type(error).__name__, error.told(language), headers, told)


async def _on_invalid_request(_request: Request, error: Exception) -> Response:
    """Name the parameters that do not fit; never repeat their values."""
    if not isinstance(error, RequestValidationError):
        return defect(error)
    faults = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    fields = [
        {
            "pointer": "".join(f"/{part}" for part in one["loc"][1:]),
            "code": one["type"],
            "detail": one["msg"],
        }
        for one in error.errors()
    ]
    return problem(422, "InvalidRequest", "; ".join(faults), members={"errors": fields})
