"""An object's bytes, piece by piece, from a source that is open already."""

from collections.abc import Callable, Iterator
from typing import Final, Self

from storage.base.errors import Malformed

PIECE_BYTES: Final = 1 << 20


class Pieces(Iterator[bytes]):
    """What `read` returns until it returns nothing; closes at the end, or when dropped."""

    def __init__(self, read: Callable[[], bytes], close: Callable[[], None]) -> None:
        self._read = read
        self._close: Callable[[], None] | None = close

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._close is None:
            raise StopIteration
        try:
            piece = self._read()
        except BaseException:
            self.close()
            raise
        if not piece:
            self.close()
            raise StopIteration
        return piece

    def close(self) -> None:
        """Close the source; there are no more pieces."""
        close, self._close = self._close, None
        if close is not None:
            close()

    def __del__(self) -> None:
        self.close()


def check_range(offset: int, length: int | None) -> None:
    """Raise `Malformed` when the range begins before the object or is less than empty."""
    if offset < 0 or (length is not None and length < 0):
        raise Malformed(f"no range: {length} bytes from {offset}")
