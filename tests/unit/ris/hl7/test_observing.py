import base64
import json
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ris.hl7 import message, observing, profile
from ris.hl7.ack import MissingValue, NoSequence, UnknownValue
from ris.requests import ResultRequest

VIETNAM = ZoneInfo("Asia/Ho_Chi_Minh")
SHARED = Path(__file__).resolve().parents[5] / "shared" / "data" / "hl7"
PDF = b"%PDF-1.7\nx"
INLINE = f"PACS^application^pdf^Base64^{base64.b64encode(PDF).decode()}"


def octets(*observations: str, obr: str = "F", number: str = "7781001") -> bytes:
    """Return an ORU of one order; each observation is OBX-2 to 5 and 11."""
    lines = [
        "MSH|^~\\&|RIS|CDHA|PACS|BV|20260310093000||ORU^R01|1|P|2.4|||||VNM|UNICODE UTF-8",
        "PID|||0000123456^^^BV||LÊ VĂN BÉ",
        f"ORC|RE|{number}",
        f"OBR|1|{number}||XQ^Ngực|||20260310090000" + "|" * 15 + f"20260310093000||DX|{obr}"
        "|||||||bs02&BS. Đọc",
    ]
    for index, one in enumerate(observations, start=1):
        kind, code, value, status = one.split("|")
        lines.append(f"OBX|{index}|{kind}|{code}||{value}||||||{status}|||20260310093100")
    return "\r".join((*lines, "")).encode()


def read(raw: bytes) -> list[ResultRequest]:
    return observing.results(message.read(raw), profile.named("generic"), VIETNAM)[0]


def only(*observations: str, obr: str = "F") -> ResultRequest:
    [found] = read(octets(*observations, obr=obr))
    return found


def test_sections_by_their_codes() -> None:
    found = only(
        "TX|MO_TA^Mô tả|Dòng một~Dòng hai|F",
        "FT|59776-5&IMP|Kết \\T\\ luận|F",
        "TX|DE_NGHI|Tái khám|F",
    )

    assert (found.findings, found.impression, found.recommendation) == (
        *("Dòng một\nDòng hai", "Kết & luận", "Tái khám"),
    )
    assert (found.author_id, found.author_name) == ("bs02", "BS. Đọc")
    assert (found.status, found.withdrawn) == ("F", False)
    assert found.reported_at is not None
    assert f"{found.reported_at:%Y%m%d%H%M}" == "202603100930"


def test_sections_by_words_in_the_text() -> None:
    found = only("TX|XQ|MO_TA: Tim không to.~KET_LUAN: Bình thường.|F")

    assert (found.findings, found.impression) == ("Tim không to.", "Bình thường.")


def test_text_of_which_nothing_is_said_is_findings() -> None:
    found = only("TX|XQ|Tim không to.|F", "TX|XQ|Phổi sáng.|F")

    assert (found.findings, found.impression) == ("Tim không to.\nPhổi sáng.", "")


@pytest.mark.parametrize(
    ("obr", "statuses", "expected"),
    [
        ("C", ("W",), ("C", True)),
        ("C", ("D", "D"), ("C", True)),
        ("C", ("D", "C"), ("C", False)),
        ("", ("F", "P"), ("P", False)),
        ("", ("F",), ("F", False)),
        ("", ("",), ("P", False)),
    ],
)
def test_state_of_a_result(obr: str, statuses: tuple[str, ...], expected: tuple[str, bool]) -> None:
    found = only(*(f"TX|MO_TA|text {number}|{one}" for number, one in enumerate(statuses)), obr=obr)

    assert (found.status, found.withdrawn) == expected


def test_line_that_is_deleted_is_left_out() -> None:
    found = only("TX|MO_TA|wrong|D", "TX|MO_TA|right|C", obr="C")

    assert found.findings == "right"


@pytest.mark.parametrize(
    "value",
    [
        INLINE,
        INLINE.replace("application^pdf", "^TEXT"),
        f"X^IM^PDF^Base64^{base64.b64encode(PDF).decode()[:8]}\\X0D\\{base64.b64encode(PDF).decode()[8:]}",
    ],
    ids=["as it should be", "of another name", "with breaks"],
)
def test_paper_is_what_is_a_pdf(value: str) -> None:
    raw = octets("TX|KET_LUAN|x|F", f"ED|PDF|{value}|F")

    [found] = read(raw)

    assert observing.paper_in(raw, 0) == PDF
    assert len(found.paper_sha256) == 64
    assert observing.paper_in(raw, 1) is None


def test_attachment_that_is_no_pdf_is_no_paper() -> None:
    data = base64.b64encode(b"{\\rtf1}").decode()

    found = only("TX|KET_LUAN|x|F", f"ED|PDF|PACS^application^pdf^Base64^{data}|F")

    assert found.paper_sha256 == ""


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (octets(), MissingValue),
        (octets("TX|MO_TA||F"), MissingValue),
        (octets("TX|MO_TA|x|F", obr="?"), UnknownValue),
        (octets("TX|MO_TA|x|F", number=""), MissingValue),
        (octets("TX|MO_TA|x|F").split(b"ORC")[0], NoSequence),
    ],
    ids=["no text", "empty text", "unknown state", "no number", "no result"],
)
def test_what_cannot_be_a_report_is_named(raw: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read(raw)


def shared(name: str) -> bytes:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"the shared HL7 set has no {name}")
    return path.read_bytes()


def test_four_positions_of_html_in_base64() -> None:
    [found] = read(shared("vietnam-synthetic/04_ORU-R01_base64-html-in-TX_charset-UTF-8.hl7"))

    assert found.placer_order_number == "311371289"
    assert found.findings == "Khớp gối phải: không có dịch. Sụn khớp đều."
    assert found.impression == "Chưa thấy bất thường trên siêu âm."
    assert (found.author_id, found.author_name) == ("bs02", "BS. Vũ Đọc")


def test_report_in_an_envelope_of_json() -> None:
    content = json.loads(shared("vietnam-synthetic/23_HISPRO_api_envelope_ORU.json"))["message"]

    [found] = read(content.encode())

    assert (found.placer_order_number, found.status) == ("7781001", "F")
    assert found.findings == "Hình ảnh tim phổi bình thường"
    assert (found.author_id, found.author_name) == ("bs02", "BS Đọc")


@pytest.mark.parametrize(
    "name",
    [
        "LinuxForHealth+hl7v2-fhir-converter/ORU-multiline-short.hl7",
        "LinuxForHealth+hl7v2-fhir-converter/ORU-multiline-short-mixed.hl7",
        "johnpaulett+python-hl7/sample_hl7.hl7",
    ],
)
def test_results_of_others_are_read(name: str) -> None:
    """Also laboratories': what is no report of ours is found out by its order."""
    try:
        found = read(shared(name))
    except MissingValue:
        found = []

    assert all(one.placer_order_number or one.filler_order_number for one in found)
