"""The styles of a paper, all of them in proportion to the size of its text."""

from dataclasses import dataclass
from functools import cache
from typing import Final

from reportlab.lib.enums import TA_CENTER, TA_RIGHT
from reportlab.lib.styles import ParagraphStyle

from ris.reports.paper import typefaces

SIZES: Final = (11.5, 11.0, 10.5, 10.0)
"""Points; the largest with which the text needs one page, else the first."""


@dataclass(frozen=True, slots=True)
class Styles:
    """How each kind of text looks."""

    body: ParagraphStyle
    strong: ParagraphStyle
    heading: ParagraphStyle
    addendum: ParagraphStyle
    title: ParagraphStyle
    centred: ParagraphStyle
    centred_strong: ParagraphStyle
    small: ParagraphStyle
    small_centred: ParagraphStyle
    small_right: ParagraphStyle
    note: ParagraphStyle
    foot: ParagraphStyle
    foot_right: ParagraphStyle


@cache
def styles(size: float) -> Styles:
    """Return the styles of a paper whose text has `size` points."""
    body = ParagraphStyle(
        "body", fontName=typefaces.REGULAR, fontSize=size, leading=size * 1.3, splitLongWords=True
    )
    strong = ParagraphStyle("strong", body, fontName=typefaces.BOLD)
    heading = ParagraphStyle(
        *("heading", strong),
        spaceBefore=size / 2,
        spaceAfter=1,
        keepWithNext=True,
        textTransform="uppercase",
    )
    small = ParagraphStyle("small", body, fontSize=9, leading=11)
    small_centred = ParagraphStyle("small centred", small, alignment=TA_CENTER)
    foot = ParagraphStyle("foot", small, fontSize=8, leading=9.5)
    return Styles(
        body=body,
        strong=strong,
        heading=heading,
        addendum=ParagraphStyle("addendum", heading, textTransform=None),
        title=ParagraphStyle(
            *("title", strong),
            fontSize=16,
            leading=20,
            alignment=TA_CENTER,
            textTransform="uppercase",
        ),
        centred=ParagraphStyle("centred", body, alignment=TA_CENTER),
        centred_strong=ParagraphStyle("centred strong", strong, alignment=TA_CENTER),
        small=small,
        small_centred=small_centred,
        small_right=ParagraphStyle("small right", small, alignment=TA_RIGHT),
        note=ParagraphStyle("note", small_centred, fontName=typefaces.ITALIC),
        foot=foot,
        foot_right=ParagraphStyle("foot right", foot, alignment=TA_RIGHT),
    )
