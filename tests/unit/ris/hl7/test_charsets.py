import codecs

import pytest

from ris.hl7 import charsets

NAME = "PHẠM VĂN THỬ"


@pytest.mark.parametrize(
    ("octets", "declared", "usual", "charset", "guessed"),
    [
        (NAME.encode(), "UNICODE UTF-8", "", "utf-8", False),
        (NAME.encode(), "utf-8", "", "utf-8", False),
        (NAME.encode(), "65001", "", "utf-8", False),
        (NAME.encode(), "", "", "utf-8", True),
        (NAME.encode(), "ASCII", "", "utf-8", True),
        (NAME.encode(), "ASCII~UNICODE UTF-8", "", "utf-8", False),
        (NAME.encode(), "8859/1", "", "utf-8", True),
        (NAME.encode(), "no such set", "", "utf-8", True),
        (codecs.BOM_UTF8 + NAME.encode(), "8859/1", "", "utf-8", False),
        (NAME.encode("utf-16"), "UNICODE UTF-16", "", "utf-16", False),
        (NAME.encode("gb18030"), "GB 18030-2000", "", "gb18030", False),
    ],
)
def test_charset_is_found(
    octets: bytes, declared: str, usual: str, charset: str, *, guessed: bool
) -> None:
    found = charsets.decode(octets, declared, usual)

    assert found == charsets.Decoded(NAME, charset, guessed)


@pytest.mark.parametrize(
    ("declared", "codec", "text"),
    [
        ("8859/1", "cp1252", "Müller – 5 €"),
        ("8859/2", "iso8859-2", "Dvořák"),
        ("8859/5", "iso8859-5", "Иванов"),
        ("8859/15", "iso8859-15", "5 €"),
        ("KS X 1001", "euc_kr", "홍길동"),
        ("BIG-5", "big5", "王小明"),
        ("ISO IR87", "iso2022_jp", "山田"),
    ],
)
def test_each_declared_set_is_read(declared: str, codec: str, text: str) -> None:
    assert charsets.decode(text.encode(codec), declared).text == text


def test_decomposed_text_becomes_composed() -> None:
    assert charsets.decode("Ê\u0303".encode(), "UNICODE UTF-8").text == "Ễ"


def test_usual_set_of_the_sender_comes_before_guessing() -> None:
    octets = "Dvořák".encode("iso8859-2")

    assert charsets.decode(octets, "", "8859/2").text == "Dvořák"


def test_last_resort_drops_no_byte() -> None:
    octets = bytes(range(0x80, 0x100))

    found = charsets.decode(octets, "")

    assert len(found.text) == 128
    assert found.guessed


def test_declaration_that_is_not_true_is_not_believed() -> None:
    found = charsets.decode("Müller".encode("cp1252"), "UNICODE UTF-8")

    assert found == charsets.Decoded("Müller", "cp1252", guessed=True)


@pytest.mark.parametrize(
    "charset", ["utf-8", "ascii", "cp1252", "TCVN3", "windows-1258", "nonsense"]
)
def test_text_of_ours_can_be_written_in_every_set(charset: str) -> None:
    octets = charsets.encode("Thiếu mã ĐỐI", charset)

    assert octets == ("Thiếu mã ĐỐI".encode() if charset == "utf-8" else b"Thieu ma DOI")
