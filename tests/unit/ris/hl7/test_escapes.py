import pytest
from hypothesis import given
from hypothesis import strategies as st

from ris.hl7.delimiters import STANDARD, Delimiters
from ris.hl7.escapes import escape, unescape


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("plain", "plain"),
        (r"\F\ \S\ \T\ \R\ \E" + "\\", "| ^ & ~ \\"),
        (r"one\.br\two", "one\ntwo"),
        (r"a\.sp3\b", "a\n\n\nb"),
        (r"\H\bold\N\ and \.in+4\on", "bold and on"),
        (r"\XC490\IỂM", "ĐIỂM"),
        (r"\XC4\\X90\IỂM", "ĐIỂM"),
        (r"\X0D\x", "\rx"),
        (r"C:\Users\bs01", r"C:\Users\bs01"),
        (r"cut \T", r"cut \T"),
        ("lone \\ one", "lone \\ one"),
        (r"\Unknown\ stays", r"\Unknown\ stays"),
        (r"path\\F\x", "path\\|x"),
        (r"\C2842\\M254A46\text", "text"),
        ("\\", "\\"),
        ("\\\\", "\\\\"),
    ],
)
def test_sequences_are_read_and_what_is_none_stays(sent: str, meant: str) -> None:
    assert unescape(sent, STANDARD) == meant


def test_bytes_are_of_the_character_set_of_the_message() -> None:
    assert unescape(r"\XA7\iÓm", STANDARD, "TCVN3") == "ĐiÓm"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_from_a_field(text: str) -> None:
    sent = escape(text, STANDARD)

    assert not set("|^~&\r\n\x0b\x1c") & set(sent)
    assert unescape(sent, STANDARD) == text.replace("\r\n", "\n").replace("\r", "\n")


@given(st.text(max_size=60), st.sampled_from([STANDARD, Delimiters("#", "!", "$", "%", "*")]))
def test_any_field_is_read(text: str, delimiters: Delimiters) -> None:
    assert isinstance(unescape(text, delimiters), str)
