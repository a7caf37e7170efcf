import io
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from pacs.render import films
from storage.base.errors import NotSupported


def pictures(count: int, size: tuple[int, int] = (48, 36), mode: str = "L") -> list[Image.Image]:
    rows, columns = np.mgrid[: size[1], : size[0]]
    shades = ((rows + columns + 20 * number) % 256 for number in range(count))
    return [Image.fromarray(one.astype("u1")).convert(mode) for one in shades]


def boxes(content: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while at < len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind.decode(), content[at + 8 : at + length]
        at += length


def inside(content: bytes, *path: str) -> bytes:
    for name in path:
        content = dict(boxes(content))[name]
    return content


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("media_type", ["image/gif", "image/webp"])
def test_every_picture_is_a_frame_that_lasts_as_told(media_type, mode):
    film = films.encode(iter(pictures(4, mode=mode)), [40, 80, 120, 200], media_type, 90)

    found = Image.open(io.BytesIO(film))
    assert found.n_frames == 4
    durations = []
    for number, original in enumerate(pictures(4)):
        found.seek(number)
        found.load()
        durations.append(found.info["duration"])
        error = np.abs(np.asarray(found.convert("L"), int) - np.asarray(original, int))
        assert error.mean() < 12
    assert durations == [40, 80, 120, 200]


def test_grey_films_lose_no_grey():
    originals = pictures(3, (256, 4))

    found = Image.open(io.BytesIO(films.encode(iter(originals), [50] * 3, "image/gif", 90)))

    for number, original in enumerate(originals):
        found.seek(number)
        assert np.array_equal(np.asarray(found.convert("L")), np.asarray(original))


@pytest.mark.parametrize("count", [1, 2, 12])
def test_an_mp4_film_has_a_track_of_av1_samples(count):
    lasting = [40 + number for number in range(count)]

    film = films.encode(iter(pictures(count)), lasting, "video/mp4", 80)

    assert [name for name, _ in boxes(film)] == ["ftyp", "moov", "mdat"]
    track = inside(film, "moov", "trak")
    assert inside(track, "mdia", "hdlr")[8:12] == b"vide"
    table = inside(track, "mdia", "minf", "stbl")
    assert inside(table, "stsd")[12:16] == b"av01"
    sizes = inside(table, "stsz")
    lengths = struct.unpack_from(f">{count}I", sizes, 12)
    assert sum(lengths) == len(inside(film, "mdat"))
    (start,) = struct.unpack_from(">I", inside(table, "stco"), 8)
    assert film[start - 4 : start] == b"mdat"
    times = struct.unpack_from(f">{2 * count}I", inside(table, "stts"), 8)
    assert list(times[1::2]) == lasting
    width, height = struct.unpack_from(">2I", inside(track, "tkhd"), 76)
    assert (width >> 16, height >> 16) == (48, 36)


def test_sides_of_an_mp4_film_are_even():
    film = films.encode(iter(pictures(2, (47, 35))), [40, 40], "video/mp4", 80)

    assert struct.unpack_from(">2I", inside(film, "moov", "trak", "tkhd"), 76) == (
        48 << 16,
        36 << 16,
    )


def test_a_film_that_would_be_too_quick_for_browsers_is_slowed():
    film = films.encode(iter(pictures(2)), [1, 1], "image/gif", 90)

    assert Image.open(io.BytesIO(film)).info["duration"] == films.MIN_MS


def test_no_pictures_are_no_film():
    with pytest.raises(NotSupported):
        films.encode(iter(()), [], "image/gif", 90)
