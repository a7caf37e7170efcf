import pytest

from storage.base.errors import Malformed
from viewer_api import media
from viewer_api.media import ANY, Offer, Wish

DICOM, OCTETS = media.DICOM, media.OCTET_STREAM


def several(media_type: str, transfer_syntax: str = "") -> Wish:
    return Wish(media_type, multipart=True, transfer_syntax=transfer_syntax)


def single(media_type: str, transfer_syntax: str = "") -> Wish:
    return Wish(media_type, multipart=False, transfer_syntax=transfer_syntax)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        pytest.param("", [Wish(ANY, None)], id="absent"),
        pytest.param("  ", [Wish(ANY, None)], id="blank"),
        pytest.param("*/*", [Wish(ANY, None)], id="anything"),
        pytest.param("*/*; transfer-syntax=*", [Wish(ANY, None, "*")], id="anything as stored"),
        pytest.param(
            "multipart/related; type=application/octet-stream; transfer-syntax=*",
            [several(OCTETS, "*")],
            id="unquoted type, as viewers send it",
        ),
        pytest.param(
            'multipart/related; type="application/octet-stream"; transfer-syntax=1.2.3',
            [several(OCTETS, "1.2.3")],
            id="quoted type",
        ),
        pytest.param(
            'Multipart/Related;TYPE="Application/DICOM";Transfer-Syntax="1.2.3"',
            [several(DICOM, "1.2.3")],
            id="any case, no spaces, quoted transfer syntax",
        ),
        pytest.param("multipart/related", [several(ANY)], id="multipart of anything"),
        pytest.param("multipart/*", [several(ANY)], id="any multipart"),
        pytest.param(
            "application/dicom; transfer-syntax=1.2.3", [single(DICOM, "1.2.3")], id="single"
        ),
        pytest.param(
            'multipart/related; type="a/b;c,d"; boundary="x\\"y", image/jpeg',
            [several("a/b;c,d"), single("image/jpeg")],
            id="separators inside quotation marks",
        ),
        pytest.param(
            "a/b;q=0.2, c/d, e/f;q=0.9",
            [single("c/d"), single("e/f"), single("a/b")],
            id="best quality first",
        ),
        pytest.param("a/b;q=0, c/d;q=0.001", [single("c/d")], id="quality 0 means never"),
        pytest.param("a/b, c/d", [single("a/b"), single("c/d")], id="order among equals"),
        pytest.param(
            "nonsense, a/b;q=high, c/d;q=7, ;;, a/b;x, e/f", [single("e/f")], id="unreadable"
        ),
        pytest.param("garbage", [], id="nothing readable"),
    ],
)
def test_accept_is_read_in_every_shape(accept: str, expected: list[Wish]) -> None:
    assert list(media.wishes(accept)) == expected


def test_endless_accept_is_bounded() -> None:
    assert len(media.wishes("a/b," * 100_000)) <= media.MAX_RANGES


@pytest.mark.parametrize(
    "text", ["", "a", "/b", "a/", "a b/c", "a/b;x", "a/b;=1", 'a/b;x="1', "ä/b", "a/b" * 5000]
)
def test_what_is_no_media_type_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        media.parse(text)


def test_quoted_value_is_unescaped() -> None:
    parsed = media.parse(r'a/b; x="1\"2\\3"')

    assert parsed.parameters == {"x": '1"2\\3'}


@pytest.mark.parametrize(
    ("range_", "media_type", "taken"),
    [
        ("*/*", "a/b", True),
        ("a/*", "a/b", True),
        ("a/b", "a/b", True),
        ("a/*", "c/b", False),
        ("a/b", "a/c", False),
        ("image/*", "imagery/x", False),
    ],
)
def test_range_takes_what_lies_in_it(range_: str, media_type: str, *, taken: bool) -> None:
    assert Wish(range_, None).takes(media_type) is taken


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", media.DICOM_JSON),
        ("*/*", media.DICOM_JSON),
        ("application/*", media.DICOM_JSON),
        ("application/json", media.JSON),
        ("application/json, application/dicom+json;q=0.5", media.JSON),
        ("application/dicom+xml", None),
        ('multipart/related; type="application/dicom+xml", application/json;q=0.1', media.JSON),
        ("text/html", None),
    ],
)
def test_best_single_part_offer(accept: str, expected: str | None) -> None:
    chosen = media.choose(accept, (Offer(media.DICOM_JSON), Offer(media.JSON)))

    assert chosen == (Offer(expected) if expected else None)


XML_PARTS = Offer(media.DICOM_XML, multipart=True)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", Offer(media.DICOM_JSON)),
        ("*/*", Offer(media.DICOM_JSON)),
        ("multipart/related", XML_PARTS),
        ("multipart/*;q=0.5, application/dicom+json;q=0.4", XML_PARTS),
        ('multipart/related; type="application/dicom+xml"', XML_PARTS),
        ("multipart/related;type=application/dicom+xml;q=0.1,text/html", XML_PARTS),
        ('multipart/related; type="application/dicom+json"', None),
        ("application/dicom+xml", None),
        ("application/*", Offer(media.DICOM_JSON)),
        ("*/*, application/dicom+json;q=0", XML_PARTS),
        ("*/*, application/dicom+json;q=0, multipart/related;q=0", XML_PARTS),
        ("application/dicom+json;q=0", None),
    ],
)
def test_offer_of_one_or_many_parts(accept: str, expected: Offer | None) -> None:
    assert media.choose(accept, (Offer(media.DICOM_JSON), XML_PARTS)) == expected
