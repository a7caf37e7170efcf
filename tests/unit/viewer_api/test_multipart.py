from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.base.errors import Malformed
from viewer_api import media, multipart
from viewer_api.multipart import Part, Reader
from viewer_api.problems import TooLarge, UnsupportedMediaType

BODY = b"--b\r\nContent-Type: a/b\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n"


def chopped(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


def read(chunks: Iterable[bytes], boundary: str = "b") -> list[tuple[dict[str, str], bytes]]:
    parts = Reader(chunks, boundary).parts()
    return [(dict(part.headers), b"".join(part.body)) for part in parts]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
def test_parts_are_found_whatever_the_chunks(size: int) -> None:
    assert read(chopped(BODY, size)) == [({"content-type": "a/b"}, b"one"), ({}, b"two")]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\r\n" + BODY, id="line break before the first boundary"),
        pytest.param(b"preamble\r\n" + BODY, id="preamble"),
        pytest.param(BODY + b"epilogue", id="epilogue"),
        pytest.param(BODY.removesuffix(b"\r\n"), id="no line break at the end"),
        pytest.param(BODY.replace(b"--b\r\n", b"--b \t\r\n"), id="padding behind the boundary"),
    ],
)
def test_legal_variants_are_the_same_parts(body: bytes) -> None:
    assert [content for _, content in read([body])] == [b"one", b"two"]


def test_what_looks_like_a_boundary_is_content() -> None:
    content = b"\r\n--\r\n-b\r\n --b--\n--b"

    parts = read(chopped(b"--b\r\n\r\n" + content + b"\r\n--b--", 3))

    assert parts == [({}, content)]


def test_empty_body_is_a_part() -> None:
    assert read([b"--b\r\n\r\n\r\n--b--"]) == [({}, b"")]


def test_body_that_nobody_reads_is_skipped() -> None:
    parts = Reader([BODY], "b").parts()

    assert len(list(parts)) == 2


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"", "before the first boundary"),
        (b"no boundary at all", "before the first boundary"),
        (b"--b", "behind part 0"),
        (b"--b\r\nContent-Type: a/b\r\n", "headers of part 1"),
        (b"--b\r\n\r\none", "inside part 1"),
        (b"--b\r\n\r\none\r\n--b\r\n\r\ntwo", "inside part 2"),
        (b"--b\r\n\r\none\r\n--b", "behind part 1"),
        (b"--bb\r\n\r\none\r\n--bb--", "behind the boundary of part 1"),
        (b"--b\nContent-Type: a/b\n\n" + b"x" * 5000, "no CR LF"),
        (b"--b\r\nno colon\r\n\r\none\r\n--b--", "colon"),
    ],
)
def test_broken_body_names_the_place(body: bytes, place: str) -> None:
    with pytest.raises(Malformed, match=place):
        read(chopped(body, 4))


def test_parts_before_the_break_are_given() -> None:
    parts = Reader([b"--b\r\n\r\none\r\n--b\r\n\r\ntw"], "b").parts()

    assert b"".join(next(parts).body) == b"one"
    with pytest.raises(Malformed, match="inside part 2"):
        b"".join(next(parts).body)


def test_long_headers_are_refused_before_they_are_held() -> None:
    def endless() -> Iterator[bytes]:
        yield b"--b\r\n"
        while True:
            yield b"x" * 1000

    with pytest.raises(TooLarge, match="8192 bytes in the headers of part 1"):
        read(endless())


def test_endless_preamble_is_refused() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    with pytest.raises(Malformed, match="does not begin with its boundary"):
        read(endless())


def test_too_many_parts_are_refused() -> None:
    body = b"--b\r\n\r\n\r\n" * (multipart.MAX_PARTS + 1)

    with pytest.raises(TooLarge, match="more than 5000 parts"):
        read([body])


def test_multipart_inside_a_part_is_refused() -> None:
    with pytest.raises(UnsupportedMediaType, match="part 1"):
        read([b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c--\r\n--b--"])


@pytest.mark.parametrize("boundary", ["", "x" * 71, "tab\t", "ends ", "ä", 'qu"ote', "new\nline"])
def test_illegal_boundary_is_malformed(boundary: str) -> None:
    with pytest.raises(Malformed):
        multipart.boundary_of(media.MediaType("multipart/related", {"boundary": boundary}))


@pytest.mark.parametrize("boundary", ["x", "x" * 70, "a b", "=_'()+,-./:?"])
def test_legal_boundary_is_taken(boundary: str) -> None:
    content_type = media.MediaType("multipart/related", {"boundary": boundary})

    assert multipart.boundary_of(content_type) == boundary


@given(st.lists(st.binary(max_size=200), max_size=5), st.integers(1, 50))
def test_what_is_written_is_read_again(contents: list[bytes], size: int) -> None:
    parts = [Part({"Content-Type": "a/b"}, iter([content])) for content in contents]
    boundary = multipart.new_boundary()

    body = b"".join(multipart.write(parts, boundary))

    if contents:
        assert [content for _, content in read(chopped(body, size), boundary)] == contents


def test_content_type_names_part_type_and_boundary() -> None:
    parsed = media.parse(multipart.content_type("application/dicom", "b"))

    assert parsed == media.MediaType(
        "multipart/related", {"type": "application/dicom", "boundary": "b"}
    )
