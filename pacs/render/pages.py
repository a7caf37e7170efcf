"""The first page of what is read and not looked at, as a picture: PDF, and plain text.

A PDF is drawn without scripts, forms or anything that lies outside of it.
"""

import textwrap
from typing import Final

import pypdfium2
from PIL import Image, ImageDraw

from pacs.render.fonts import sans
from pacs.render.options import Viewport
from storage.base.errors import NotSupported

MAX_SIDE: Final = 4096
"""Pixels of a drawn page."""
_USUAL: Final = Viewport(1240, 1754)
"""A4 at 150 dots an inch."""
_MAX_POINTS: Final = 200_000.0
"""Of a side of a page; PDF itself ends at 14,400 of units that may be larger (ISO 32000-2)."""
_PAPER: Final = (620, 877)
_INK: Final = 20
_WHITE: Final = 255
_MARGIN: Final = 40
_SIZE: Final = 15
_LEADING: Final = 20
_COLUMNS: Final = 66
_MAX_TEXT: Final = 8_000


def of_pdf(content: bytes, viewport: Viewport | None) -> Image.Image:
    """Return the first page, as large as the viewport takes.

    Raises
    ------
    NotSupported
        It is no PDF, is locked by a password, or has no page.
    """
    try:
        document = pypdfium2.PdfDocument(content)
        page = document[0]
        width, height = page.get_size()
    except (pypdfium2.PdfiumError, IndexError) as error:
        raise NotSupported("a PDF that cannot be opened") from error
    if not (1 <= width <= _MAX_POINTS and 1 <= height <= _MAX_POINTS):
        raise NotSupported(f"a page of {width:.0f} x {height:.0f} points")
    wanted = viewport or _USUAL
    scale = min(min(wanted.width, MAX_SIDE) / width, min(wanted.height, MAX_SIDE) / height)
    try:
        drawn = page.render(scale=scale, may_draw_forms=False).to_pil()
    except pypdfium2.PdfiumError as error:
        raise NotSupported("a PDF whose first page cannot be drawn") from error
    picture: Image.Image = drawn.convert("RGB")
    return picture


def of_text(text: str) -> Image.Image:
    """Return the beginning of a text on a page."""
    page = Image.new("L", _PAPER, _WHITE)
    draw = ImageDraw.Draw(page)
    y = _MARGIN
    for line in text[:_MAX_TEXT].splitlines():
        for part in textwrap.wrap(line, _COLUMNS, break_long_words=True) or [""]:
            if y > page.height - _MARGIN:
                return page
            draw.text((_MARGIN, y), part, _INK, sans(_SIZE))
            y += _LEADING
    return page
