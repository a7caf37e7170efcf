"""The typeface that is packed into every file: Tinos, as wide as Times, with all of Vietnamese."""

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
