"""A film in an MPEG-2 transport stream put into an MP4 file, not decoded and not coded anew.

    transport packets ─ PES packets of the first film ─ access units ─ samples of the file

In DICOM, H.264 and HEVC lie in either of the two (PS3.5 8.2.7 to 8.2.11); browsers play MP4
(ISO 13818-1, ISO 14496-12, ISO 14496-15).
"""

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from pacs.render import films
from storage.base.errors import Malformed, NotSupported

PACKET: Final = 188
_SYNC: Final = 0x47
_H264: Final = 0x1B
_HEVC: Final = 0x24
_CLOCK: Final = 90_000
_WRAP: Final = 1 << 33
MAX_SAMPLES: Final = 1_000_000
_START: Final = b"\0\0\1"


@dataclass(frozen=True, slots=True)
class Sample:
    """One access unit."""

    data: bytes
    """Its NAL units, each behind its length."""
    decoded_at: int
    shown_at: int
    """In ticks of 90 kHz."""
    key: bool


@dataclass(slots=True)
class _Parameters:
    """The parameter sets of a film, by the type of their NAL units."""

    sets: dict[int, list[bytes]] = field(default_factory=dict)

    def keep(self, kind: int, unit: bytes) -> None:
        """Keep a parameter set that is not kept yet."""
        known = self.sets.setdefault(kind, [])
        if unit not in known and len(known) < 16:  # noqa: PLR2004 - a film has one or two
            known.append(unit)


def is_transport_stream(start: bytes) -> bool:
    """Return whether a stream begins with two transport packets."""
    return len(start) > PACKET and start[0] == _SYNC and start[PACKET] == _SYNC


def is_mp4(start: bytes) -> bool:
    """Return whether a stream begins as an MP4 file does."""
    return start[4:8] == b"ftyp"


def to_mp4(stream: bytes, columns: int, rows: int) -> bytes:
    """Return the film of a transport stream as an MP4 file.

    Raises
    ------
    NotSupported
        It is of a kind that no MP4 file for browsers holds.
    Malformed
        It is cut off or broken.
    """
    try:
        kind, packets = _film(stream)
        parameters = _Parameters()
        samples = [
            sample
            for packet in packets
            if (sample := _sample(kind, packet, parameters)) is not None
        ]
    except (struct.error, IndexError) as error:
        raise Malformed("a transport stream that is cut off") from error
    while samples and not samples[0].key:
        samples.pop(0)
    if not samples:
        raise Malformed("a transport stream without a film that can be begun")
    description = _DESCRIPTIONS[kind](parameters, columns, rows)
    return _file(samples, description, columns, rows)


# The transport stream (ISO 13818-1 2.4)


def _film(stream: bytes) -> tuple[int, Iterator[bytes]]:
    """Return the stream type of the first film and its PES packets."""
    tables: dict[int, int] = {0: 0}
    for pid, begins, payload in _packets(stream):
        if pid not in tables or not begins or not payload:
            continue
        section = payload[1 + payload[0] :]
        if section[0] == 0:
            for at in range(8, _section_end(section), 4):
                program, table = struct.unpack_from(">HH", section, at)
                if program:
                    tables[table & 0x1FFF] = program
        elif section[0] == 2:  # noqa: PLR2004 - a program map
            found = _mapped(section)
            if found is not None:
                return found[0], _pes(stream, found[1])
    raise NotSupported("a transport stream without H.264 or HEVC")


def _section_end(section: bytes) -> int:
    """Return where the entries of a section end, before its checksum."""
    return 3 + (_short(section, 1) & 0x0FFF) - 4


def _short(content: bytes, at: int) -> int:
    number: int = struct.unpack_from(">H", content, at)[0]
    return number


def _mapped(section: bytes) -> tuple[int, int] | None:
    at = 12 + (_short(section, 10) & 0x0FFF)
    end = _section_end(section)
    while at + 5 <= end:
        kind, pid, length = struct.unpack_from(">BHH", section, at)
        if kind in _DESCRIPTIONS:
            return kind, pid & 0x1FFF
        at += 5 + (length & 0x0FFF)
    return None


def _packets(stream: bytes) -> Iterator[tuple[int, bool, bytes]]:
    """Yield packet identifier, whether a unit begins in it, and payload of each packet."""
    for at in range(0, len(stream) - PACKET + 1, PACKET):
        sync, flags, control = struct.unpack_from(">BHB", stream, at)
        if sync != _SYNC:
            raise Malformed(f"no transport packet at byte {at}")
        start = at + 4
        if control & 0x20:
            start += 1 + stream[start]
        if control & 0x10 and start < at + PACKET:
            yield flags & 0x1FFF, bool(flags & 0x4000), stream[start : at + PACKET]


def _pes(stream: bytes, wanted: int) -> Iterator[bytes]:
    parts: list[bytes] = []
    for pid, begins, payload in _packets(stream):
        if pid != wanted:
            continue
        if begins and parts:
            yield b"".join(parts)
            parts = []
        if begins or parts:
            parts.append(payload)
    if parts:
        yield b"".join(parts)


def _stamp(field_: bytes) -> int:
    high, middle, low = field_[0], _short(field_, 1), _short(field_, 3)
    return (high >> 1 & 7) << 30 | middle >> 1 << 15 | low >> 1


# Access units (ISO 14496-15 5.3, 8.3)


def _sample(kind: int, packet: bytes, parameters: _Parameters) -> Sample | None:
    if packet[:3] != _START or not packet[7] & 0x80:
        return None  # no time: it cannot be shown
    shown_at = decoded_at = _stamp(packet[9:14])
    if packet[7] & 0x40:
        decoded_at = _stamp(packet[14:19])
    units, key, begun = [], False, 0
    for unit in _units(packet[9 + packet[8] :]):
        type_ = _type(kind, unit)
        if type_ in _PARAMETERS[kind]:
            parameters.keep(type_, unit)
        begun += type_ == _DELIMITER[kind]
        key = key or type_ in _KEYS[kind]
        units.append(struct.pack(">I", len(unit)) + unit)
    if begun > 1:
        raise NotSupported("a transport stream with several pictures to a packet")
    return Sample(b"".join(units), decoded_at, shown_at, key) if units else None


def _units(content: bytes) -> Iterator[bytes]:
    """Yield the NAL units of a byte stream (ISO 14496-10 Annex B)."""
    start = content.find(_START)
    while start >= 0:
        end = content.find(_START, start + 3)
        unit = content[start + 3 : end if end >= 0 else len(content)].rstrip(b"\0")
        if unit:
            yield unit
        start = end


def _type(kind: int, unit: bytes) -> int:
    return unit[0] & 0x1F if kind == _H264 else unit[0] >> 1 & 0x3F


_VPS, _SPS, _PPS = 32, 33, 34
_PARAMETERS: Final = {_H264: frozenset({7, 8}), _HEVC: frozenset({_VPS, _SPS, _PPS})}
_DELIMITER: Final = {_H264: 9, _HEVC: 35}
_KEYS: Final = {_H264: frozenset({5}), _HEVC: frozenset(range(16, 22))}


def _first(parameters: _Parameters, kind: int, least: int) -> bytes:
    found = parameters.sets.get(kind, ())
    if not found or len(found[0]) < least:
        raise Malformed("a film without its parameter sets")
    return found[0]


def _counted(units: Sequence[bytes]) -> bytes:
    return b"".join(struct.pack(">H", len(unit)) + unit for unit in units)


def _avc(parameters: _Parameters, columns: int, rows: int) -> bytes:
    """Return the sample description of H.264 (ISO 14496-15 5.3.3)."""
    sps, pps = (parameters.sets.get(kind, []) for kind in (7, 8))
    first = _first(parameters, 7, 4)
    _first(parameters, 8, 1)
    configuration = (
        bytes((1, *first[1:4], 0xFF, 0xE0 | len(sps)))
        + _counted(sps)
        + bytes((len(pps),))
        + _counted(pps)
    )
    if first[1] >= 100:  # noqa: PLR2004 - High profile: 4:2:0 of 8 bits, as DICOM demands
        configuration += bytes((0xFD, 0xF8, 0xF8, 0))
    return films.visual(b"avc1", columns, rows, films.box(b"avcC", configuration))


def _hevc(parameters: _Parameters, columns: int, rows: int) -> bytes:
    """Return the sample description of HEVC (ISO 14496-15 8.3.3)."""
    sps = _first(parameters, _SPS, 15).replace(b"\0\0\3", b"\0\0")
    level = sps[3:15]  # profile, tier and level, behind two bytes of head and one of layers
    ten_bits = level[0] & 0x1F == 2  # noqa: PLR2004 - Main 10
    depth = 0xF8 | (2 if ten_bits else 0)
    layers = (sps[2] >> 1 & 7) + 1
    head = bytes((1,)) + level + struct.pack(">HBBBB", 0xF000, 0xFC, 0xFD, depth, depth)
    arrays = b""
    kinds = [kind for kind in (_VPS, _SPS, _PPS) if parameters.sets.get(kind)]
    for kind in kinds:
        units = parameters.sets[kind]
        arrays += struct.pack(">BH", 0x80 | kind, len(units)) + _counted(units)
    nested = layers << 3 | (sps[2] & 1) << 2 | 3
    configuration = head + struct.pack(">HBB", 0, nested, len(kinds)) + arrays
    return films.visual(b"hvc1", columns, rows, films.box(b"hvcC", configuration))


_DESCRIPTIONS: Final = {_H264: _avc, _HEVC: _hevc}


# The file


def _file(samples: Sequence[Sample], description: bytes, columns: int, rows: int) -> bytes:
    if len(samples) > MAX_SAMPLES:
        raise NotSupported(f"a film of more than {MAX_SAMPLES} pictures")
    steps = [
        (after.decoded_at - before.decoded_at) % _WRAP
        for before, after in itertools.pairwise(samples)
    ]
    if any(not 0 < step < 60 * _CLOCK for step in steps):
        raise Malformed("a transport stream whose times do not go on")
    lasting = [*steps, steps[-1] if steps else _CLOCK // 25]
    late = [(one.shown_at - one.decoded_at) % _WRAP for one in samples]
    if any(one > 60 * _CLOCK for one in late):
        raise Malformed("a picture that is shown before it is decoded")
    keys = [number for number, one in enumerate(samples, 1) if one.key]
    track = films.Track(description, [one.data for one in samples], keys, lasting, late)
    return films.file_of(track, (columns, rows), _CLOCK)
