"""Deflated datasets (PS3.5 A.5), inflated without trusting them.

zlib can turn a megabyte into a gigabyte. What comes out is bounded by a ratio and by
an absolute size, and is handed on in small pieces.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from pacs.part10 import Buffer
from storage.base.errors import Malformed

MAX_BYTES: Final = 2 << 30
MAX_RATIO: Final = 20
UNJUDGED_BYTES: Final = 32 << 20
"""Below this size a dataset may have any ratio: masks deflate a thousandfold."""
_TAKE: Final = 1 << 16
_GIVE: Final = 1 << 18


class Inflater:
    """Inflates a dataset that arrives in pieces."""

    __slots__ = ("_given", "_stream", "_taken")

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(-zlib.MAX_WBITS)
        self._taken = 0
        self._given = 0

    def feed(self, chunk: Buffer) -> Iterator[bytes]:
        """Yield what `chunk` inflates to; bytes behind the end of the stream are ignored.

        Raises
        ------
        Malformed
            It cannot be inflated, or inflates to more than it may.
        """
        view = memoryview(chunk)
        for start in range(0, len(view), _TAKE):
            yield from self._inflated(view[start : start + _TAKE])

    def _inflated(self, piece: Buffer) -> Iterator[bytes]:
        self._taken += len(piece)
        while piece and not self._stream.eof:
            try:
                inflated = self._stream.decompress(piece, _GIVE)
            except zlib.error as error:
                raise Malformed(f"the deflated dataset cannot be inflated: {error}") from error
            piece = self._stream.unconsumed_tail
            self._given += len(inflated)
            self._judge()
            yield inflated

    def _judge(self) -> None:
        limit = min(MAX_BYTES, max(UNJUDGED_BYTES, MAX_RATIO * self._taken))
        if self._given > limit:
            raise Malformed(
                f"the deflated dataset inflates to more than {limit} bytes from {self._taken}"
            )

    def finish(self) -> None:
        """Declare the dataset complete.

        Raises
        ------
        Malformed
            The stream has not ended.
        """
        if not self._stream.eof:
            raise Malformed(f"the deflated dataset is cut off after {self._taken} bytes")


def inflate(dataset: Buffer) -> bytes:
    """Return a whole dataset inflated.

    Raises
    ------
    Malformed
        It cannot be inflated, is cut off, or inflates to more than it may.
    """
    inflater = Inflater()
    inflated = b"".join(inflater.feed(dataset))
    inflater.finish()
    return inflated


def deflated(pieces: Iterable[bytes]) -> bytes:
    """Return a whole dataset deflated, of even length (PS3.5 A.5)."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    whole = b"".join([*map(deflater.compress, pieces), deflater.flush()])
    return whole + b"\0" * (len(whole) % 2)
