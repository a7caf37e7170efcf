from collections.abc import Iterator

import pytest

from storage.objects.pieces import Pieces


class Source:
    """Gives three pieces and counts how often it was closed."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.closed = 0
        self._pieces: Iterator[bytes] = iter([b"a", b"b", b"c", b""])
        self._breaks = breaks

    def read(self) -> bytes:
        if self._breaks:
            raise OSError("broken")
        return next(self._pieces)

    def close(self) -> None:
        self.closed += 1


def test_source_is_closed_once_at_the_end() -> None:
    source = Source()
    pieces = Pieces(source.read, source.close)

    assert list(pieces) == [b"a", b"b", b"c"]
    assert list(pieces) == []
    pieces.close()
    assert source.closed == 1


def test_source_is_closed_when_nobody_began_to_read() -> None:
    source = Source()

    Pieces(source.read, source.close)

    assert source.closed == 1


def test_source_is_closed_when_it_breaks() -> None:
    source = Source(breaks=True)
    pieces = Pieces(source.read, source.close)

    with pytest.raises(OSError, match="broken"):
        next(pieces)

    assert source.closed == 1
