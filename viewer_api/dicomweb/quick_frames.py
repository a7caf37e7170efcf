"""The short way to a frame, for viewers that fetch hundreds of them in a second.

A frame that goes out as it lies, of a series that was asked for a moment ago, by a caller
who was known a moment ago, with bytes that are in memory: it needs no thread, no router
and no dependencies, which are most of the time. Whatever is not so, every error too,
takes the ordinary way (`frames`); where both can be taken, both give the same answer.
"""

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pacs.series_metadata import Entry
from storage.access.sessions import Audience
from storage.access.tokens import Action, Caller
from storage.base.errors import ImagingError
from viewer_api import deps
from viewer_api.deps import Parts
from viewer_api.dicomweb import frames
from viewer_api.dicomweb.frames import Source

_ROUTE: Final = next(route for route in frames.router.routes)
_ROOT: Final = f"{deps.DICOMWEB}/studies/"
_NAMES: Final = ("series", "instances", "frames")
"""In a path, between the UIDs and the number."""
_READ: Final = frozenset({b"accept"})
_NOT_HERE: Final = frozenset({b"if-none-match"})
_MAX_DIGITS: Final = 5


class QuickFrames:
    """ASGI middleware that answers what it can at once and passes on the rest."""

    def __init__(self, app: ASGIApp, parts: Parts, audience: Audience) -> None:
        self._app = app
        self._parts = parts
        self._audience = audience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = self._answer(scope) if scope["type"] == "http" else None
        await (answer or self._app)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        if scope["method"] != "GET" or scope["query_string"]:
            return None
        asked = _asked(scope["path"])
        headers = _headers(scope)
        if asked is None or headers is None:
            return None
        try:
            caller = self._caller(scope)
            *uids, number = asked
            entry = self._parts.places.at_hand(*uids) if caller else None
            answer = self._frame(entry, int(number), headers.get(b"accept", b"")) if entry else None
        except ImagingError:
            return None  # the ordinary way will tell
        if answer is not None:
            scope["route"], scope["state"]["caller"] = _ROUTE, caller
        return answer

    def _caller(self, scope: Scope) -> Caller | None:
        shown = deps.credential(scope, self._parts, self._audience)
        caller = self._parts.callers.remembered(shown)
        if caller is not None:
            caller.require(Action.RETRIEVE)
        return caller

    def _frame(self, entry: Entry, number: int, accept: bytes) -> Response | None:
        """Return the answer if the frame lies in one piece and is right."""
        stored, index = entry.stored, entry.frames
        if index is None:
            return None
        wanted = frames.form(accept.decode("latin-1"), stored.transfer_syntax_uid, 1)
        syntax = frames.syntax_as_it_lies(stored.transfer_syntax_uid, wanted)
        pieces = index.pieces(number)
        if syntax is None or len(pieces) != 1 or index.frame_bits % 8:
            return None
        [(offset, length)] = pieces
        place = stored.object_key, stored.dataset_offset + offset
        lying = self._parts.store.at_hand(*place, length)
        if lying is None or not entry.is_frame(number, lying):
            return None
        etag = frames.entity_tag(stored, (number,), wanted)
        source = Source(syntax, index, lambda _offset, _length: lying)
        return frames.answer(source, (number,), wanted, etag)


def _asked(path: str) -> tuple[str, str, str, str] | None:
    """Return the UIDs and the number in the path of one frame, None of any other path."""
    if not path.startswith(_ROOT):
        return None
    steps = path[len(_ROOT) :].split("/")
    if len(steps) != 7 or (*steps[1::2],) != _NAMES:  # noqa: PLR2004 - four values, three names
        return None
    study, series, instance, number = steps[::2]
    digits = number.isascii() and number.isdigit() and len(number) <= _MAX_DIGITS
    return (study, series, instance, number) if digits else None


def _headers(scope: Scope) -> Mapping[bytes, bytes] | None:
    """Return the headers that matter, of several the first; None when one is not for here."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _READ:
            found.setdefault(name, value)
        elif name in _NOT_HERE:
            return None
    return found
