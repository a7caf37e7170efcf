import pytest

from ris.hl7.delimiters import STANDARD, Delimiters, read


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("MSH|^~\\&|HIS", STANDARD),
        ("MSH|^~\\\\&|HIS", STANDARD),
        ("MSH|^\u02dc\\&|HIS", STANDARD),
        ("MSH|^~\\&#|HIS", STANDARD),
        ("MSH|^~\\|HIS", STANDARD),
        ("MSH||HIS", STANDARD),
        ("MSH", STANDARD),
        ("MSHA", STANDARD),
        ("MSH|^^^^|", STANDARD),
        ("MSH#!$%*#HIS", Delimiters("#", "!", "$", "%", "*")),
        ("MSH|ab\\&|", STANDARD),
    ],
)
def test_delimiters_come_from_the_message(head: str, expected: Delimiters) -> None:
    assert read(head) == expected
