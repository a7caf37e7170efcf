"""Media types: the Accept header in every legal shape, and what a client wishes by it.

PS3.18 8.7 (media types), RFC 9110 12.5.1 (Accept), RFC 2387 (multipart/related).
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from starlette.requests import Request

from storage.base.errors import Malformed

ANY: Final = "*/*"
DICOM: Final = "application/dicom"
DICOM_JSON: Final = "application/dicom+json"
DICOM_XML: Final = "application/dicom+xml"
JSON: Final = "application/json"
OCTET_STREAM: Final = "application/octet-stream"
MULTIPART_RELATED: Final = "multipart/related"

AS_STORED: Final = "*"
"""The transfer-syntax parameter that takes whatever is stored, PS3.18 8.7.3.5.3."""

MAX_HEADER: Final = 8192
MAX_RANGES: Final = 64

_TOKEN: Final = re.compile(r"[0-9A-Za-z!#$%&'*+\-.^_`|~]+")


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type or range in lower case with its parameters; values keep their case."""

    essence: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Offer:
    """One way in which something can be given."""

    media_type: str
    multipart: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """One thing that a client takes.

    `multipart` is None when single and several parts are both taken;
    `transfer_syntax` is '' when the client named none, `AS_STORED` for any.
    """

    media_type: str
    multipart: bool | None
    transfer_syntax: str = ""

    def takes(self, media_type: str) -> bool:
        """Whether `media_type` lies in the range of this wish."""
        if self.media_type in {ANY, media_type}:
            return True
        kind, _, subtype = self.media_type.partition("/")
        return subtype == "*" and media_type.startswith(f"{kind}/")


def parse(text: str) -> MediaType:
    """Read one media type with its parameters, quoted or not (RFC 9110 8.3.1).

    A slash in an unquoted value is against the grammar and in every viewer, so it is taken.

    Raises
    ------
    Malformed
        It is not ``type/subtype`` with well-formed parameters.
    """
    if len(text) > MAX_HEADER:
        raise Malformed(f"a media type of {len(text)} characters")
    essence, *rest = _split(text, ";")
    kind, slash, subtype = essence.lower().partition("/")
    if not slash or not _is_token(kind) or not _is_token(subtype):
        raise Malformed("the media type is not of the form type/subtype")
    return MediaType(f"{kind}/{subtype}", dict(_parameters(rest)))


@lru_cache(maxsize=256)
def wishes(accept: str) -> Sequence[Wish]:
    """Return what an Accept value asks for, best first; nothing named means anything.

    What cannot be read and what has the quality 0 is left out (RFC 9110 12.5.1).
    """
    if not accept.strip():
        return (Wish(ANY, None),)
    ranked = sorted(_ranked(accept), key=lambda pair: -pair[0])
    return tuple(wish for quality, wish in ranked if quality > 0)


def _ranked(accept: str) -> Iterator[tuple[float, Wish]]:
    for text in list(_split(accept[:MAX_HEADER], ","))[:MAX_RANGES]:
        try:
            media_type = parse(text)
            yield _quality(media_type.parameters.get("q", "1")), _wish(media_type)
        except Malformed:
            continue


@lru_cache(maxsize=256)
def _refused(accept: str) -> Collection[Offer]:
    """Return what is named with the quality 0: a wider range does not bring it back."""
    wishes = (wish for quality, wish in _ranked(accept) if not quality)
    return frozenset(Offer(wish.media_type, multipart=bool(wish.multipart)) for wish in wishes)


def choose(accept: str, offers: Sequence[Offer]) -> Offer | None:
    """Return the one of `offers`, best first, that the client likes most; None: it takes none."""
    refused = _refused(accept)
    left = [offer for offer in offers if offer not in refused]
    for wish in wishes(accept):
        for offer in left:
            if wish.multipart in {None, offer.multipart} and wish.takes(offer.media_type):
                return offer
    return None


def _wish(media_type: MediaType) -> Wish:
    syntax = media_type.parameters.get("transfer-syntax", "")
    if media_type.essence in {MULTIPART_RELATED, "multipart/*"}:
        part_type = media_type.parameters.get("type", ANY).lower()
        return Wish(part_type, multipart=True, transfer_syntax=syntax)
    multipart = None if media_type.essence == ANY else False
    return Wish(media_type.essence, multipart, syntax)


def _quality(text: str) -> float:
    try:
        quality = float(text)
    except ValueError as error:
        raise Malformed("q is not a number") from error
    if not 0 <= quality <= 1:
        raise Malformed("q lies outside 0 to 1")
    return quality


def _parameters(texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    for text in texts:
        if not text:
            continue
        name, equals, value = text.partition("=")
        if not equals or not _is_token(name.strip()):
            raise Malformed("a media type parameter is not of the form name=value")
        yield name.strip().lower(), _unquoted(value.strip())


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    if len(value) < 2 or not value.endswith('"'):  # noqa: PLR2004 - two quotation marks
        raise Malformed("a quoted parameter is not closed")
    return value[1:-1].replace("\\\\", "\0").replace("\\", "").replace("\0", "\\")


def _split(text: str, separator: str) -> Iterator[str]:
    """Split at `separator` outside quotation marks and strip the pieces."""
    if '"' not in text:
        yield from (piece.strip() for piece in text.split(separator))
        return
    start = 0
    quoted = escaped = False
    for position, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            yield text[start:position].strip()
            start = position + 1
    yield text[start:].strip()


def _is_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None


def accepted(request: Request) -> str:
    """Return the Accept query parameter, else the header (PS3.18 8.3.3.1)."""
    return request.query_params.get("accept") or request.headers.get("accept", "")


def takes_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding value takes gzip (RFC 9110 12.5.3); absent, it does not."""
    for text in accept_encoding[:MAX_HEADER].lower().split(","):
        coding, _, parameter = text.partition(";")
        if coding.strip() in {"gzip", "*"}:
            return parameter.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False


def names(if_none_match: str, etag: str) -> bool:
    """Whether If-None-Match names `etag` (RFC 9110 13.1.2); a proxy may have made it a weak one."""
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return etag in tags or "*" in tags
