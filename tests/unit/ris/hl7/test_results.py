import base64
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ris.hl7 import building, message, results
from ris.hl7.destinations import Style, style_of
from ris.hl7.results import ResultNews
from ris.reports.criticals import Level
from ris.reports.model import Content, Measurement, Practitioner, Subject, Version
from ris.reports.states import NAMES, Action, Status
from tests.fixtures.hl7 import segment
from tests.unit.ris.hl7.test_building import ORDER, PATIENT, PROCEDURE, STEP, VIETNAM

SIGNED_AT = datetime(2026, 11, 23, 2, 34, 55, tzinfo=UTC)
READER = Practitioner("BS01", "Lê Đọc", "BS.", "000123/BTH-CCHN")
HEAD = Practitioner("BS02", "Đỗ Duyệt", "BS.CKII", "000456/BTH-CCHN", may_approve=True)
TEXT = Content(
    findings="Hai phế trường sáng đều.\nBóng tim không to.",
    impression="Chưa thấy bất thường.",
)
STUDY = "1.2.826.0.1.3680043.10.543.1"
HIS = Style(
    application="HIS",
    facility="BVDK",
    our_application="PACS",
    our_facility="BVDK",
    country="VNM",
    plain_names=True,
    person_id="licence",
    viewer_url="https://pacs.bvdk.example/v?acc={accession}&bn={patient}",
)


def version(status: Status = Status.FINAL, **values: Any) -> Version:
    given: dict[str, Any] = {
        "revision": 2,
        "version": 1,
        "status": status,
        "action": Action.APPROVE,
        "content": TEXT,
        "author": READER,
        "reader": READER,
        "authored_at": SIGNED_AT,
        "reason": "",
        "supersedes": None,
        "subject": Subject(),
        "images": {},
        "verify_code": "",
        "digest": "",
    }
    return Version(**{**given, **values})


NEWS = ResultNews(
    report_uid="r1",
    version=version(),
    language="vi",
    notice="",
    addenda=(),
    order=ORDER,
    patient=PATIENT,
    visit=None,
    procedures=[PROCEDURE],
    steps=[STEP],
    study_instance_uid=STUDY,
    started=datetime(2026, 11, 23, 8, 30),
    ended=datetime(2026, 11, 23, 8, 34, 10),
    station="XQ01",
    modality="DX",
    operators=["KTV^A"],
    pdf=b"%PDF-1.7",
)


def lines(news: ResultNews = NEWS, style: Style = HIS) -> list[str]:
    octets = results.result_message(news, style, VIETNAM, "C1")
    return octets.decode().rstrip("\r").split("\r")


def observations(news: ResultNews = NEWS, style: Style = HIS) -> list[list[str]]:
    """Return OBX-2, 3, 5 and 11 of each."""
    found = [line.split("|") for line in lines(news, style) if line.startswith("OBX")]
    return [[fields[number] for number in (2, 3, 5, 11)] for fields in found]


def test_report_as_a_his_expects_it() -> None:
    obx = {11: "F", 14: "20261123093455", 16: "000123/BTH-CCHN^^BS. Lê Đọc", 18: "XQ01"}

    assert lines() == [
        "MSH|^~\\&|PACS|BVDK|HIS|BVDK|20261123093455||ORU^R01|C1|P|2.4|||||VNM|UNICODE UTF-8",
        "PID|||0000123456^^^BVDK^PI~DN468^^^BHYT^HC||NGUYỄN MẪU VĂN JR||19800101|M",
        "ORC|RE|7781001|F-2026-000123||CM||||20261123093455",
        segment(
            "OBR",
            {
                1: "1",
                2: "7781001",
                3: "F-2026-000123",
                4: "18.0119.0028^Chụp Xquang ngực thẳng^DMDC",
                7: "20261123083000",
                8: "20261123083410",
                18: "7781001",
                19: "RP1",
                20: "SP1",
                22: "20261123093455",
                24: "DX",
                25: "F",
                32: "000123/BTH-CCHN&BS. Lê Đọc",
                34: "&KTV A",
            },
        ),
        segment(
            "OBX",
            obx
            | {
                1: "1",
                2: "TX",
                3: "MO_TA^Mô tả^L",
                5: "Hai phế trường sáng đều.~Bóng tim không to.",
            },
        ),
        segment(
            "OBX", obx | {1: "2", 2: "TX", 3: "KET_LUAN^Kết luận^L", 5: "Chưa thấy bất thường."}
        ),
        segment("OBX", obx | {1: "3", 2: "HD", 3: "113014^DICOM Study^DCM", 5: STUDY}),
        segment(
            "OBX",
            obx
            | {
                1: "4",
                2: "ED",
                3: "PDF^Phiếu kết quả^L",
                5: "PACS^application^pdf^Base64^JVBERi0xLjc=",
            },
        ),
        segment(
            "OBX",
            obx
            | {
                1: "5",
                2: "RP",
                3: "VIEWER^Link xem ảnh^L",
                5: "https://pacs.bvdk.example/v?acc=7781001\\T\\bn=0000123456",
            },
        ),
    ]


def test_reader_beside_who_signed() -> None:
    found = lines(replace(NEWS, version=version(author=HEAD)), replace(HIS, person_id="code"))[3]

    assert found.split("|")[32:34] == ["BS02&BS.CKII Đỗ Duyệt", "BS01&BS. Lê Đọc"]


@pytest.mark.parametrize("status", [one for one in Status if NAMES[one].result_status], ids=str)
def test_codes_are_those_of_the_state(status: Status) -> None:
    news = replace(NEWS, version=version(status))

    assert lines(news)[3].split("|")[25] == NAMES[status].result_status
    assert {one[3] for one in observations(news)} == {NAMES[status].observation_status}


@pytest.mark.parametrize(
    ("style", "kind", "value"),
    [
        ({}, "TX", "Một & hai~Ba | bốn"),
        ({"result_text": "FT"}, "FT", "Một & hai\nBa | bốn"),
    ],
    ids=["TX", "FT"],
)
def test_delimiters_in_a_text_come_back(style: dict[str, str], kind: str, value: str) -> None:
    content = Content(findings="Một & hai\nBa | bốn", impression="x")
    octets = results.result_message(
        replace(NEWS, version=version(content=content)), replace(HIS, **style), VIETNAM, "C1"
    )

    [first, *_] = [one for one in message.read(octets).segments if one.name == "OBX"]

    assert first.value(2) == kind
    assert "~".join(map(first.meant, first.repetitions(5))) == value


def test_html_in_base64_by_position() -> None:
    style = style_of(
        {
            "result_text": "HTML",
            "result_parts": "findings,impression,viewer,pdf_link",
            "result_codes": dict.fromkeys(
                ("findings", "impression", "viewer", "pdf_link"), "{modality}"
            ),
            "link_type": "TX",
            "study_in_obx4": True,
            "viewer_url": "https://pacs.example.vn/viewer?acc={accession}",
            "pdf_url": "https://pacs.example.vn/report/{report}.pdf",
        }
    )

    found = observations(style=style)

    assert [one[:2] for one in found] == [["TX", "DX"]] * 4
    assert base64.b64decode(found[0][2]).decode() == (
        "<p>Hai phế trường sáng đều.</p><p>Bóng tim không to.</p>"
    )
    assert found[3][2] == "https://pacs.example.vn/report/r1.pdf"
    assert all(line.split("|")[4] == STUDY for line in lines(style=style)[4:])


def test_everything_in_one_text_with_markers() -> None:
    [found] = observations(style=replace(HIS, result_parts=("text",)))

    assert found[2] == (
        "MO_TA: Hai phế trường sáng đều.~Bóng tim không to.~KET_LUAN: Chưa thấy bất thường."
    )


def test_nothing_that_was_signed_is_left_out() -> None:
    """A HIS that reads mô tả and kết luận only gets the rest in them."""
    content = replace(
        TEXT,
        technique="Không thuốc.",
        comparison="Phim 2025.",
        recommendation="Tái khám.",
        measurements=(Measurement("Nốt", "8", "mm"),),
    )
    news = replace(
        NEWS, version=version(content=content), addenda=["23/11/2026 10:00 BS. Lê Đọc: Thêm."]
    )

    [findings, impression] = observations(
        news, replace(HIS, result_parts=("findings", "impression"))
    )
    apart = observations(
        news, replace(HIS, result_parts=("findings", "impression", "recommendation", "addenda"))
    )

    assert findings[2].split("~") == [
        *("Kỹ thuật: Không thuốc.", "So sánh: Phim 2025."),
        *("Hai phế trường sáng đều.", "Bóng tim không to.", "Số đo: Nốt: 8 mm"),
    ]
    assert impression[2].split("~") == [
        *("Chưa thấy bất thường.", "Đề nghị: Tái khám."),
        "Bổ sung: 23/11/2026 10:00 BS. Lê Đọc: Thêm.",
    ]
    assert [one[2] for one in apart[1:]] == [
        *("Chưa thấy bất thường.", "Tái khám."),
        "23/11/2026 10:00 BS. Lê Đọc: Thêm.",
    ]


def test_correction_says_so_in_its_first_line() -> None:
    news = replace(NEWS, version=version(Status.CORRECTED), notice="ĐÍNH CHÍNH phiên bản 1")

    found = observations(news)

    assert found[0][2].startswith("ĐÍNH CHÍNH phiên bản 1~Hai phế trường")
    assert "ĐÍNH CHÍNH" not in found[1][2]


def test_preliminary_report_is_called_so() -> None:
    [first, *_] = observations(replace(NEWS, version=version(Status.PRELIMINARY)))

    assert first[2].startswith("KẾT QUẢ SƠ BỘ~")


@pytest.mark.parametrize("parts", [("findings", "impression", "study", "pdf"), ("pdf",)])
def test_retracted_report_tells_nothing_of_what_it_said(parts: tuple[str, ...]) -> None:
    news = replace(NEWS, version=version(Status.RETRACTED, reason="nhầm người"))

    found = observations(news, replace(HIS, result_parts=parts, withdrawn="D"))

    assert found
    assert {(kind, text, status) for kind, _, text, status in found} == {
        ("TX", "ĐÃ THU HỒI. Lý do: nhầm người", "D")
    }


@pytest.mark.parametrize(
    ("release", "text"),
    [("2.3.1", "TX"), ("2.4", "TX"), ("2.5.1", "FT"), ("2.6", "TX"), ("2.7", "FT")],
)
def test_standard_has_nothing_against_it(release: str, text: str) -> None:
    """But for values that are in no table of HL7 and are what is written there in practice."""
    style = replace(HIS, version=release, result_text=text, plain_names=False, country="")
    octets = results.result_message(NEWS, style, VIETNAM, "C1")

    found = building.faults(octets)

    assert [one for one in found if "not in table" not in one] == []


@pytest.mark.parametrize(
    ("level", "flag"), [(None, ""), (Level.YELLOW, "A"), (Level.ORANGE, "A"), (Level.RED, "AA")]
)
@pytest.mark.parametrize("parts", [("text", "pdf"), ("findings", "impression"), ("findings",)])
def test_critical_finding_is_marked_where_the_impression_stands(
    level: Level | None, flag: str, parts: tuple[str, ...]
) -> None:
    style = replace(HIS, result_parts=parts)

    told = [one.split("|") for one in lines(replace(NEWS, critical=level), style)]
    flags = [fields[8] for fields in told if fields[0] == "OBX"]

    marked = parts.index("impression") if "impression" in parts else 0
    assert flags == [flag if number == marked else "" for number in range(len(parts))]


def test_withdrawn_finding_is_not_marked() -> None:
    news = replace(NEWS, version=version(Status.RETRACTED), critical=Level.RED)

    told = [one.split("|") for one in lines(news) if one.startswith("OBX")]

    assert [fields[8] for fields in told] == [""] * len(told)
