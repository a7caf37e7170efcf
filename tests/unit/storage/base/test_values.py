import pytest

from storage.base.errors import Malformed
from storage.base.values import ae_title, is_uid, uid

NOT_UIDS = ["", " ", ".", "1.", ".1", "1..2", "1.a", "1/2", "1.2\n", "१.२", "1." + "2" * 63, "a"]


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("1.2.840.10008.1.2", "1.2.840.10008.1.2"),
        ("1.2\0", "1.2"),
        (" 1.2 ", "1.2"),
        ("1.02", "1.02"),  # forbidden by PS3.5 9.1 and found in many archives
        ("1", "1"),
        ("1" * 64, "1" * 64),
    ],
)
def test_uid_loses_its_padding(text: str, bare: str) -> None:
    assert uid(text) == bare
    assert is_uid(bare)


@pytest.mark.parametrize("text", NOT_UIDS)
def test_what_is_no_uid_is_malformed(text: str) -> None:
    assert not is_uid(text)


@pytest.mark.parametrize("text", [text for text in NOT_UIDS if text != "1.2\n"])
def test_malformed_uid_is_refused(text: str) -> None:
    with pytest.raises(Malformed, match="is not a UID"):
        uid(text)


def test_endless_text_is_not_repeated_in_the_message() -> None:
    with pytest.raises(Malformed) as refused:
        uid("9" * 100_000)

    assert len(str(refused.value)) < 100


@pytest.mark.parametrize(
    ("text", "title"), [("ARCHIVE", "ARCHIVE"), (" CT 01 ", "CT 01"), ("A" * 16 + " ", "A" * 16)]
)
def test_ae_title_loses_its_padding(text: str, title: str) -> None:
    assert ae_title(text) == title


@pytest.mark.parametrize("text", ["", "   ", "A" * 17, "A\\B", "A\nB", "MÁY", "A\x7f"])
def test_what_is_no_ae_title_is_malformed(text: str) -> None:
    with pytest.raises(Malformed, match="is not an AE title"):
        ae_title(text)
