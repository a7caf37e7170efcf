from datetime import datetime
from zoneinfo import ZoneInfo

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ris.hl7 import ack, message
from ris.hl7.ack import Code, Fault, OrderAnswer
from ris.model import Cycle
from storage.base.errors import (
    Conflict,
    ImagingError,
    Malformed,
    NotFound,
    NotSupported,
    StoreUnavailable,
)

NOW = datetime(2026, 11, 23, 8, 30, 0, 123000, ZoneInfo("Asia/Ho_Chi_Minh"))
FAULT = Fault(Code.ERROR, "101", "PID-3.1 is required")


def head(version: str = "2.5.1", trigger: str = "ORM^O01^ORM_O01", country: str = "") -> bytes:
    return (
        f"MSH|^~\\&|HIS|BVDK|PACS|KHOA|20260101||{trigger}|MSG-7|P|{version}|||||{country}|"
        "UNICODE UTF-8\r"
    ).encode()


def built(octets: bytes, code: Code = Code.ACCEPT, fault: Fault | None = None) -> list[str]:
    return ack.build(message.read(octets), code, NOW, fault).decode().rstrip("\r").split("\r")


def test_answer_goes_back_to_the_sender_in_its_words() -> None:
    msh, msa = built(head())

    fields = msh.split("|")
    assert fields[2:6] == ["PACS", "KHOA", "HIS", "BVDK"]
    assert fields[6] == "20261123083000.123+0700"
    assert fields[8] == "ACK^O01^ACK"
    assert fields[10:12] == ["P", "2.5.1"]
    assert fields[17] == "UNICODE UTF-8"
    assert msa == "MSA|AA|MSG-7"


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("2.2", "ACK"),
        ("2.3", "ACK"),
        ("2.3.1", "ACK^O01"),
        ("2.4", "ACK^O01"),
        ("2.7", "ACK^O01^ACK"),
    ],
)
def test_type_is_written_as_the_version_has_it(version: str, kind: str) -> None:
    assert built(head(version))[0].split("|")[8] == kind


def test_version_that_is_none_or_odd_gets_an_answer() -> None:
    for version in ("", "2.5^FRA^2.10", "9.9", "x"):
        msh, msa = built(head(version))
        assert msh.split("|")[11] == (version or "2.3.1")
        assert msa == "MSA|AA|MSG-7"


def test_error_stands_where_the_version_wants_it() -> None:
    assert built(head("2.5.1"), Code.ERROR, FAULT)[1:] == [
        "MSA|AE|MSG-7",
        "ERR||PID^1^3^1|101^Required field missing^HL70357|E|||PID-3.1 is required",
    ]
    assert built(head("2.3.1"), Code.ERROR, FAULT)[1:] == [
        "MSA|AE|MSG-7|PID-3.1 is required",
        "ERR|PID^1^3^101",
    ]


def test_vietnamese_sender_is_told_in_vietnamese() -> None:
    assert built(head(country="VNM"), Code.ERROR, FAULT)[2].endswith(
        "||Thiếu trường bắt buộc (PID-3.1)"
    )


def test_control_id_comes_back_byte_by_byte() -> None:
    octets = head().replace(b"MSG-7", b"\xff \\x& 7")

    assert b"MSA|AA|\xff \\x& 7\r" in ack.build(message.read(octets), Code.ACCEPT, NOW)
    assert built(head().replace(b"MSG-7", b""))[1] == "MSA|AA|"


def test_answer_uses_the_senders_delimiters() -> None:
    octets = b"MSH!@%$*!HIS!BV!!!20260101!!ORM@O01!7!P!2.5.1\r"

    msh, msa, err = built(octets, Code.ERROR, FAULT)

    assert msh.startswith("MSH!@%$*!")
    assert msh.split("!")[8] == "ACK@O01@ACK"
    assert msa == "MSA!AE!7"
    assert err.startswith("ERR!!PID@1@3@1!101@Required field missing@HL70357!E")


def test_orders_are_named_where_the_sender_wants_it() -> None:
    octets = ack.build(
        message.read(head()), Code.ACCEPT, NOW, orders=[OrderAnswer("OK", "7|1", "F7")]
    )

    assert b"|ORR^O02^ORR_O02|" in octets
    assert b"\rORC|OK|7\\F\\1|F7\r" in octets


@pytest.mark.parametrize(
    ("error", "code", "number"),
    [
        (ack.NoSequence("x"), "AE", "100"),
        (ack.MissingValue("x"), "AE", "101"),
        (Malformed("x"), "AE", "102"),
        (ack.UnknownValue("x"), "AE", "103"),
        (NotSupported("x"), "AR", "200"),
        (ack.UnsupportedEvent("x"), "AR", "201"),
        (ack.TrialMessage("x"), "AR", "202"),
        (NotFound("x"), "AE", "204"),
        (Conflict("x"), "AE", "205"),
        (Cycle("x"), "AE", "207"),
        (StoreUnavailable("x"), "AR", "207"),
        (message.NoMessage("x"), "AR", "100"),
    ],
    ids=lambda given: type(given).__name__ if isinstance(given, Exception) else None,
)
def test_each_error_has_its_code(error: Exception, code: str, number: str) -> None:
    assert isinstance(error, ImagingError)
    fault = ack.fault_of(error)

    assert (fault.code, fault.error) == (code, number)


@pytest.mark.parametrize(
    ("octets", "control_id"),
    [
        (b"", b""),
        (b"\x00\xff", b""),
        (b"MSH|^~\\&|a|b|c|d|e|f|ORM|77|P", b"77"),
        (b"\xef\xbb\xbfMSH|^~\\&|||||||ORM|\xff7\rPID", b"\xff7"),
        (b"GET / HTTP/1.1\r\n", b""),
    ],
    ids=["nothing", "noise", "cut header", "odd bytes", "http"],
)
def test_blind_answer_names_what_can_be_seen(octets: bytes, control_id: bytes) -> None:
    answer = ack.build_blind(octets, NOW, Fault(Code.REJECT, "100", ""))

    assert b"\rMSA|AR|" + control_id + b"\r" in answer
    assert ack.code_in(answer) == "AR"


@pytest.mark.parametrize("version", ["2.3", "2.3.1", "2.5.1"])
def test_answer_is_named_as_a_message_of_ours(version: str) -> None:
    octets = ack.build(message.read(head(version)), Code.ACCEPT, NOW)
    read = message.read(octets)

    kind = "^".join(filter(None, (read.code, read.trigger)))
    assert ack.named_in(octets) == (kind, read.control_id)
    assert len(read.control_id) == 20


def test_answer_in_other_bytes_has_no_name() -> None:
    assert ack.named_in("MSH|^~".encode("utf-16")) == ("ACK", "")
    assert ack.named_in(b"") == ("ACK", "")


def test_answers_to_a_batch_are_a_batch() -> None:
    answers = [ack.build(message.read(head()), Code.ACCEPT, NOW)] * 2

    as_batch = ack.build_batch(answers, b"BHS|^~\\&", NOW).split(b"\r")
    as_file = ack.build_batch(answers, b"\r\nFHS|^~\\&", NOW).split(b"\r")

    assert [one[:3] for one in as_batch] == [*(b"BHS MSH MSA MSH MSA BTS".split()), b""]
    assert [one[:3] for one in as_file] == [*(b"FHS BHS MSH MSA MSH MSA BTS FTS".split()), b""]
    assert as_batch[-2] == b"BTS|2"


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)


@given(TEXT, st.sampled_from(["2.3.1", "2.5.1", "2.7"]))
def test_no_text_of_ours_can_make_a_segment(text: str, version: str) -> None:
    fault = Fault(Code.ERROR, "102", text)

    lines = built(head(version), Code.ERROR, fault)

    assert [line[:3] for line in lines] == ["MSH", "MSA", "ERR"]
    assert len(hl7.parse("\r".join(lines))) == 3
