"""What stands on a paper, as poppler reads and draws it."""

import subprocess
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ris.reports.model import Content
from ris.reports.paper.layout import render
from ris.reports.paper.model import Letterhead, Picture
from storage.base.errors import Malformed
from tests.fixtures import programs
from tests.fixtures.papers import (
    LETTERS,
    LONG_NAME,
    PICTURES,
    fonts_of,
    pages_of,
    paper,
    text_of,
)

pytestmark = pytest.mark.skipif(
    not programs.find("pdftotext"), reason="LEFT OUT: poppler is not installed, no PDF was read"
)


def words_of(pdf: bytes) -> str:
    return " ".join(unicodedata.normalize("NFC", text_of(pdf)).split())


def test_every_vietnamese_letter_is_on_the_paper() -> None:
    read = words_of(render(paper()))

    assert [one for one in LETTERS.split() if one not in read] == []
    for said in (
        LONG_NAME,
        "BỆNH VIỆN ĐA KHOA TỈNH",
        "PHIẾU KẾT QUẢ CHỤP CẮT LỚP VI TÍNH",
        "Đau đầu <khẩn> & nôn",
        "Không thấy tổn thương.",
        "6.2 mm",
        "R51 Đau đầu",
        "Bổ sung (14:05 12/03/2026, Đỗ Văn Ường)",
        "Phan Thiết, ngày 12 tháng 03 năm 2026",
        "Phiếu A1002345 – phiên bản 2",
        "trang 1/1",
        "https://pacs.example.vn/verify/Zk3_9aBcDeFgHiJk",
    ):
        assert said in read


def test_letter_that_cannot_be_printed_is_seen_to_be_missing() -> None:
    content = Content(findings="Ổ 中 tròn \N{CHECK MARK}", impression="Bình thường.")

    assert "Ổ □ tròn □" in words_of(render(paper(content=content)))


@pytest.mark.parametrize("address", ["Đ" * 6000, "Đường " * 2000], ids=["one word", "words"])
def test_address_without_an_end_keeps_no_paper_away(address: str) -> None:
    read = words_of(render(paper(facts=[("Họ và tên", LONG_NAME), ("Địa chỉ", address)])))

    assert "Không thấy tổn thương." in read
    assert "…" in read


def test_head_that_is_longer_than_a_page_is_refused() -> None:
    head = Letterhead(**dict.fromkeys(("authority", "hospital", "department"), "Ộ" * 4000))

    with pytest.raises(Malformed, match="does not fit on a page"):
        render(paper(letterhead=head))


def test_every_face_is_packed_into_the_file() -> None:
    pdf = render(paper(watermark="BẢN NHÁP", pictures=PICTURES, notice="ĐÍNH CHÍNH"))

    fonts = fonts_of(pdf)

    assert len(fonts) == 3
    for name, *facts in fonts:
        assert "Tinos" in name
        assert facts[-5:-2] == ["yes", "yes", "yes"], "embedded, subset, with its Unicode"


def test_same_paper_is_the_same_bytes() -> None:
    assert render(paper()) == render(paper())


def test_usual_report_is_small_and_has_one_page() -> None:
    pdf = render(paper())

    assert text_of(pdf).count("\f") == 1
    assert len(pdf) < 150_000


def test_long_report_goes_on_and_each_page_says_whose_it_is() -> None:
    long = Content(findings="Dòng mô tả.\n" * 70, impression="Kết luận ở cuối.")

    *_, first, second, rest = ["", *text_of(render(paper(content=long))).split("\f")]

    assert rest == ""
    assert "trang 1/2" in first
    assert "trang 2/2" in second
    assert LONG_NAME in " ".join(second.split())
    assert "0000123456" in second
    assert "Kết luận ở cuối." in second
    assert "Trần Thị Ỷ" in second, "the signature stands with the impression"


@pytest.mark.parametrize("lines", range(22, 44, 3))
def test_no_signature_stands_on_a_page_by_itself(lines: int) -> None:
    content = Content(findings="Dòng mô tả.\n" * lines, impression="Kết luận ở cuối.")

    pages = text_of(render(paper(content=content))).split("\f")

    [signed] = [page for page in pages if "Trần Thị Ỷ" in page]
    assert "Kết luận ở cuối." in signed


def test_key_images_have_pages_of_their_own() -> None:
    pages = text_of(render(paper(pictures=[*PICTURES, *PICTURES]))).split("\f")

    assert len(pages) == 4
    assert "HÌNH ẢNH MINH HOẠ" in pages[1]
    assert "Hình ảnh chọn lọc, không dùng để chẩn đoán." in pages[1]
    assert "Lát cắt 12" in pages[1]
    assert "trang 3/3" in pages[2]


def test_grey_printer_loses_nothing() -> None:
    pdf = render(paper(watermark="CHƯA KÝ SỐ", status="đính chính", notice="ĐÍNH CHÍNH"))

    for page in pages_of(pdf):
        assert np.ptp(page, axis=2).max() == 0, "no colour stands on the paper"


def test_watermark_lies_over_every_page_of_what_is_not_signed() -> None:
    long = paper(content=Content(findings="Dòng.\n" * 70, impression="x"))

    def grey(page: np.ndarray) -> int:
        return int(((page[:, :, 0] > 200) & (page[:, :, 0] < 240)).sum())

    for plain, marked in zip(
        pages_of(render(long)), pages_of(render(replace(long, watermark="BẢN NHÁP"))), strict=True
    ):
        assert grey(marked) > grey(plain) + 2000


def test_nothing_runs_over_the_edges() -> None:
    long = "W" * 400
    crowded = paper(
        facts=(("Nhãn rất dài không có dấu cách", long), (long[:40], "x"), ("", long)),
        title=long,
        notice=long,
        procedure=long,
        number=long[:60],
        continuation=long,
        content=Content(findings=long, impression=f"{long}\n\n\t{long}"),
        letterhead=Letterhead(hospital=long, address=long, owner=long),
    )

    for page in pages_of(render(crowded)):
        border = np.concatenate([page[:, :12].ravel(), page[:, -12:].ravel(), page[:8].ravel()])
        assert border.min() == 255


@pytest.mark.skipif(not programs.find("zbarimg"), reason="LEFT OUT: zbar is not installed")
def test_qr_code_leads_to_the_verify_page(tmp_path: Path) -> None:
    [page] = pages_of(render(paper()), 200)
    Image.fromarray(page).save(tmp_path / "page.png")

    command = [programs.need("zbarimg"), "--quiet", "--raw", str(tmp_path / "page.png")]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert found.strip() == "https://pacs.example.vn/verify/Zk3_9aBcDeFgHiJk"


def test_paper_in_english() -> None:
    read = words_of(render(paper(language="en")))

    for said in ("IMPRESSION", "page 1/1".replace("/", " of "), "Report A1002345", "Addendum"):
        assert said in read


@pytest.mark.parametrize("broken", [b"", b"x" * 100], ids=["empty", "none"])
def test_picture_that_is_none_is_refused(broken: bytes) -> None:
    with pytest.raises(Malformed):
        render(paper(pictures=(Picture(broken),)))
