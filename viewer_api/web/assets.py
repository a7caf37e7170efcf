"""The style sheet and the icon of the pages: no login needed, kept by browsers for ever."""

from typing import Final

from fastapi import APIRouter
from fastapi.responses import Response

from storage.base.errors import NotFound
from viewer_api import pages

router = APIRouter(include_in_schema=False)

TYPES: Final = {"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml"}


@router.get("/static/{name}")
def asset(name: str) -> Response:
    """Return a file of the pages."""
    found = next((one for one in TYPES if pages.asset_name(one) == name), None)
    if found is None:
        raise NotFound("no such file")
    content = (pages.ASSETS / found).read_bytes()
    keep = f"public, max-age={pages.YEAR_S}, immutable"
    return Response(content, media_type=TYPES[found], headers={"Cache-Control": keep})
