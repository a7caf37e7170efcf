"""Pictures one after the other as a film: animated GIF and WebP, AV1 in MP4 (PS3.18 8.7.4).

The AV1 encoder at hand writes image sequences (AVIF), which are ISO base media files as
MP4 is (ISO 14496-12): their samples and their description are put into the frame of an MP4
film as they are.
"""

import io
import itertools
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from storage.base.errors import NotSupported

FORMATS: Final = {"image/gif": "GIF", "image/webp": "WEBP", "video/mp4": "AVIF"}
MIN_MS: Final = 20
"""Of a frame; browsers show a GIF that asks for less ten times slower."""
_TICKS_S: Final = 1000
_EVEN: Final = 2
_MATRIX: Final = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
_SPEED: Final = 9


def encode(
    pictures: Iterator[Image.Image], durations_ms: Sequence[int], media_type: str, quality: int
) -> bytes:
    """Return a film of `media_type`, one of `FORMATS`; pictures are taken as they are needed.

    Raises
    ------
    NotSupported
        The film has no pictures.
    """
    first = next(pictures, None)
    if first is None:
        raise NotSupported("a film without pictures")
    kind, lasting = FORMATS[media_type], [max(MIN_MS, one) for one in durations_ms]
    film: Iterator[Image.Image] = itertools.chain((first,), pictures)
    if kind == "AVIF":
        return _mp4(film, lasting, quality)
    if kind == "GIF":
        film = map(_of_256_colours, film)
    options: Mapping[str, Any] = {"GIF": {"disposal": 1}, "WEBP": {"quality": quality, "method": 2}}
    target = io.BytesIO()
    next(film).save(
        target,
        kind,
        save_all=True,
        append_images=film,
        duration=lasting,
        loop=0,
        **options[kind],
    )
    return target.getvalue()


def _of_256_colours(picture: Image.Image) -> Image.Image:
    if picture.mode == "L":
        return picture
    return picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def _mp4(film: Iterator[Image.Image], lasting: Sequence[int], quality: int) -> bytes:
    even = map(_even, film)
    target = io.BytesIO()
    first = next(even)
    first.save(
        target,
        "AVIF",
        save_all=True,
        append_images=even,
        duration=list(lasting),
        quality=quality,
        speed=_SPEED,
        subsampling="4:2:0",
        max_threads=1,
    )
    return _film_of(target.getvalue(), first.size, lasting)


def _even(picture: Image.Image) -> Image.Image:
    """Return a picture with even sides, as films with halved colours have them."""
    width, height = picture.size
    size = width + width % _EVEN, height + height % _EVEN
    if size == picture.size:
        return picture.convert("RGB")
    wider = Image.new("RGB", size)
    wider.paste(picture.convert("RGB"))
    return wider


@dataclass(frozen=True, slots=True)
class Track:
    """The samples of a film, and what is told of them."""

    description: bytes
    samples: Sequence[bytes]
    keys: Sequence[int]
    """Numbers of the samples at which it can be begun, from 1."""
    lasting: Sequence[int]
    """Ticks from the decoding of each to that of the next one."""
    late: Sequence[int] = ()
    """Ticks from its decoding to its showing; none: they are shown when they are decoded."""


def _film_of(sequence: bytes, size: tuple[int, int], lasting: Sequence[int]) -> bytes:
    """Return the MP4 film with the samples of an AVIF image sequence, or image if it is one."""
    description, samples, keys = _still(sequence) if len(lasting) == 1 else _track(sequence)
    return file_of(Track(description, samples, keys, lasting), size, _TICKS_S)


def file_of(track: Track, size: tuple[int, int], ticks_s: int) -> bytes:
    """Return the MP4 file of one film (ISO 14496-12, 14496-14)."""
    samples, keys = track.samples, track.keys
    head = box(b"ftyp", b"isom", bytes(4), b"isomiso6mp41")
    movie = b""
    for _ in range(2):  # where the samples begin depends on the length of the description
        start = len(head) + len(movie) + 8
        tables = [
            _full(b"stsd", 0, struct.pack(">I", 1), track.description),
            _full(b"stts", 0, *_runs(track.lasting)),
            _full(b"stsc", 0, struct.pack(">4I", 1, 1, len(samples), 1)),
            _full(
                b"stsz",
                0,
                struct.pack(f">{len(samples) + 2}I", 0, len(samples), *map(len, samples)),
            ),
            _full(b"stco", 0, struct.pack(">2I", 1, start)),
            _full(b"stss", 0, struct.pack(f">{len(keys) + 1}I", len(keys), *keys)),
        ]
        if any(track.late):
            tables.append(_full(b"ctts", 0, *_runs(track.late)))
        movie = _movie(size, sum(track.lasting), ticks_s, box(b"stbl", *tables))
    return b"".join((head, movie, box(b"mdat", *samples)))


def visual(kind: bytes, width: int, height: int, configuration: bytes) -> bytes:
    """Return a visual sample entry (ISO 14496-12 12.1.3)."""
    facts = struct.pack(">6xH16x2H2IIH32xHh", 1, width, height, 72 << 16, 72 << 16, 0, 1, 24, -1)
    return box(kind, facts, configuration)


def _runs(numbers: Sequence[int]) -> Iterator[bytes]:
    """Yield how many runs of the same number there are, then each."""
    runs = [(len([*run]), number) for number, run in itertools.groupby(numbers)]
    yield struct.pack(">I", len(runs))
    yield from (struct.pack(">2I", *run) for run in runs)


def _movie(size: tuple[int, int], ticks: int, ticks_s: int, table: bytes) -> bytes:
    """Return the moov box of one film track (ISO 14496-12 8.2 to 8.4)."""
    width, height = size
    header = struct.pack(">4I", 0, 0, ticks_s, ticks)
    movie_header = _full(
        b"mvhd", 0, header, struct.pack(">IH10x", 1 << 16, 1 << 8), _MATRIX, bytes(24), b"\0\0\0\2"
    )
    track_header = _full(
        b"tkhd",
        3,
        struct.pack(">5I16x", 0, 0, 1, 0, ticks),
        _MATRIX,
        struct.pack(">2I", width << 16, height << 16),
    )
    reference = _full(b"dref", 0, struct.pack(">I", 1), _full(b"url ", 1))
    information = box(b"minf", _full(b"vmhd", 1, bytes(8)), box(b"dinf", reference), table)
    undetermined = 0x55C4  # the language
    media = box(
        b"mdia",
        _full(b"mdhd", 0, header, struct.pack(">2H", undetermined, 0)),
        _full(b"hdlr", 0, bytes(4), b"vide", bytes(12), b"\0"),
        information,
    )
    return box(b"moov", movie_header, box(b"trak", track_header, media))


def box(kind: bytes, *content: bytes) -> bytes:
    """Return a box (ISO 14496-12 4.2)."""
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)


def _full(kind: bytes, flags: int, *content: bytes) -> bytes:
    return box(kind, struct.pack(">I", flags), *content)


def _track(sequence: bytes) -> tuple[bytes, Sequence[bytes], Sequence[int]]:
    """Return sample description, samples and numbers of key samples of an image sequence."""
    table = _inside(sequence, b"moov", b"trak", b"mdia", b"minf", b"stbl")
    sizes = _inside(table, b"stsz")
    count = int.from_bytes(sizes[8:12])
    lengths = struct.unpack_from(f">{count}I", sizes, 12)
    (at,) = struct.unpack_from(">I", _inside(table, b"stco"), 8)
    keys = _inside(table, b"stss")
    samples = []
    for length in lengths:
        samples.append(sequence[at : at + length])
        at += length
    numbers = struct.unpack_from(f">{int.from_bytes(keys[4:8])}I", keys, 8)
    return _inside(table, b"stsd")[8:], samples, numbers


def _still(image: bytes) -> tuple[bytes, Sequence[bytes], Sequence[int]]:
    """Return the same of a single image (ISO 23000-22)."""
    properties = _inside(_inside(image, b"meta")[4:], b"iprp", b"ipco")
    width, height = struct.unpack_from(">2I", _inside(properties, b"ispe"), 4)
    configuration = box(b"av1C", _inside(properties, b"av1C"))
    description = visual(b"av01", width, height, configuration)
    return description, [_inside(image, b"mdat")], [1]


def _inside(content: bytes, *kinds: bytes) -> bytes:
    """Return the content of a box in boxes."""
    for kind in kinds:
        content = next(inner for found, inner in _boxes(content) if found == kind)
    return content


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind, content[at + 8 : at + length]
        at += length
