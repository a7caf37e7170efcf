import io
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from pacs import contexts, drawing
from pacs.decoding import Decoders
from pacs.drawing import Drawing
from pacs.frames import ImagePixel
from pacs.render.captions import Captions
from pacs.render.looks import Look, Table
from pacs.render.options import Options, Window
from storage.base.errors import Malformed, NotSupported

EXPLICIT = contexts.EXPLICIT_VR_LITTLE_ENDIAN
J2K = contexts.JPEG_2000_LOSSLESS
RAMP = np.arange(256, dtype="<u2").reshape(16, 16)


@pytest.fixture(scope="module")
def pool() -> Iterator[Decoders]:
    decoders = Decoders(processes=1)
    yield decoders
    decoders.close()


def look(side: int = 16, **values: object) -> Look:
    image = ImagePixel(side, side, 1, 16, 16, 0, 0, "MONOCHROME2", 1)
    return Look(image, high_bit=15, **values)


def draw(
    pool: Decoders,
    frames: list[bytes],
    syntax: str = EXPLICIT,
    looks: list[Look] | None = None,
    media_type: str = "image/png",
    lasting: tuple[int, ...] = (),
    **options: Any,
) -> Image.Image:
    captions = options.pop("captions", Captions())
    order = Drawing(
        syntax,
        looks or [look()],
        [0 if not looks else number % len(looks) for number in range(len(frames))],
        [*map(len, frames)],
        Options(**options),
        media_type,
        captions,
        lasting,
    )
    made = drawing.draw(order, frames, pool)
    return Image.open(io.BytesIO(made))


def test_a_native_frame_is_drawn(pool):
    found = draw(pool, [RAMP.tobytes()], window=Window(128, 256))

    assert np.array_equal(np.asarray(found), RAMP.astype("u1"))


def test_a_coded_frame_is_decoded_and_drawn_in_one_go(pool):
    coded = imagecodecs.jpeg2k_encode(RAMP, level=0, codecformat="j2k", reversible=True)

    found = draw(pool, [coded], J2K, window=Window(128, 256))

    assert np.array_equal(np.asarray(found), RAMP.astype("u1"))


def test_each_frame_of_a_film_has_its_look(pool):
    dark, bright = look(window=Window(1000, 10)), look(window=Window(-10, 10))

    found = draw(
        pool, [RAMP.tobytes()] * 2, looks=[dark, bright], media_type="image/gif", lasting=(50, 50)
    )

    assert np.asarray(found.convert("L")).max() == 0
    found.seek(1)
    assert np.asarray(found.convert("L")).min() == 255


def test_a_film_without_windows_has_one_window_for_all(pool):
    frames = [np.full((16, 16), level, "<u2").tobytes() for level in (0, 50, 100)]

    found = draw(pool, frames, media_type="image/gif", lasting=(50, 50, 50))

    levels = []
    for number in range(3):
        found.seek(number)
        levels.append(np.asarray(found.convert("L"))[0, 0])
    assert levels[0] == 0
    assert 126 <= levels[1] <= 129
    assert levels[2] == 255


def test_tables_reach_the_drawing_process(pool):
    inverted = Table(0, tuple(range(255, -1, -1)), 8)

    found = draw(pool, [RAMP.tobytes()], looks=[look(voi=inverted)])

    assert np.array_equal(np.asarray(found), 255 - RAMP.astype("u1"))


def test_captions_are_written_on_the_picture(pool):
    black = [np.zeros((200, 200), "<u2").tobytes()]
    wide = [look(200, window=Window(1000, 10))]

    found = draw(pool, black, looks=wide, captions=Captions(("NGUYỄN VĂN AN",)))

    written = np.asarray(found)
    assert written[:40].max() > 190
    assert written[40:].max() == 0


def test_a_broken_frame_is_malformed_and_the_next_one_is_drawn(pool):
    with pytest.raises(Malformed):
        draw(pool, [b"\xff\x4f\xff\x51" + bytes(50)], J2K)
    with pytest.raises(Malformed, match="too few"):
        draw(pool, [bytes(10)])

    assert draw(pool, [RAMP.tobytes()]).size == (16, 16)


def test_what_takes_more_memory_than_it_may_is_refused_and_nothing_dies(pool):
    side = 60_000
    bomb = look(side)

    with pytest.raises(NotSupported):
        draw(pool, [bytes(1 << 20)], looks=[bomb])
    found = draw(pool, [RAMP.tobytes()])

    assert found.size == (16, 16)


def test_a_film_of_too_many_bytes_is_refused_before_anything_is_sent(pool, monkeypatch):
    monkeypatch.setattr(drawing, "MAX_CONTENT_BYTES", 100)

    with pytest.raises(NotSupported, match="100 bytes"):
        draw(pool, [RAMP.tobytes()])
