import random

import pytest
from pydicom.charset import convert_encodings, encode_string

from pacs import charsets

VIETNAMESE = "Nguyễn Thị Ỷ Đỗ ƯỜNG Ẵ Ộ"


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        ("ISO_IR 100", "Müller^Jérôme"),
        ("ISO_IR 101", "Wałęsa"),
        ("ISO_IR 109", "Ĝis"),
        ("ISO_IR 110", "Ķēniņš"),
        ("ISO_IR 126", "Διονυσιος"),
        ("ISO_IR 127", "قباني^لنزار"),
        ("ISO_IR 138", "שרון^דבורה"),
        ("ISO_IR 144", "Люкceмбypг"),
        ("ISO_IR 144", "ТАТА"),  # its bytes are valid UTF-8 by chance
        ("ISO_IR 148", "Çavuşoğlu"),
        ("ISO_IR 166", "นามสกุล"),
        ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
        ("ISO_IR 13", "ﾄｳ"),  # its bytes are valid UTF-8 by chance
        ("ISO_IR 192", VIETNAMESE),
        ("GB18030", "王^小东"),
        ("GBK", "王^小东"),
        ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO 2022 IR 13\\ISO 2022 IR 87", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎"),
        ("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동"),
        ("ISO 2022 IR 100\\ISO 2022 IR 144", "Äneas^Люк"),
    ],
)
def test_every_declared_character_set_reads_as_pydicom_wrote_it(declared, text):
    encodings = convert_encodings(declared.split("\\"))
    value = b"=".join(
        b"^".join(encode_string(part, encodings) for part in group.split("^"))
        for group in text.split("=")
    )

    read, warning = charsets.decode(value, declared, "PN")

    assert read == text
    assert warning == ""


def test_simplified_chinese_with_escapes_reads_as_in_the_standard():
    """PS3.5 Annex K.2."""
    value = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab="

    assert charsets.decode(value, "\\ISO 2022 IR 58", "PN") == ("Zhang^XiaoDong=张^小东=", "")


@pytest.mark.parametrize("declared", ["", "ISO_IR 6", "ISO_IR 100", "ISO 2022 IR 100"])
def test_utf_8_is_read_as_such_where_latin_1_is_declared(declared):
    read, warning = charsets.decode(VIETNAMESE.encode(), declared)

    assert read == VIETNAMESE
    assert "UTF-8" in warning


def test_utf_8_is_read_where_the_declared_set_cannot_be_right():
    read, warning = charsets.decode("Ngọc Ẵ".encode(), "ISO_IR 166")

    assert read == "Ngọc Ẵ"
    assert "UTF-8" in warning


@pytest.mark.parametrize(
    ("declared", "text"), [("ISO_IR 192", "Jérôme"), ("", "Jérôme"), ("ISO_IR 166", "ÿÿ")]
)
def test_latin_1_bytes_are_read_where_they_contradict_the_declared_set(declared, text):
    read, warning = charsets.decode(text.encode("latin-1"), declared)

    assert read == text
    assert warning


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [
        ("ISO IR 192", "ISO_IR 192"),
        ("ISO-IR 144", "ISO_IR 144"),
        ("iso_ir 100", "ISO_IR 100"),
        ("ISO 2022-IR 87", "ISO 2022 IR 87"),
        ("ISO_2022 IR 149", "ISO 2022 IR 149"),
        ("ISO_IR 192 ", "ISO_IR 192"),
    ],
)
def test_usual_misspellings_of_a_character_set_are_understood(spelled, meant):
    assert charsets.encodings(spelled) == charsets.encodings(meant)


@pytest.mark.parametrize(
    "declared", ["WINDOWS-1258", "ISO_IR 999\\ISO 2022 IR 87", "\0\0", "rot13"]
)
def test_an_unknown_character_set_is_a_warning_and_never_an_error(declared):
    text, warning = charsets.decode("Müller".encode("latin-1"), declared)

    assert text == "Müller"
    assert warning


def test_windows_1252_is_read_where_latin_1_has_only_control_codes():
    text, warning = charsets.decode(b"\x93quoted\x94 \xe9", "ISO_IR 100")

    assert text == "“quoted” é"
    assert warning


def test_no_bytes_and_no_declaration_ever_raise():
    chance = random.Random(20260301)
    declared = ["", "ISO_IR 192", "ISO_IR 100", "GB18030", "\\ISO 2022 IR 87", "ISO_IR 13", "x\\y"]
    escapes = [
        b"\x1b$B",
        b"\x1b(B",
        b"\x1b$)C",
        b"\x1b$)A",
        b"\x1b-F",
        b"\x1b$(D",
        b"\x1b",
        b"^",
        b"=",
    ]

    for _ in range(3000):
        pieces = [
            chance.choice(escapes)
            if chance.random() < 0.4
            else chance.randbytes(chance.randrange(6))
            for _ in range(chance.randrange(1, 8))
        ]
        text, _ = charsets.decode(b"".join(pieces), chance.choice(declared), "PN")

        assert isinstance(charsets.nfc(text), str)
        assert "\0" not in charsets.nfc(text)
        charsets.nfc(text).encode("utf-8")


def test_decomposed_text_becomes_nfc():
    assert charsets.nfc("Nguye\u0302\u0303n") == "Nguyễn"
