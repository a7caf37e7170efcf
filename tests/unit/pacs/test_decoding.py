import os
import signal
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from pacs import contexts, decoding, drawing
from pacs.decoding import MAX_FRAME_BYTES, Decoders
from pacs.frames import ImagePixel
from storage.base.errors import ImagingError, Malformed, NotSupported, Unavailable

PIXELS = np.arange(64 * 64, dtype="<u2").reshape(64, 64)
FRAME = imagecodecs.jpeg2k_encode(PIXELS, level=0, codecformat="j2k", reversible=True)
J2K = contexts.JPEG_2000_LOSSLESS


def image(rows: int = 64, columns: int = 64, bits: int = 16, samples: int = 1) -> ImagePixel:
    return ImagePixel(rows, columns, samples, bits, bits, 0, 0, "MONOCHROME2", 1)


@pytest.fixture(autouse=True, scope="module")
def no_shared_decoders() -> None:
    """End the decoders that other tests of this process have started: processes are counted."""
    decoding.close_shared()
    drawing.close_shared()


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    pool = Decoders(processes=2)
    yield pool
    pool.close()


def children() -> set[int]:
    """Process ids of our decoders that run now."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if int(status[1]) == os.getpid() and status[0] != "Z" and b"pacs.codecs" in command:
                found.add(int(entry.name))
    return found


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_frame_is_decoded_in_a_process_of_its_own_that_stays_warm(decoders):
    first = decoders.decode(FRAME, J2K, image())
    started = children()
    second = decoders.decode(FRAME, J2K, image())

    assert first == second
    assert first.pixels == PIXELS.tobytes()
    assert children() == started
    assert len(started) == 1


def test_no_process_is_started_before_it_is_needed(decoders):
    with pytest.raises(NotSupported):
        decoders.decode(FRAME, "1.2.840.10008.1.2.4.100", image())

    assert children() == set()


def test_a_broken_frame_costs_its_process_and_nothing_else(decoders):
    decoders.decode(FRAME, J2K, image())
    before = children()

    with pytest.raises(Malformed, match="JPEG 2000"):
        decoders.decode(FRAME[:200], J2K, image())
    assert children() == set()
    again = decoders.decode(FRAME, J2K, image())

    assert again.pixels == PIXELS.tobytes()
    assert children().isdisjoint(before)


def test_a_process_that_dies_while_it_is_idle_is_replaced(decoders):
    decoders.decode(FRAME, J2K, image())
    for pid in children():
        os.kill(pid, signal.SIGKILL)

    with pytest.raises(NotSupported, match="ended"):
        decoders.decode(FRAME, J2K, image())
    again = decoders.decode(FRAME, J2K, image())

    assert again.pixels == PIXELS.tobytes()


def test_a_process_that_stands_still_is_ended_in_time():
    pool = Decoders(processes=1, timeout_s=5)
    pool.decode(FRAME, J2K, image())
    (pid,) = children()
    os.kill(pid, signal.SIGSTOP)

    began = time.monotonic()
    with pytest.raises(NotSupported, match="time"):
        pool.decode(FRAME, J2K, image())
    taken = time.monotonic() - began
    again = pool.decode(FRAME, J2K, image())
    pool.close()

    assert taken < 8
    assert again.pixels == PIXELS.tobytes()


def test_many_threads_share_a_few_processes(decoders):
    results: list[bytes] = []

    def decode() -> None:
        results.extend(decoders.decode(FRAME, J2K, image()).pixels for _ in range(10))

    threads = [threading.Thread(target=decode) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [PIXELS.tobytes()] * 60
    assert len(children()) <= 2


def test_closing_ends_every_process():
    pool = Decoders(processes=1)
    pool.decode(FRAME, J2K, image())

    pool.close()

    assert children() == set()
    with pytest.raises(Unavailable):
        pool.decode(FRAME, J2K, image())


def test_the_process_knows_nothing_of_our_settings(decoders, monkeypatch):
    monkeypatch.setenv("LIENTHONG_OBJECTS_URL", "s3://key:secret@example/bucket")
    decoders.decode(FRAME, J2K, image())

    (pid,) = children()

    assert b"LIENTHONG" not in Path(f"/proc/{pid}/environ").read_bytes()


def _siz(width: int, height: int, tile: int = 0, samples: int = 1) -> bytes:
    """Return a JPEG 2000 codestream that promises a huge image and holds nothing."""
    size = struct.pack(">HIIIIIIII", 0, width, height, 0, 0, tile or width, tile or height, 0, 0)
    parts = b"".join(b"\x0f\x01\x01" for _ in range(samples))
    siz = size + struct.pack(">H", samples) + parts
    cod = b"\xff\x52\x00\x0c\x00\x00\x00\x01\x00\x05\x04\x04\x00\x01"
    qcd = b"\xff\x5c\x00\x13\x40" + b"\x88" * 16
    tile_part = b"\xff\x90\x00\x0a\x00\x00\x00\x00\x00\x00\x00\x01\xff\x93" + bytes(800)
    head = b"\xff\x4f\xff\x51" + struct.pack(">H", 2 + len(siz)) + siz
    return head + cod + qcd + tile_part + b"\xff\xd9"


def _sof(width: int, height: int, marker: int = 0xC0, bits: int = 8, samples: int = 1) -> bytes:
    parts = b"".join(bytes([n + 1, 0x11, 0]) for n in range(samples))
    body = struct.pack(">BHHB", bits, height, width, samples) + parts
    start = bytes([0xFF, marker]) + struct.pack(">H", 2 + len(body)) + body
    return (
        b"\xff\xd8" + start + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + bytes(800) + b"\xff\xd9"
    )


_RLE = struct.pack("<16I", 2, 64, 66, *[0] * 13) + b"\x81\x00\x81\x00"

BOMBS = [
    ("a huge J2K", J2K, _siz(60000, 60000), image(60000, 60000)),
    ("a J2K that is not what is told", J2K, _siz(60000, 60000), image(64, 64)),
    ("a J2K above the largest frame", J2K, _siz(12000, 12000), image(12000, 12000)),
    ("a J2K of tiny tiles", J2K, _siz(11000, 11000, tile=1), image(11000, 11000)),
    ("a J2K of many samples", J2K, _siz(64, 64, samples=16384), image(64, 64)),
    ("a huge HTJ2K", contexts.HTJ2K, _siz(60000, 60000), image(60000, 60000)),
    ("a huge JPEG", contexts.JPEG_BASELINE, _sof(65500, 65500), image(65500, 65500, 8)),
    ("a JPEG not as told", contexts.JPEG_BASELINE, _sof(65500, 65500), image(64, 64, 8)),
    ("an empty JPEG", contexts.JPEG_BASELINE, _sof(16000, 16000), image(16000, 16000, 8)),
    ("a JPEG without lines", contexts.JPEG_BASELINE, _sof(64, 0), image(64, 64, 8)),
    ("12 bits", contexts.JPEG_EXTENDED, _sof(60000, 60000, 0xC1, 12), image(60000, 60000)),
    ("lossless", contexts.JPEG_LOSSLESS_SV1, _sof(60000, 60000, 0xC3, 16), image(60000, 60000)),
    ("lossless, empty", contexts.JPEG_LOSSLESS_SV1, _sof(9000, 9000, 0xC3, 16), image(9000, 9000)),
    ("huge JPEG-LS", contexts.JPEG_LS_LOSSLESS, _sof(60000, 60000, 0xF7, 16), image(60000, 60000)),
    ("empty JPEG-LS", contexts.JPEG_LS_LOSSLESS, _sof(9000, 9000, 0xF7, 16), image(9000, 9000)),
    ("huge RLE", contexts.RLE_LOSSLESS, _RLE, image(65535, 65535)),
    ("RLE of nothing", contexts.RLE_LOSSLESS, _RLE, image(11000, 11000)),
    ("RLE, 64 bits", contexts.RLE_LOSSLESS, _RLE, image(5000, 5000, 64)),
    ("huge native", contexts.ENCAPSULATED_UNCOMPRESSED, bytes(100), image(65535, 65535, 64, 4)),
    ("JPEG XL", contexts.JPEG_XL, b"\xff\x0a" + b"\xff" * 200, image(11000, 11000)),
]


@pytest.mark.parametrize(
    ("uid", "frame", "told"), [bomb[1:] for bomb in BOMBS], ids=[bomb[0] for bomb in BOMBS]
)
def test_pixel_bombs_are_refused_and_this_process_does_not_grow(decoders, uid, frame, told):
    before = resident_bytes()

    with pytest.raises(ImagingError) as raised:
        decoders.decode(frame, uid, told)

    assert isinstance(raised.value, Malformed | NotSupported)
    assert resident_bytes() - before < 32 << 20


def test_the_largest_frame_is_a_limit_and_not_an_accident(decoders):
    rows = MAX_FRAME_BYTES // 2 // 16384
    told = image(rows + 1, 16384)

    with pytest.raises(NotSupported, match=str(MAX_FRAME_BYTES)):
        decoders.decode(b"", contexts.ENCAPSULATED_UNCOMPRESSED, told)


def test_a_large_frame_comes_through_whole(decoders):
    pixels = np.arange(4096 * 4096, dtype="<u2").reshape(4096, 4096)

    found = decoders.decode(pixels.tobytes(), contexts.ENCAPSULATED_UNCOMPRESSED, image(4096, 4096))

    assert found.pixels == pixels.tobytes()
