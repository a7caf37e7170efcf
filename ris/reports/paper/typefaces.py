"""The typeface that is packed into every file: Tinos, as wide as Times, with all of Vietnamese."""

import unicodedata
from functools import cache
from importlib.resources import files
from typing import Final

from reportlab.lib.fonts import addMapping
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

REGULAR: Final = "Tinos-Regular"
BOLD: Final = "Tinos-Bold"
ITALIC: Final = "Tinos-Italic"


@cache
def register() -> None:
    """Make the faces known to the PDF library, once in a process."""
    folder = files("ris.reports.paper") / "fonts"
    for name in (REGULAR, BOLD, ITALIC):
        with (folder / f"{name}.ttf").open("rb") as file:
            pdfmetrics.registerFont(TTFont(name, file))
    addMapping(REGULAR, 0, 0, REGULAR)
    addMapping(REGULAR, 1, 0, BOLD)
    addMapping(REGULAR, 0, 1, ITALIC)
    addMapping(REGULAR, 1, 1, BOLD)  # no paper of ours has italics of bold text


MISSING: Final = "\N{WHITE SQUARE}"
"""Stands where the typeface has no letter: a paper shows that something is left out."""


def printable(text: str) -> str:
    """Return `text` with `MISSING` for each letter that the typeface lacks.

    Letters that show nothing anyway, joiners for instance, go.
    """
    known = _letters()
    if known.issuperset(text):
        return text
    return "".join(one if one in known else _instead(one) for one in text)


def _instead(letter: str) -> str:
    return "" if unicodedata.category(letter) in {"Cf", "Mn", "Me"} else MISSING


@cache
def _letters() -> frozenset[str]:
    """Return what all faces can print, and what is no letter but layout."""
    register()
    fonts = [pdfmetrics.getFont(name) for name in (REGULAR, BOLD, ITALIC)]
    faces = [one.face.charToGlyph for one in fonts]  # type: ignore[attr-defined]
    common = set.intersection(*({*map(chr, face)} for face in faces))
    return frozenset(common | {"\n", "\t"})
