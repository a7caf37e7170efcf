"""Reports made ready for paper, out of orders and studies on the real database."""

from dataclasses import replace
from typing import Any

from ris.reports import queries
from ris.reports.model import Report
from ris.reports.paper.composing import Press, Printing, compose
from ris.reports.paper.model import Letterhead, Paper
from ris.reports.states import Action
from storage.db.engine import transaction
from tests.fixtures.papers import AT, ZONE
from tests.fixtures.reports import HEAD, READER, STUDY, TEXT, Desk

PRESS = Press(
    letterhead=Letterhead(hospital="BỆNH VIỆN ĐA KHOA TỈNH"),
    zone=ZONE,
    root_url="https://pacs.example.vn",
)


def composed(desk: Desk, report: Report, revision: int = 0, **printing: Any) -> Paper:
    with transaction(desk.engine) as session:
        version = queries.version(session, report.uid, revision or report.revision)
        return compose(session, report, version, PRESS, Printing(made_at=AT, **printing))


def test_paper_of_an_order_says_who_was_examined_for_whom(desk: Desk) -> None:
    patient = desk.patient()
    first = desk.order(patient, "A100", study=STUDY)
    second = desk.order(patient, "A101", study=STUDY, meaning="Chụp CLVT xoang")
    report = desk.signed(order_ids=(first, second))

    paper = composed(desk, report, signature_note="đã ký")

    assert dict(paper.facts) == {
        "Họ và tên": "NGUYỄN VĂN AN",
        "Mã người bệnh": "BN1",
        "Tuổi": "66 tuổi (02/01/1960)",
        "Giới tính": "Nam",
        "Khoa/Phòng": "Khoa Cấp cứu",
        "BS chỉ định": "BS Phạm Thị Chỉ Định",
        "Số chỉ định": "A100, A101",
        "Thực hiện lúc": "07:30 01/03/2026",
    }
    assert paper.title == "Phiếu kết quả chụp cắt lớp vi tính"
    assert paper.procedure == "Chụp CLVT sọ não; Chụp CLVT xoang"
    assert paper.number == "A100, A101"
    assert paper.verify_url == f"https://pacs.example.vn/verify/{report.latest.verify_code}"
    assert (paper.status, paper.notice, paper.watermark) == ("", "", "")
    assert [(one.role, one.name, one.note) for one in paper.signatures] == [
        ("Bác sĩ đọc kết quả", "BS. Trần Thị Ỷ", ""),
        ("Bác sĩ duyệt kết quả", "BS.CKII Đỗ Văn Ường", "đã ký"),
    ]


def test_one_doctor_who_reads_and_approves_signs_once(desk: Desk) -> None:
    report = desk.act(Action.APPROVE, desk.open(HEAD), HEAD)

    assert [one.role for one in composed(desk, report).signatures] == ["Bác sĩ chuyên khoa"]


def test_paper_without_an_order_has_what_the_study_tells(desk: Desk) -> None:
    paper = composed(desk, desk.signed())

    assert [label for label, _ in paper.facts] == [
        "Họ và tên",
        "Mã người bệnh",
        "Tuổi",
        "Thực hiện lúc",
    ]
    assert len(paper.number) == 12


def test_each_version_has_its_own_paper(desk: Desk) -> None:
    report = desk.open()
    report = desk.act(Action.RELEASE, report, READER)
    report = desk.act(Action.APPROVE, report, HEAD)
    report = desk.act(Action.UNAPPROVE, report, HEAD, reason="Nhầm bên")
    text = replace(TEXT, findings="Bên trái.")
    report = desk.act(Action.CORRECT, report, HEAD, reason="Nhầm bên", content=text)
    report = desk.act(Action.ADDEND, report, HEAD, addendum="Đã hội chẩn.")

    papers = [composed(desk, report, revision) for revision in range(1, 7)]

    assert [(one.version, one.status, one.watermark) for one in papers] == [
        (0, "nháp", "BẢN NHÁP"),
        (1, "sơ bộ", "KẾT QUẢ SƠ BỘ"),
        (2, "", "CHƯA KÝ SỐ"),
        (3, "huỷ duyệt, chờ đính chính", "ĐANG ĐÍNH CHÍNH"),
        (4, "đính chính", "CHƯA KÝ SỐ"),
        (5, "bổ sung", "CHƯA KÝ SỐ"),
    ]
    assert [one.notice.partition(" ngày")[0].partition(" lúc")[0] for one in papers] == [
        "",
        "",
        "",
        "Phiên bản 2 đã bị huỷ duyệt",
        "ĐÍNH CHÍNH phiên bản 2",
        "BỔ SUNG cho phiên bản 4",
    ]
    assert papers[4].notice.endswith("Lý do: Nhầm bên")
    assert [bool(one.signatures) for one in papers] == [False, False, True, False, True, True]
    assert papers[2].content.findings == TEXT.findings
    assert papers[4].content.findings == "Bên trái."
