import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ris.hl7 import message
from ris.hl7.message import NoMessage, Position
from storage.base.errors import ImagingError, Malformed

HEAD = "MSH|^~\\&|HIS|BV|RIS|BV|20260101080000||ORM^O01|7|P|2.3.1"
PID = "PID|||1^^^BV^PI~2^^^BHYT||NGUYỄN^THỊ&x||19800101|F"


@pytest.mark.parametrize(
    ("separator", "reason"),
    [("\r", "CR"), ("\n", "LF"), ("\r\n", "CRLF"), ("\r\n\r\n", "blank lines"), ("\\r\\n", "text")],
    ids=lambda given: given.strip() or None,
)
def test_segments_end_with_anything(separator: str, reason: str) -> None:
    text = separator.join([HEAD, PID, "ORC|NW|1", ""])

    found = message.read(text.encode())

    assert [segment.name for segment in found.segments] == ["MSH", "PID", "ORC"], reason
    assert found.value("PID-3.1") == "1"


def test_line_that_is_no_segment_belongs_to_the_field_before() -> None:
    found = message.read(f"{HEAD}\rOBX|1|ED|||^^^Base64^JVBERi\nA0KAB|12\rCD==\rOBX|2".encode())

    assert [segment.name for segment in found.segments] == ["MSH", "OBX", "OBX"]
    assert found.segments[1].raw(5, 5) == "JVBERi\nA0KAB"


@pytest.mark.parametrize("before", ["", "\ufeff", "\r\n", "  ", "\0"])
def test_what_stands_before_the_header_is_passed_over(before: str) -> None:
    assert message.read((before + HEAD).encode()).control_id == "7"


def test_values_are_read_by_position() -> None:
    found = message.read(f"{HEAD}\r{PID}".encode())
    patient = found.first("PID")

    assert patient is not None
    assert patient.repetitions(3) == ["1^^^BV^PI", "2^^^BHYT"]
    assert found.value("PID-5") == "NGUYỄN^THỊ&x"
    assert found.value("PID-5.2.2") == "x"
    assert found.value("PID-99.1") == found.value("ZXX-1") == ""
    assert (found.code, found.trigger, found.version) == ("ORM", "O01", "2.3.1")
    assert found.header.value(1) == "|"
    assert found.header.fields[2] == "^~\\&"


def test_control_id_is_kept_byte_by_byte() -> None:
    octets = b"MSH|^~\\&|||||||ACK| \xff id |P"

    assert message.read(octets).control_id_octets == b" \xff id "


@pytest.mark.parametrize(
    "octets", [b"", b"PID|1", b"\x00\xff", b"MSH", b"MSHA", b"MSH\xc2\x81", b"MSH\x01A"]
)
def test_what_has_no_header_is_no_message(octets: bytes) -> None:
    with pytest.raises(NoMessage):
        message.read(octets)


def test_utf_16_with_its_mark_is_read() -> None:
    found = message.read(f"{HEAD}\r{PID}".encode("utf-16"))

    assert found.value("PID-5.1") == "NGUYỄN"


def test_too_many_segments_are_refused() -> None:
    octets = "\r".join([HEAD, *["NTE|1||x"] * message.MAX_SEGMENTS]).encode()

    with pytest.raises(Malformed, match="segments"):
        message.read(octets)


def test_too_many_repetitions_are_refused() -> None:
    found = message.read(f"{HEAD}\rPID|||{'1~' * 600}".encode())

    with pytest.raises(Malformed, match="PID-3: more than 500"):
        found.value("PID-3.1")


def test_field_that_is_too_long_is_refused_and_an_attachment_is_not() -> None:
    found = message.read(f"{HEAD}\rPID|||{'1' * 70_000}\rOBX|1|ED|||^^^^{'A' * 5_000_000}".encode())

    assert len(found.segments[2].raw(5, 5)) == 5_000_000
    with pytest.raises(Malformed, match="PID-3"):
        found.value("PID-3.1")


def test_free_text_keeps_its_delimiters() -> None:
    found = message.read(f"{HEAD}\rOBX|1|TX|||tim & phổi ^ thẳng~dòng hai".encode())

    assert found.segments[1].text(5) == "tim & phổi ^ thẳng\ndòng hai"


def test_batch_is_cut_into_its_messages() -> None:
    batch = f"FHS|^~\\&\rBHS|^~\\&\r{HEAD}\r{PID}\r{HEAD}\r{PID}\rBTS|2\rFTS|1\r".encode()

    parts = message.split_batch(batch)

    assert [message.read(part).segments[-1].name for part in parts] == ["PID", "PID"]
    assert message.split_batch(HEAD.encode()) == [HEAD.encode()]
    assert message.split_batch(b"FHS|^~\\&\rBHS|\r") == []


@pytest.mark.parametrize("path", ["PID", "PID-", "pid-3", "PID-3.x", "", "PID-3.1.2.3"])
def test_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(Malformed):
        Position.of(path)


@given(st.binary(max_size=400))
def test_any_bytes_give_a_message_or_an_error_of_ours(octets: bytes) -> None:
    try:
        found = message.read(b"MSH|^~\\&|" + octets)
        for segment in found.segments:
            for number in range(len(segment.fields)):
                segment.value(number, 2, 1)
    except ImagingError:
        pass


FIELD = st.text("AB^&~ Ễ1.", max_size=12)


@given(st.lists(st.lists(FIELD, min_size=1, max_size=6), min_size=1, max_size=5))
def test_ordinary_messages_read_as_another_library_reads_them(rows: list[list[str]]) -> None:
    lines = [HEAD, *("|".join(["ZZ1", *row]) for row in rows)]
    text = "\r".join(lines)

    ours = message.read(text.encode())
    theirs = hl7.parse(text + "\r")

    for mine, other in zip(ours.all("ZZ1"), theirs.segments("ZZ1"), strict=True):
        for number in range(1, len(mine.fields)):
            assert mine.fields[number] == str(other[number])
            for at, repetition in enumerate(mine.repetitions(number)):
                assert mine.part(repetition, 1) == _component(other, number, at)


def _component(segment: hl7.Segment, number: int, at: int) -> str:
    repetition = segment[number][at]
    return str(repetition if isinstance(repetition, str) else repetition[0])
