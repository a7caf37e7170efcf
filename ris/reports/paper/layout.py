"""The pages of a paper: A4, black on white, so that a grey printer loses nothing.

first page    letterhead, title, patient and order, sections, who signed
others        a line that says whose report it is, the rest
last page     key images
each foot     number and version, page, where it comes from, how to check it
"""

from dataclasses import dataclass
from io import BytesIO
from typing import Final

from reportlab.lib.colors import Color
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import BaseDocTemplate, Frame, PageTemplate, Paragraph
from reportlab.platypus.doctemplate import LayoutError

from ris.reports.faults import Words
from ris.reports.paper import typefaces, words
from ris.reports.paper.model import Paper
from ris.reports.paper.styles import SIZES, styles
from ris.reports.paper.text import INNER, LEFT, NEXT_PAGES, RIGHT, Text, shortened
from storage.base.errors import Malformed

WIDTH, HEIGHT = A4
TOP: Final = 12 * mm
BOTTOM: Final = 22 * mm
CONTINUED: Final = 8 * mm
"""Height of the line at the head of the second page and those after it."""
WATERMARK_SIZE: Final = 72.0
_GREY: Final = Color(0.87, 0.87, 0.87)
_LINE: Final = 9
_ELLIPSIS: Final = "…"


def render(paper: Paper) -> bytes:
    """Return the PDF of a paper; the same paper is the same bytes.

    The text is set a little smaller when it needs just one page then.

    Raises
    ------
    Malformed
        The logo or a picture is none that can be printed, or something of the head is longer
        than a page.
    """
    typefaces.register()
    try:
        size = next((size for size in SIZES if _pages(paper, size, pictures=False) == 1), SIZES[0])
        return _build(paper, size, _pages(paper, size))[0]
    except OSError as error:  # the library's word for a picture that it cannot read
        raise Malformed("a picture of the paper cannot be read") from error
    except LayoutError as error:
        raise Malformed("a part of the paper does not fit on a page") from error


def _pages(paper: Paper, size: float, *, pictures: bool = True) -> int:
    return _build(paper, size, 1, pictures=pictures)[1]


def _build(paper: Paper, size: float, pages: int, *, pictures: bool = True) -> tuple[bytes, int]:
    """Return the file and its number of pages; `pages` is what the feet say."""
    output = BytesIO()
    number = f"{words.NUMBER.told(paper.language)} {paper.number}"
    document = BaseDocTemplate(
        output,
        pagesize=A4,
        invariant=1,
        lang=paper.language,
        title=paper.title,
        author=paper.letterhead.hospital,
        subject=f"{number} {words.VERSION.told(paper.language)} {paper.version}",
        creator="Lienthong",
        initialFontName=typefaces.REGULAR,
    )
    around = _Around(paper, pages)
    height = HEIGHT - TOP - BOTTOM
    document.addPageTemplates(
        [
            PageTemplate(
                "first", [_frame(height)], onPage=around.draw, autoNextPageTemplate=NEXT_PAGES
            ),
            PageTemplate(NEXT_PAGES, [_frame(height - CONTINUED)], onPage=around.draw),
        ]
    )
    document.build([*Text(paper, styles(size)).flow(pictures=pictures)])
    return output.getvalue(), document.page


def _frame(height: float) -> Frame:
    return Frame(
        *(LEFT, BOTTOM, INNER, height),
        leftPadding=0,
        rightPadding=0,
        topPadding=0,
        bottomPadding=0,
    )


@dataclass(frozen=True, slots=True)
class _Around:
    """What stands around the text of each page."""

    paper: Paper
    pages: int

    def draw(self, canvas: Canvas, _document: object) -> None:
        """Draw it on the page that begins."""
        canvas.saveState()
        if self.paper.watermark:
            self._watermark(canvas)
        if canvas.getPageNumber() > 1:
            self._continued(canvas)
        self._foot(canvas)
        canvas.restoreState()

    def _watermark(self, canvas: Canvas) -> None:
        text = self.paper.watermark
        width = max(canvas.stringWidth(text, typefaces.BOLD, 1), 1)
        canvas.saveState()
        canvas.setFillColor(_GREY)
        canvas.setFont(typefaces.BOLD, min(WATERMARK_SIZE, WIDTH * 1.1 / width))
        canvas.translate(WIDTH / 2, HEIGHT / 2)
        canvas.rotate(50)
        canvas.drawCentredString(0, 0, text)
        canvas.restoreState()

    def _continued(self, canvas: Canvas) -> None:
        base = HEIGHT - TOP - _LINE
        canvas.setFont(typefaces.REGULAR, _LINE)
        canvas.drawString(
            LEFT, base, _fitting(canvas, typefaces.printable(self.paper.continuation))
        )
        _rule(canvas, base - 3)

    def _foot(self, canvas: Canvas) -> None:
        paper, own = self.paper, styles(SIZES[0])
        _rule(canvas, BOTTOM - 2 * mm)
        owner = paper.letterhead.owner or paper.letterhead.hospital
        made = self._told(words.MADE).format(
            system=paper.letterhead.system,
            owner=self._told(words.OWNER).format(owner=owner) if owner else "",
            at=f"{paper.made_at:%H:%M %d/%m/%Y}",
        )
        where = paper.verify_url or paper.verify_code
        look_up = self._told(words.LOOK_UP).format(where=where) if where else ""
        version = f"{self._told(words.VERSION)} {paper.version}"
        number = f"{self._told(words.NUMBER)} {shortened(paper.number)} \N{EN DASH} {version}"
        counted = self._told(words.PAGE).format(page=canvas.getPageNumber(), pages=self.pages)
        _block(canvas, own.foot, LEFT, INNER * 0.64, [made, look_up])
        _block(canvas, own.foot_right, LEFT + INNER * 0.66, INNER * 0.34, [number, counted])

    def _told(self, term: Words) -> str:
        return term.told(self.paper.language)


def _rule(canvas: Canvas, height: float) -> None:
    canvas.setLineWidth(0.4)
    canvas.line(LEFT, height, WIDTH - RIGHT, height)


def _block(
    canvas: Canvas, style: ParagraphStyle, left: float, width: float, lines: list[str]
) -> None:
    """Draw lines below the rule at the foot."""
    top = BOTTOM - 3 * mm
    for line in lines:
        shown = typefaces.printable(line)
        paragraph = Paragraph(shown.replace("&", "&amp;").replace("<", "&lt;"), style)
        _, height = paragraph.wrap(width, BOTTOM)
        top -= height
        paragraph.drawOn(canvas, left, top)


def _fitting(canvas: Canvas, text: str) -> str:
    """Return `text`, cut with an ellipsis when it is wider than a line."""
    if canvas.stringWidth(text, typefaces.REGULAR, _LINE) <= INNER:
        return text
    while text and canvas.stringWidth(text + _ELLIPSIS, typefaces.REGULAR, _LINE) > INNER:
        text = text[:-1]
    return text + _ELLIPSIS
