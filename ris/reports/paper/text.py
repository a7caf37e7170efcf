"""What a paper says, as a flow: head, title, patient and order, sections, who signed, pictures."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

from reportlab.lib.colors import black
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.platypus import (
    Flowable,
    KeepTogether,
    NextPageTemplate,
    PageBreak,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)

from ris.reports.faults import Words
from ris.reports.model import Addendum
from ris.reports.paper import typefaces, words
from ris.reports.paper.flowables import QrCode, fitted
from ris.reports.paper.model import Paper, Picture, Signature
from ris.reports.paper.styles import Styles

LEFT: Final = 20 * mm
RIGHT: Final = 15 * mm
INNER: Final = A4[0] - LEFT - RIGHT
"""The width of the text, in points."""
NEXT_PAGES: Final = "next"
"""The template of every page but the first."""
QR_SIZE: Final = 25 * mm
LOGO_SIZE: Final = 18 * mm
CORNER: Final = 45 * mm
LABEL_WIDTH: Final = 30 * mm
VALUE_WIDTH: Final = INNER / 2 - LABEL_WIDTH
LONGEST_FACT: Final = 400
"""Characters."""
PICTURES_PER_PAGE: Final = 4
PICTURE_HEIGHT: Final = 100 * mm

_FACT_WIDTHS: Final = [LABEL_WIDTH, VALUE_WIDTH] * 2
_AT_THE_END: Final = ("impression", "recommendation")
_BEFORE_THE_END: Final = tuple(name for name in words.SECTIONS if name not in _AT_THE_END)
_EMPTY: Final = "\N{NO-BREAK SPACE}"

_FACE: Final[Any] = ("FONT", (0, 0), (-1, -1), typefaces.REGULAR)
"""Also of empty cells: else another face stands in the file that is not packed."""
_TIGHT: Final[list[Any]] = [
    _FACE,
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 4),
    ("TOPPADDING", (0, 0), (-1, -1), 0),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
]
_BOX: Final[list[Any]] = [
    _FACE,
    ("BOX", (0, 0), (-1, -1), 1, black),
    ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
]
_GRID: Final[list[Any]] = [
    *_TIGHT,
    ("LEFTPADDING", (0, 0), (-1, -1), 4),
    ("GRID", (0, 0), (-1, -1), 0.4, black),
]


@dataclass(frozen=True, slots=True)
class Text:
    """The flow of one paper in one size."""

    paper: Paper
    styles: Styles

    def flow(self, *, pictures: bool = True) -> Iterator[Flowable]:
        """Yield the parts in their order; `pictures`: with the pages of key images."""
        paper = self.paper
        yield self._head()
        yield Spacer(0, 3 * mm)
        yield _paragraph(paper.title, self.styles.title)
        if paper.status:
            yield _paragraph(f"({paper.status})", self.styles.centred)
        yield Spacer(0, 2 * mm)
        if paper.notice:
            notice = _paragraph(paper.notice, self.styles.strong)
            yield Table([[notice]], colWidths=[INNER], style=TableStyle(_BOX))
            yield Spacer(0, 2 * mm)
        yield self._facts()
        if paper.procedure:
            label = escape(self._told(words.PROCEDURE))
            procedure = f"{label}: <b>{_marked(paper.procedure)}</b>"
            yield Paragraph(procedure, self.styles.body)
        yield from self._sections(_BEFORE_THE_END)
        # so that no signature stands on a page by itself
        end = [*self._sections(_AT_THE_END), *self._addenda(), Spacer(0, 4 * mm)]
        yield KeepTogether([*end, *self._signatures()])
        if pictures:
            yield from self._pictures()

    def _head(self) -> Flowable:
        head, styles = self.paper.letterhead, self.styles
        telephone = f"{self._told(words.TELEPHONE)}: {head.telephone}" if head.telephone else ""
        where = " \N{EN DASH} ".join(part for part in (head.address, telephone) if part)
        lines = [
            _paragraph(text, style)
            for text, style in (
                (head.authority, styles.small),
                (head.hospital, styles.strong),
                (head.department, styles.body),
                (where, styles.small),
            )
            if text
        ]
        columns: list[object] = [lines, self._corner()]
        widths = [INNER - CORNER, CORNER]
        if head.logo:
            columns.insert(0, fitted(head.logo, LOGO_SIZE, LOGO_SIZE))
            widths = [LOGO_SIZE + 3 * mm, INNER - CORNER - LOGO_SIZE - 3 * mm, CORNER]
        right = ("ALIGN", (-1, 0), (-1, 0), "RIGHT")
        return Table([columns], colWidths=widths, style=TableStyle([*_TIGHT, right]))

    def _corner(self) -> list[Flowable]:
        """Return form, number and QR code."""
        style = self.styles.small_right
        lines: list[Flowable] = []
        if form := self.paper.letterhead.form_number:
            lines.append(_paragraph(f"{self._told(words.FORM)}: {form}", style))
        number = shortened(self.paper.number)
        lines.append(_paragraph(f"{self._told(words.NUMBER)}: {number}", style))
        if content := self.paper.verify_url or self.paper.verify_code:
            lines.append(QrCode(content, QR_SIZE))
        return lines

    def _facts(self) -> Flowable:
        """Return label and value, two pairs in a row; a long value has a row of its own."""
        rows: list[list[object]] = []
        spans = []
        strong = self.styles.strong
        for label, whole_value in self.paper.facts:
            value = shortened(whole_value)
            pair = [_paragraph(f"{label}:", self.styles.body), _paragraph(value, strong)]
            if stringWidth(value, strong.fontName, strong.fontSize) > VALUE_WIDTH - 2 * mm:
                spans.append(("SPAN", (1, len(rows)), (3, len(rows))))
                rows.append([*pair, "", ""])
            elif rows and len(rows[-1]) < len(_FACT_WIDTHS):
                rows[-1] += pair
            else:
                rows.append([*pair])
        whole = [row + [""] * (len(_FACT_WIDTHS) - len(row)) for row in rows]
        return Table(
            whole or [[""] * 4], colWidths=_FACT_WIDTHS, style=TableStyle([*_TIGHT, *spans])
        )

    def _sections(self, names: Sequence[str]) -> Iterator[Flowable]:
        for name in names:
            text: str = getattr(self.paper.content, name)
            if not text:
                continue
            yield _paragraph(self._told(words.SECTIONS[name]), self.styles.heading)
            style = self.styles.strong if name == "impression" else self.styles.body
            yield from _lines(text, style)
            if name == "findings" and self.paper.content.measurements:
                yield from self._measurements()
            if name == "impression" and self.paper.content.diagnoses:
                yield self._diagnoses()

    def _measurements(self) -> Iterator[Flowable]:
        rows = [
            [
                _paragraph(one.name, self.styles.body),
                _paragraph(f"{one.value} {one.unit}".strip(), self.styles.body),
            ]
            for one in self.paper.content.measurements
        ]
        yield Spacer(0, 2 * mm)
        yield Table(rows, colWidths=[INNER * 0.6, INNER * 0.4], style=TableStyle(_GRID))

    def _diagnoses(self) -> Flowable:
        diagnoses = self.paper.content.diagnoses
        codes = "; ".join(f"{one.value} {one.meaning}".strip() for one in diagnoses)
        return _paragraph(f"{self._told(words.DIAGNOSES)}: {codes}", self.styles.body)

    def _addenda(self) -> Iterator[Flowable]:
        for addendum in self.paper.content.addenda:
            yield _paragraph(self._heading_of(addendum), self.styles.addendum)
            yield from _lines(addendum.text, self.styles.body)

    def _heading_of(self, addendum: Addendum) -> str:
        added_at = addendum.added_at.astimezone(self.paper.made_at.tzinfo)
        return f"{self._told(words.ADDENDUM)} ({added_at:%H:%M %d/%m/%Y}, {addendum.author})"

    def _signatures(self) -> Iterator[Flowable]:
        if not self.paper.signatures:
            return
        columns = [self._signature(one) for one in self.paper.signatures]
        if len(columns) == 1:
            columns.insert(0, [])
        yield Table(
            [columns], colWidths=[INNER / len(columns)] * len(columns), style=TableStyle(_TIGHT)
        )

    def _signature(self, signature: Signature) -> list[Flowable]:
        styles = self.styles
        last = signature is self.paper.signatures[-1]
        place = f"{self.paper.letterhead.place}, " if self.paper.letterhead.place else ""
        day = self._told(words.DATE).format(place=place, day=signature.signed_at)
        lines = [
            _paragraph(day if last else _EMPTY, styles.centred),
            _paragraph(signature.role, styles.centred_strong),
            Spacer(0, 3 * mm),
        ]
        if last:
            at = self._told(words.SIGNED_AT).format(at=signature.signed_at)
            lines.append(_paragraph(at, styles.note))
        if signature.note:
            lines.append(_paragraph(signature.note, styles.note))
        lines += [Spacer(0, 3 * mm), _paragraph(signature.name, styles.centred_strong)]
        if signature.licence_number:
            licence = f"{self._told(words.LICENCE)}: {signature.licence_number}"
            lines.append(_paragraph(licence, styles.small_centred))
        return lines

    def _pictures(self) -> Iterator[Flowable]:
        pictures = self.paper.pictures
        for start in range(0, len(pictures), PICTURES_PER_PAGE):
            yield NextPageTemplate(NEXT_PAGES)
            yield PageBreak()
            yield _paragraph(self._told(words.PICTURES), self.styles.heading)
            yield _paragraph(self._told(words.PICTURES_NOTE), self.styles.small)
            yield Spacer(0, 2 * mm)
            cells: list[object] = [
                self._cell(one) for one in pictures[start : start + PICTURES_PER_PAGE]
            ]
            rows = [cells[at : at + 2] for at in range(0, len(cells), 2)]
            rows[-1] += [""] * (2 - len(rows[-1]))
            yield Table(rows, colWidths=[INNER / 2] * 2, style=TableStyle(_TIGHT))

    def _cell(self, picture: Picture) -> list[Flowable]:
        return [
            fitted(picture.jpeg, INNER / 2 - 4 * mm, PICTURE_HEIGHT),
            Spacer(0, 1 * mm),
            _paragraph(picture.label or _EMPTY, self.styles.small_centred),
            Spacer(0, 4 * mm),
        ]

    def _told(self, term: Words) -> str:
        return term.told(self.paper.language)


def shortened(text: str) -> str:
    """Return what fits into a row of the head: a row is never longer than a page."""
    return text if len(text) <= LONGEST_FACT else f"{text[:LONGEST_FACT]}\N{HORIZONTAL ELLIPSIS}"


def _lines(text: str, style: ParagraphStyle) -> Iterator[Flowable]:
    return (_paragraph(line or _EMPTY, style) for line in text.split("\n"))


def _paragraph(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(_marked(text), style)


def _marked(text: str) -> str:
    """Return plain text as the markup of the library."""
    shown = escape(typefaces.printable(text))
    return shown.replace("\n", "<br/>").replace("\t", f"{_EMPTY * 3} ")
