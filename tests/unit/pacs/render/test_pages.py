import io

import numpy as np
import pytest
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from pacs.render import pages
from pacs.render.options import Viewport
from storage.base.errors import NotSupported


def pdf(*sizes: tuple[float, float], password: str = "") -> bytes:
    content = io.BytesIO()
    canvas = Canvas(content, pagesize=sizes[0], encrypt=password or None)
    for size in sizes:
        canvas.setPageSize(size)
        canvas.rect(0, 0, size[0] / 2, size[1], stroke=0, fill=1)
        canvas.showPage()
    canvas.save()
    return content.getvalue()


def test_the_first_page_fits_the_viewport():
    drawn = pages.of_pdf(pdf(A4, (100, 100)), Viewport(128, 128))

    assert (drawn.height, drawn.width) == (128, 91)
    cells = np.asarray(drawn)
    assert cells[64, 20].tolist() == [0, 0, 0]
    assert cells[64, 80].tolist() == [255, 255, 255]


def test_a_huge_page_is_drawn_small():
    drawn = pages.of_pdf(pdf((14_400, 10)), None)

    assert max(drawn.size) <= pages.MAX_SIDE


@pytest.mark.parametrize(
    "content",
    [b"", b"%PDF-1.4", b"GIF89a", pdf(A4)[:200], pdf(A4, password="x")],
    ids=["nothing", "a head", "no PDF", "cut", "locked"],
)
def test_what_is_no_open_pdf_is_refused(content):
    with pytest.raises(NotSupported):
        pages.of_pdf(content, None)


def test_a_text_fills_its_page_and_no_more():
    short = np.asarray(pages.of_text("Kết luận: bình thường"))
    long = np.asarray(pages.of_text("word " * 5000 + "\n" * 5000))

    assert short.shape == long.shape
    assert (short[:70] < 128).any()
    assert not (short[100:] < 128).any()
    assert (long[700:] < 128).any()
