import random
import tracemalloc
import zlib

import pytest

from pacs import deflate
from storage.base.errors import Malformed
from tests.fixtures import dicom_files


def packed(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def inflated(content: bytes, size: int) -> bytes:
    inflater = deflate.Inflater()
    pieces = [
        piece for chunk in dicom_files.chunks(content, size) for piece in inflater.feed(chunk)
    ]
    inflater.finish()
    return b"".join(pieces)


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_a_dataset_is_inflated_in_any_pieces(size):
    content = random.Random(1).randbytes(5000) * 3 + bytes(5000)

    assert inflated(packed(content), size) == content
    assert deflate.inflate(packed(content)) == content


def test_the_byte_that_makes_the_length_even_is_ignored():
    assert deflate.inflate(packed(b"abc") + b"\0") == b"abc"


def test_a_thousandfold_is_taken_while_it_is_small():
    assert len(deflate.inflate(packed(bytes(16 << 20)))) == 16 << 20


@pytest.mark.parametrize("megabytes", [40, 600])
def test_a_bomb_is_refused_at_its_cap(megabytes):
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()
    inflater = deflate.Inflater()
    given = 0
    tracemalloc.start()

    with pytest.raises(Malformed, match="inflates to more than"):  # noqa: PT012 - while it arrives
        for piece in inflater.feed(bomb):
            given += len(piece)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert given <= deflate.UNJUDGED_BYTES
    assert peak < 4 << 20


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "cut off"),
        (packed(b"abc" * 100)[:-1], "cut off"),
        (b"\xff" * 50, "cannot be inflated"),
        (zlib.compress(b"abc"), "cannot be inflated"),
    ],
)
def test_a_broken_stream_is_malformed(content, fault):
    with pytest.raises(Malformed, match=fault):
        deflate.inflate(content)
