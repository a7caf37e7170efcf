r"""multipart/related (RFC 2046 5.1, RFC 2387, PS3.18 8.6.1.2), read and written in pieces.

    --boundary CRLF  headers CRLF CRLF  body  CRLF --boundary CRLF … CRLF --boundary--

Nothing is held whole: a part's body is an iterator that ends at the delimiter.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from storage.base.errors import Malformed
from viewer_api import media
from viewer_api.problems import TooLarge, UnsupportedMediaType

MAX_PART_HEADERS: Final = 8 << 10
MAX_PARTS: Final = 5_000
MAX_PREAMBLE: Final = 64 << 10
MAX_PADDING: Final = 1 << 10
PIECE: Final = 1 << 20
GROUP: Final = 2 << 20
SMALL: Final = 64 << 10

# RFC 2046 5.1.1: 1 to 70 characters, the last one no space
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")


def boundary_of(content_type: media.MediaType) -> str:
    """Return the boundary parameter.

    Raises
    ------
    Malformed
        It is absent or not 1 to 70 of the permitted characters.
    """
    boundary = content_type.parameters.get("boundary", "")
    if not _BOUNDARY.fullmatch(boundary):
        raise Malformed("the boundary of the multipart body is absent or not legal")
    return boundary


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its headers with lower-case names, and its body, to be read before the next."""

    headers: Mapping[str, str]
    body: Iterator[bytes]


class Reader:
    """Reads the parts of a body that arrives in chunks of any size."""

    def __init__(self, chunks: Iterable[bytes], boundary: str) -> None:
        self._chunks = iter(chunks)
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._buffer = bytearray(b"\r\n")  # so that the first delimiter looks like the others
        self._ended = False

    def parts(self) -> Iterator[Part]:
        """Yield the parts in order; what the caller leaves of a body is skipped.

        Raises
        ------
        Malformed
            The body is no multipart body, or it ends before the closing boundary.
        TooLarge
            A part's headers or the number of parts exceed the limits above.
        """
        skipped = 0
        for piece in self._until_delimiter("before the first boundary"):
            skipped += len(piece)
            if skipped > MAX_PREAMBLE:
                raise Malformed("the multipart body does not begin with its boundary")
        number = 0
        while self._opens_part(number):
            number += 1
            if number > MAX_PARTS:
                raise TooLarge(f"more than {MAX_PARTS} parts in one request")
            body = self._until_delimiter(f"inside part {number}")
            yield Part(self._headers(number), body)
            for _ in body:
                pass

    def _opens_part(self, number: int) -> bool:
        """Read the rest of the line behind a delimiter; False behind the closing one."""
        while len(self._buffer) < 2:  # noqa: PLR2004 - "--" or CR LF
            self._more(f"behind part {number}")
        if self._buffer.startswith(b"--"):
            return False
        where = f"behind the boundary of part {number + 1} and no CR LF"
        end = self._find(b"\r\n", MAX_PADDING, where, Malformed)
        if self._buffer[:end].strip(b" \t"):
            raise Malformed(f"text behind the boundary of part {number + 1}")
        del self._buffer[:end]  # the CR LF stays: it is also the first of an empty header block
        return True

    def _headers(self, number: int) -> dict[str, str]:
        end = self._find(b"\r\n\r\n", MAX_PART_HEADERS, f"in the headers of part {number}")
        block = bytes(self._buffer[:end]).decode("latin-1")
        del self._buffer[: end + 4]
        headers = {}
        for line in block.split("\r\n"):
            if line.strip():
                name, colon, value = line.partition(":")
                if not colon:
                    raise Malformed(f"part {number}: a header line without a colon")
                headers[name.strip().lower()] = value.strip()
        if headers.get("content-type", "").lower().startswith("multipart/"):
            raise UnsupportedMediaType(f"part {number}: a multipart body inside a part")
        return headers

    def _until_delimiter(self, where: str) -> Iterator[bytes]:
        while (end := self._buffer.find(self._delimiter)) < 0:
            # the last bytes may be the start of a delimiter
            yield from self._taken(len(self._buffer) - len(self._delimiter) + 1)
            self._more(where)
        yield from self._taken(end)
        del self._buffer[: len(self._delimiter)]

    def _taken(self, length: int) -> Iterator[bytes]:
        if length > 0:
            with memoryview(self._buffer) as view:
                piece = bytes(view[:length])
            del self._buffer[:length]
            yield piece

    def _find(self, wanted: bytes, limit: int, where: str, kind: type[Malformed] = TooLarge) -> int:
        while (end := self._buffer.find(wanted, 0, limit + len(wanted))) < 0:
            if len(self._buffer) > limit:
                raise kind(f"more than {limit} bytes {where}")
            self._more(where)
        return end

    def _more(self, where: str) -> None:
        for chunk in self._chunks:
            if chunk:
                self._buffer += chunk
                return
        raise Malformed(f"the multipart body ends {where}")


def new_boundary() -> str:
    """Return a boundary that no body contains by accident."""
    return uuid4().hex


def content_type(part_type: str, boundary: str) -> str:
    """Return the Content-Type of a whole body; `type` is quoted, as it holds a slash."""
    return f'{media.MULTIPART_RELATED}; type="{part_type}"; boundary={boundary}'


def write(parts: Iterable[Part], boundary: str) -> Iterator[bytes]:
    """Yield a body of `parts`."""
    lead = ""
    for part in parts:
        lines = "".join(f"{name}: {value}\r\n" for name, value in part.headers.items())
        yield f"{lead}--{boundary}\r\n{lines}\r\n".encode("ascii")
        yield from part.body
        lead = "\r\n"
    yield f"{lead}--{boundary}--\r\n".encode("ascii")


def size_of(headers: Mapping[str, str], boundary: str) -> int:
    """Return how many bytes a part has beside its body, when another one stands before it."""
    [start, _] = write([Part(headers, iter(()))], boundary)
    return len(start) + len("\r\n")


def end_of(boundary: str) -> bytes:
    """Return what stands behind the last part."""
    return f"\r\n--{boundary}--\r\n".encode("ascii")


def gathered(pieces: Iterable[bytes], size: int = PIECE) -> Iterator[bytes]:
    """Yield the same bytes in pieces of at least `size`: each costs a change of thread."""
    for group in grouped(pieces, size, small=size):
        yield b"".join(group)


def grouped(
    pieces: Iterable[bytes], size: int = GROUP, small: int = SMALL
) -> Iterator[Sequence[bytes]]:
    """Yield the same bytes in groups of at least `size`: each costs a change of thread.

    Pieces smaller than `small` are joined; larger ones are not copied.
    """
    group: list[bytes] = []
    waiting: list[bytes] = []
    length = 0
    for piece in pieces:
        waiting.append(piece)
        length += len(piece)
        if len(piece) >= small:
            if len(waiting) > 1:
                group.append(b"".join(waiting[:-1]))
            group.append(piece)
            waiting = []
        if length >= size:
            if waiting:
                group.append(b"".join(waiting))
            yield group
            group, waiting, length = [], [], 0
    if waiting:
        group.append(b"".join(waiting))
    if group:
        yield group
