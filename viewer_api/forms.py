"""Forms as browsers send them (application/x-www-form-urlencoded)."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Final
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from storage.base.errors import Malformed
from viewer_api.problems import TooLarge, TooSlow, UnsupportedMediaType

MEDIA_TYPE: Final = "application/x-www-form-urlencoded"
MAX_BODY: Final = 16 << 10
MAX_FIELDS: Final = 50
PATIENCE_S: Final = 10.0


async def _form(request: Request) -> Mapping[str, str]:
    """Return the fields, the last one of each name.

    Raises
    ------
    UnsupportedMediaType
        The body is no form.
    TooLarge
        It is longer than `MAX_BODY`.
    TooSlow
        It did not come within `PATIENCE_S`.
    Malformed
        It is not UTF-8 or has too many fields.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise UnsupportedMediaType(f"send {MEDIA_TYPE}")
    try:
        async with asyncio.timeout(PATIENCE_S):
            body = await _body(request)
    except TimeoutError as error:
        raise TooSlow("the form did not come") from error
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError as error:
        raise Malformed("the form cannot be read") from error
    return dict(pairs)


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise TooLarge(f"a form has at most {MAX_BODY} bytes")
    return body


Form = Annotated[Mapping[str, str], Depends(_form)]
