"""How errors read under /fhir: OperationOutcome (FHIR R4 2.36) in place of problem documents."""

import json
from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MEDIA_TYPE: Final = "application/fhir+json"
ROOT: Final = "/fhir"
MISTAKES: Final = 400
UNFIT: Final = 422
PROBLEM: Final = "application/problem+json"

CODES: Final[Mapping[int, str]] = {
    400: "invalid",
    401: "login",
    403: "forbidden",
    404: "not-found",
    405: "not-supported",
    406: "not-supported",
    408: "timeout",
    409: "conflict",
    410: "deleted",
    412: "conflict",
    413: "too-long",
    415: "not-supported",
    422: "invalid",
    429: "throttled",
    503: "transient",
    507: "no-store",
}
"""Status → IssueType (FHIR R4 value set issue-type)."""


def outcome(status: int, text: str) -> dict[str, object]:
    """Return the resource that tells of an error."""
    return issue("error", CODES.get(status, "exception"), text)


def issue(severity: str, code: str, text: str) -> dict[str, object]:
    """Return an OperationOutcome of one issue."""
    told = {"severity": severity, "code": code, "diagnostics": text}
    return {"resourceType": "OperationOutcome", "issue": [told]}


class Outcomes:
    """ASGI middleware: problem documents on their way out of /fhir become OperationOutcomes.

    Outside everything else, so that no error is told otherwise, whoever found it. What does not
    fit a parameter is 400 there.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not _is_ours(scope["path"]):
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _Telling(send).send)


def _is_ours(path: str) -> bool:
    return path == ROOT or path.startswith(ROOT + "/")


class _Telling:
    """Keeps a problem document back until it is whole, and sends what it says as an outcome."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""

    async def send(self, message: Message) -> None:
        """Pass on a message of the app."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(raw=message["headers"])
            if headers.get("content-type", "").startswith(PROBLEM):
                self._start = message
                return
        elif self._start is not None:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._tell(self._start)
            return
        await self._send(message)

    async def _tell(self, start: Message) -> None:
        body = self._body
        status = MISTAKES if start["status"] == UNFIT else start["status"]
        if body:  # none in the answer to HEAD
            problem = json.loads(body)
            body = json.dumps(
                outcome(status, str(problem.get("detail", ""))), ensure_ascii=False
            ).encode()
        headers = MutableHeaders(raw=start["headers"])
        headers["content-type"] = f"{MEDIA_TYPE}; charset=utf-8"
        if body:
            headers["content-length"] = str(len(body))
        await self._send({**start, "status": status, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": body})
