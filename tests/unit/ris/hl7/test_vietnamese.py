import unicodedata

import pytest

from ris.hl7 import vietnamese

NAMES = [
    "Nguyễn Thị Điểm",
    "NGUYỄN THỊ ĐIỂM",
    "Trần Đức Phương",
    "LÊ VĂN BÉ",
    "Phạm Quỳnh Hường",
    "BỆNH NHÂN VÔ DANH",
]
TONES = "\u0301\u0300\u0309\u0303\u0323"


def in_windows_1258(text: str) -> bytes:
    octets = b""
    for letter in text:
        parts = unicodedata.normalize("NFD", letter)
        base = unicodedata.normalize("NFC", "".join(one for one in parts if one not in TONES))
        octets += (base + "".join(one for one in parts if one in TONES)).encode("cp1258")
    return octets


def written(text: str, encoding: str) -> bytes:
    """Return `text` in an encoding, by going through its reading table backwards."""
    if encoding == "windows-1258":
        return in_windows_1258(text)
    if encoding == "VNI":
        wire = {letter: pair for pair, letter in vietnamese.VNI_TABLE.items()}
        return "".join(wire.get(one, one) for one in text).encode("cp1252")
    table = vietnamese.TCVN3_TABLE if encoding == "TCVN3" else vietnamese.VISCII_TABLE
    code = {letter: octet for octet, letter in table.items()}
    codes = [code.get(one, code.get(one.lower(), ord(one) & 0x7F)) for one in text]
    return bytes(codes)


@pytest.mark.parametrize("encoding", vietnamese.CODECS)
@pytest.mark.parametrize("name", NAMES)
def test_encoding_of_a_name_is_found_and_read(name: str, encoding: str) -> None:
    octets = written(name, encoding)

    found = vietnamese.CODECS[vietnamese.guess(octets)](octets)

    if encoding == "TCVN3":  # capitals stand in another font: the case is unsure
        assert found.casefold() == name.casefold()
    else:
        assert found == name


@pytest.mark.parametrize("text", ["Müller Jörg", "Besançon né à Genève", "plain"])
def test_western_text_is_not_taken_for_vietnamese(text: str) -> None:
    assert vietnamese.guess(text.encode("cp1252")) == ""


@pytest.mark.parametrize(
    "letters", ["ề ỏ ọ ờ ố Đ Á Í Ý", "Nguyễn Thị Ỷ Đỗ ƯỜNG Ẵ Ộ"], ids=["hard ones", "test text"]
)
def test_double_encoding_is_undone(letters: str) -> None:
    damaged = vietnamese.cp1252(letters.encode())

    assert vietnamese.repaired(damaged) == letters


def test_byte_that_the_sender_lost_is_found_where_only_one_letter_fits() -> None:
    assert vietnamese.repaired("Ä\ufffdIá»‚M") == "ĐIỂM"


@pytest.mark.parametrize(
    "text", [*NAMES, "NGÃ", "Ä", "Äpfel", "ÃO DÃ", "NGUY?N", "á»", "Ä\ufffd\ufffd"]
)
def test_text_that_is_not_double_encoded_stays(text: str) -> None:
    assert vietnamese.repaired(text) == text


@pytest.mark.parametrize("octets", [bytes(range(256)), b"", b"\xff\xfe\x00"])
@pytest.mark.parametrize("encoding", vietnamese.CODECS)
def test_any_bytes_are_read(octets: bytes, encoding: str) -> None:
    assert isinstance(vietnamese.CODECS[encoding](octets), str)
    assert len(vietnamese.cp1252(octets)) == len(octets)
