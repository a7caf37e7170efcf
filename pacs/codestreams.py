"""What a compressed picture or film says of itself, without decoding it.

JPEG (ISO 10918-1), JPEG-LS (ISO 14495-1), JPEG 2000 and HTJ2K (ISO 15444-1, -15), and films
of H.264 or HEVC in MP4 files (ISO 14496-12, -15). Which transfer syntax that makes, and what
the Image Pixel module then has to say: PS3.5 8.2 and Annex A.4, PS3.3 C.7.6.3.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pacs import contexts
from storage.base.errors import Malformed, NotSupported

Read = Callable[[int, int], bytes]
"""(offset, length) to at most so many bytes."""

MAX_HEAD: Final = 1 << 20
"""Bytes of a picture within which its header ends."""
MAX_MOVIE_BOX: Final = 64 << 20
"""Bytes of the index of a film."""

_MARKER: Final = 0xFF
_SCAN: Final = 0xDA
_ADOBE: Final = 0xEE
_JPEG_LS: Final = 0xF7
_GREY, _COLOUR = 1, 3
# ISO 10918-1 Table B.1
_PROCESSES: Final = {
    0xC0: contexts.JPEG_BASELINE,
    0xC1: contexts.JPEG_EXTENDED,
    0xC2: contexts.JPEG_FULL_PROGRESSION,
    0xC3: contexts.JPEG_LOSSLESS,
    _JPEG_LS: contexts.JPEG_LS_LOSSLESS,
}
_LOSSLESS: Final = frozenset(
    {
        contexts.JPEG_LOSSLESS,
        contexts.JPEG_LOSSLESS_SV1,
        contexts.JPEG_LS_LOSSLESS,
        contexts.JPEG_2000_LOSSLESS,
        contexts.HTJ2K_LOSSLESS,
        contexts.HTJ2K_LOSSLESS_RPCL,
    }
)
_NOT_CONVERTED: Final = _LOSSLESS | {contexts.JPEG_LS_NEAR_LOSSLESS}
"""Colours are in the stream as they are (PS3.5 8.2.1, 8.2.3)."""
_CAP: Final = 0x50
"""Extended capabilities: high throughput (ISO 15444-15)."""
_BITS: Final = 8

H264_4_1: Final = "1.2.840.10008.1.2.4.102"
H264_4_2: Final = "1.2.840.10008.1.2.4.104"
HEVC_MAIN: Final = "1.2.840.10008.1.2.4.107"
HEVC_MAIN_10: Final = "1.2.840.10008.1.2.4.108"
# ISO 14496-10 A.2 (Baseline, Main, High), A.3 and ISO 23008-2 A.3, A.4
_H264_PROFILES: Final = frozenset({66, 77, 100})
_H264_LEVEL_4_1, _H264_LEVEL_4_2 = 41, 42
_HEVC_PROFILES: Final = {1: (HEVC_MAIN, 8), 2: (HEVC_MAIN_10, 10)}
_HEVC_LEVEL_5_1: Final = 153


@dataclass(frozen=True, slots=True)
class Told:
    """What the Image Pixel module says of a codestream."""

    transfer_syntax_uid: str
    rows: int
    columns: int
    samples: int
    bits: int
    """Of each sample."""
    photometric_interpretation: str
    start: int = 0
    """Where the codestream begins, behind the boxes of a file around it."""
    frames: int = 1
    frame_ms: float = 0.0
    """How long a frame of a film is shown."""

    @property
    def lossy(self) -> bool:
        """Whether something was lost."""
        return self.transfer_syntax_uid not in _LOSSLESS


def read(media_type: str, size: int, piece: Read) -> Told | None:
    """Return what a picture or film of `size` bytes tells, None of a kind that is not read.

    Raises
    ------
    Malformed
        It is not what the media type says, or cut off in its header.
    NotSupported
        No transfer syntax of DICOM is for it.
    """
    if media_type in {"image/jpeg", "image/jls"}:
        return _jpeg(piece(0, MAX_HEAD))
    if media_type in {"image/jp2", "image/jpx", "image/j2c", "image/jphc", "image/jph"}:
        return _jpeg_2000(piece(0, MAX_HEAD))
    if media_type in {"video/mp4", "video/quicktime"}:
        return _film(size, piece)
    return None


# JPEG and JPEG-LS


def _jpeg(head: bytes) -> Told:
    if head[:2] != b"\xff\xd8":
        raise Malformed("no JPEG codestream")
    frame: bytes | None = None
    syntax, adobe = "", -1
    for marker, segment in _segments(head):
        if marker == _ADOBE and segment[:5] == b"Adobe" and len(segment) > 11:  # noqa: PLR2004 - T.872 6.5.3
            adobe = segment[11]
        elif marker in _PROCESSES:
            syntax, frame = _PROCESSES[marker], segment
        elif marker == _SCAN and frame is not None:
            return _frame(frame, _process(syntax, segment), adobe)
    raise Malformed("no picture in the JPEG codestream, or a process that DICOM does not have")


def _segments(head: bytes) -> Iterator[tuple[int, bytes]]:
    at = 2
    while at + 4 <= len(head) and head[at] == _MARKER:
        marker = head[at + 1]
        if marker == _MARKER:
            at += 1
            continue
        length = int.from_bytes(head[at + 2 : at + 4])
        yield marker, head[at + 4 : at + 2 + length]
        at += 2 + length


def _process(syntax: str, scan: bytes) -> str:
    """Return the transfer syntax, which the first scan may narrow down."""
    components = scan[0] if scan else 0
    first = scan[1 + 2 * components : 2 + 2 * components]
    if syntax == contexts.JPEG_LOSSLESS and first == b"\1":
        return contexts.JPEG_LOSSLESS_SV1  # predictor 1, ISO 10918-1 H.1.2.1
    if syntax == contexts.JPEG_LS_LOSSLESS and first != b"\0":
        return contexts.JPEG_LS_NEAR_LOSSLESS  # NEAR, ISO 14495-1 C.2.3
    return syntax


def _frame(segment: bytes, syntax: str, adobe: int) -> Told:
    try:
        bits, rows, columns, samples = struct.unpack_from(">BHHB", segment)
        components = [segment[6 + 3 * n : 8 + 3 * n] for n in range(samples)]
    except struct.error as error:
        raise Malformed("the frame header of the JPEG codestream is cut off") from error
    if not rows or not columns or samples not in {_GREY, _COLOUR}:
        raise NotSupported(f"a JPEG picture of {rows} rows and {samples} components")
    names = bytes(one[0] for one in components if one)
    if samples == _GREY:
        photometric = "MONOCHROME2"
    elif (
        syntax in _LOSSLESS
        or syntax == contexts.JPEG_LS_NEAR_LOSSLESS
        or adobe == 0
        or (adobe < 0 and names == b"RGB")
    ):
        photometric = "RGB"
    else:
        # sampling factors of the first component, ISO 10918-1 B.2.2
        photometric = "YBR_FULL_422" if components[0][1] >> 4 > 1 else "YBR_FULL"
    return Told(syntax, rows, columns, samples, bits, photometric)


# JPEG 2000


def _jpeg_2000(head: bytes) -> Told:
    start = head.find(b"\xff\x4f\xff\x51")
    if start < 0:
        raise Malformed("no JPEG 2000 codestream")
    found = dict(_segments(head[start:]))
    try:
        siz, cod = found[0x51], found[0x52]
        right, bottom, left, top = struct.unpack_from(">IIII", siz, 2)
        (samples,) = struct.unpack_from(">H", siz, 34)
        bits = (siz[36] & 0x7F) + 1
        order, several, reversible = cod[1], cod[4], cod[9] == 1
    except (KeyError, IndexError, struct.error) as error:
        raise Malformed("the header of the JPEG 2000 codestream is cut off") from error
    if samples not in {_GREY, _COLOUR} or right <= left or bottom <= top:
        raise NotSupported(f"a JPEG 2000 picture of {samples} components")
    syntax = _wavelet_syntax(high_throughput=_CAP in found, reversible=reversible, order=order)
    photometric = "MONOCHROME2" if samples == _GREY else "RGB"
    if several and samples == _COLOUR:
        photometric = "YBR_RCT" if reversible else "YBR_ICT"
    return Told(syntax, bottom - top, right - left, samples, bits, photometric, start)


def _wavelet_syntax(*, high_throughput: bool, reversible: bool, order: int) -> str:
    if not high_throughput:
        return contexts.JPEG_2000_LOSSLESS if reversible else contexts.JPEG_2000
    if not reversible:
        return contexts.HTJ2K
    by_resolution = 2  # RPCL, ISO 15444-1 Table A.16
    return contexts.HTJ2K_LOSSLESS_RPCL if order == by_resolution else contexts.HTJ2K_LOSSLESS


# Films


def _film(size: int, piece: Read) -> Told:
    movie = next((box for kind, *box in _file_boxes(size, piece) if kind == b"moov"), None)
    if movie is None:
        raise Malformed("no MP4 file: it has no movie box")
    start, length = movie
    if length > MAX_MOVIE_BOX:
        raise NotSupported(f"a film with an index of {length} bytes")
    content = piece(start, length)
    for kind, track in _boxes(content):
        if kind == b"trak":
            media = _inside(track, b"mdia")
            if _inside(media, b"hdlr")[8:12] == b"vide":
                return _track(media)
    raise Malformed("no moving picture in the MP4 file")


def _file_boxes(size: int, piece: Read) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, offset of the content, its length) of each box of the file."""
    at = 0
    while at + 8 <= size:
        length, kind = struct.unpack(">I4s", piece(at, 8))
        head = 8
        if length == 1:
            (length,) = struct.unpack(">Q", piece(at + 8, 8).ljust(8, b"\0"))
            head = 16
        elif length == 0:
            length = size - at
        if length < head:
            return
        yield kind, at + head, min(length - head, size - at - head)
        at += length


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if length < 8:  # noqa: PLR2004 - a box has at least its head
            return
        yield kind, content[at + 8 : at + length]
        at += length


def _inside(content: bytes, *kinds: bytes) -> bytes:
    """Return the content of the box that is found by going into `kinds` one after the other."""
    for wanted in kinds:
        content = next((inner for kind, inner in _boxes(content) if kind == wanted), b"")
    return content


def _track(media: bytes) -> Told:
    table = _inside(media, b"minf", b"stbl")
    try:
        kind, entry = next(iter(_boxes(_inside(table, b"stsd")[8:])), (b"", b""))
        columns, rows = struct.unpack_from(">HH", entry, 24)
        syntax, bits = _video_syntax(kind, entry[78:])
        (frames,) = struct.unpack_from(">I", _inside(table, b"stsz"), 8)
        frame_ms = _duration_ms(_inside(media, b"mdhd")) / frames if frames else 0.0
    except (struct.error, IndexError) as error:
        raise Malformed("the index of the MP4 file is cut off") from error
    if not (rows and columns and frames):
        raise Malformed("a film without pictures")
    return Told(syntax, rows, columns, _COLOUR, bits, "YBR_PARTIAL_420", 0, frames, frame_ms)


def _video_syntax(kind: bytes, boxes: bytes) -> tuple[str, int]:
    """Return the transfer syntax and the bits of a sample (PS3.5 8.2.7, 8.2.10, 8.2.11)."""
    if kind in {b"avc1", b"avc3"}:
        configuration = _inside(boxes, b"avcC")
        profile, level = configuration[1], configuration[3]
        if profile in _H264_PROFILES and level <= _H264_LEVEL_4_2:
            return (H264_4_1 if level <= _H264_LEVEL_4_1 else H264_4_2), _BITS
        raise NotSupported(f"H.264 of profile {profile} and level {level / 10}")
    if kind in {b"hvc1", b"hev1"}:
        configuration = _inside(boxes, b"hvcC")
        profile, level = configuration[1] & 0x1F, configuration[12]
        if profile in _HEVC_PROFILES and level <= _HEVC_LEVEL_5_1:
            return _HEVC_PROFILES[profile]
        raise NotSupported(f"HEVC of profile {profile} and level {level / 30}")
    raise NotSupported(f"a film that is coded as {kind.decode('latin-1', 'replace')!r}")


def _duration_ms(header: bytes) -> float:
    """Return the duration in a media header box (ISO 14496-12 8.4.2)."""
    if header[:1] == b"\1":
        scale, duration = struct.unpack_from(">IQ", header, 20)
    else:
        scale, duration = struct.unpack_from(">II", header, 12)
    return duration * 1000 / scale if scale else 0.0
