"""What an object says of how its pixels are to be seen (PS3.3 C.7.6.3, C.11.1, C.11.2)."""

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pacs import frames
from pacs.frames import ImagePixel
from pacs.header import Header
from pacs.render.options import Window
from storage.base.errors import Malformed

Bytes = npt.NDArray[np.uint8]
MAX_ENTRIES: Final = 65536

_PIXEL_PADDING_VALUE: Final = 0x00280120
_PIXEL_PADDING_RANGE_LIMIT: Final = 0x00280121
_MODALITY_LUT: Final = 0x00283000
_VOI_LUT: Final = 0x00283010
_LUT_DESCRIPTOR: Final = 0x00283002
_LUT_DATA: Final = 0x00283006
_SHARED_GROUPS: Final = 0x52009229
_FRAME_GROUPS: Final = 0x52009230
_PIXEL_VALUE_TRANSFORMATION: Final = 0x00289145
_FRAME_VOI_LUT: Final = 0x00289132
_PALETTE: Final = (
    (0x00281101, 0x00281201, 0x00281221),
    (0x00281102, 0x00281202, 0x00281222),
    (0x00281103, 0x00281203, 0x00281223),
)
"""Descriptor, data and segmented data of red, green and blue (PS3.3 C.7.6.3.1.5)."""


@dataclass(frozen=True, slots=True)
class Table:
    """A look-up table: the first entry stands for stored value `first` and all below it."""

    first: int
    entries: tuple[int, ...]
    bits: int


@dataclass(frozen=True, slots=True)
class Look:
    """How stored values become grey levels or colours; hashable, so that tables can be kept."""

    image: ImagePixel
    high_bit: int
    slope: float = 1.0
    intercept: float = 0.0
    modality: Table | None = None
    window: Window | None = None
    voi: Table | None = None
    inverse: bool = False
    padding: tuple[int, int] | None = None
    """The lowest and the highest stored value that is no part of the image."""
    floating: bool = False
    """Float or double float pixel data, which have no Pixel Representation."""
    palette: tuple[Table, Table, Table] | None = None
    presentation: Table | None = None
    """The presentation LUT, of a presentation state."""
    tint: tuple[Table, Table, Table] | None = None
    """The colours for all levels, of a pseudo-color presentation state (PS3.4 N.2.2)."""


def look_of(header: Header, image: ImagePixel) -> Look:
    """Read how the object is to be seen.

    Raises
    ------
    Malformed
        A table or a number that decides it cannot be read.
    """
    rescale, voi = _groups(header)
    photometric = image.photometric_interpretation
    inverse = photometric == "MONOCHROME1"
    if header.text("PresentationLUTShape") == "INVERSE":
        inverse = True
    modality = header.first_item(_MODALITY_LUT)
    voi_lut = header.first_item(_VOI_LUT)
    window = _window(voi)
    return Look(
        image,
        high_bit=header.number(frames.HIGH_BIT, image.bits_stored - 1),
        slope=_number(rescale, "RescaleSlope", 1.0) or 1.0,
        intercept=_number(rescale, "RescaleIntercept", 0.0),
        modality=_table(modality, _LUT_DESCRIPTOR, _LUT_DATA) if modality else None,
        window=window,
        voi=_table(voi_lut, _LUT_DESCRIPTOR, _LUT_DATA) if voi_lut and not window else None,
        inverse=inverse,
        padding=_padding(header, image),
        floating=image.bits_allocated > 16 and not header.text(frames.PIXEL_REPRESENTATION),  # noqa: PLR2004
        palette=palette(header) if photometric == "PALETTE COLOR" else None,
    )


def _groups(header: Header) -> tuple[Header, Header]:
    """Return where rescale and window stand: in an enhanced object, in its functional groups.

    Of the groups by frame, those of the first frame are taken for all.
    """
    rescale = voi = header
    for outer in (_FRAME_GROUPS, _SHARED_GROUPS):
        groups = header.first_item(outer)
        if groups is None:
            continue
        rescale = groups.first_item(_PIXEL_VALUE_TRANSFORMATION) or rescale
        voi = groups.first_item(_FRAME_VOI_LUT) or voi
    return rescale, voi


def _window(header: Header) -> Window | None:
    center, width = (header.text(name) for name in ("WindowCenter", "WindowWidth"))
    if not center or not width:
        return None
    function = header.text("VOILUTFunction").partition("\\")[0] or "LINEAR"
    return usable_window(
        Window(_number(header, "WindowCenter", 0.0), _number(header, "WindowWidth", 0.0), function)
    )


def usable_window(window: Window) -> Window | None:
    """Return the window if the function is known and the width is one of it (PS3.3 C.11.2.1.2)."""
    wide = window.width >= 1 if window.function == "LINEAR" else window.width > 0
    return window if wide and window.function in {"LINEAR", "LINEAR_EXACT", "SIGMOID"} else None


def _number(header: Header, keyword: str, default: float) -> float:
    text = header.text(keyword).partition("\\")[0]
    try:
        number = float(text) if text else default
    except ValueError:
        raise Malformed(f"{keyword} is no number") from None
    return number if np.isfinite(number) else default


def _padding(header: Header, image: ImagePixel) -> tuple[int, int] | None:
    """Read Pixel Padding Value and Range Limit (PS3.3 C.7.5.1.1.2)."""
    ends = [_cell(header, image, tag) for tag in (_PIXEL_PADDING_VALUE, _PIXEL_PADDING_RANGE_LIMIT)]
    known = [end for end in ends if end is not None]
    return (min(known), max(known)) if ends[0] is not None else None


def _cell(header: Header, image: ImagePixel, tag: int) -> int | None:
    raw = header.value(tag)
    if len(raw) != 2:  # noqa: PLR2004 - US or SS
        return None
    if header.codec.big_endian:
        raw = raw[::-1]
    return int.from_bytes(raw, "little", signed=image.pixel_representation == 1)


def _table(header: Header, descriptor: int, data: int) -> Table:
    """Read a look-up table (PS3.3 C.11.1.1)."""
    order = ">" if header.codec.big_endian else "<"
    raw = header.value(descriptor)
    if len(raw) != 6:  # noqa: PLR2004 - three values of 16 bits
        raise Malformed("a look-up table without a descriptor of three values")
    count, _, bits = struct.unpack(f"{order}HHH", raw)
    signed = header.vr(descriptor) == "SS" or _is_signed(header)
    first: int = struct.unpack(f"{order}H{'h' if signed else 'H'}H", raw)[1]
    count = count or MAX_ENTRIES
    content = header.value(data)
    if len(content) >= 2 * count:
        entries = np.frombuffer(content, f"{order}u2", count)
    elif len(content) >= count:
        entries = np.frombuffer(content, np.uint8, count).astype(np.uint16)
    else:
        raise Malformed(f"a look-up table of {count} entries in {len(content)} bytes")
    return Table(first, tuple(entries.tolist()), min(max(bits, 8), 16))


def _is_signed(header: Header) -> bool:
    return header.text(frames.PIXEL_REPRESENTATION) == "1"


def palette(header: Header) -> tuple[Table, Table, Table]:
    """Read the tables of red, green and blue (PS3.3 C.7.6.3.1.5).

    Raises
    ------
    Malformed
        One of them is not there, or cannot be read.
    """
    tables = []
    for descriptor, data, segmented in _PALETTE:
        if header.value(data):
            tables.append(_table(header, descriptor, data))
        else:
            tables.append(_segmented(header, descriptor, segmented))
    red, green, blue = tables
    return red, green, blue


def _segmented(header: Header, descriptor: int, data: int) -> Table:
    """Read a segmented palette (PS3.3 C.7.9.2): runs of values, ramps, and repetitions."""
    order = ">" if header.codec.big_endian else "<"
    raw, content = header.value(descriptor), header.value(data)
    if len(raw) != 6:  # noqa: PLR2004 - three values of 16 bits
        raise Malformed("a palette without a descriptor of three values")
    count, first, bits = struct.unpack(f"{order}HHH", raw)
    count = count or MAX_ENTRIES
    words = np.frombuffer(content, f"{order}u2").tolist()
    entries = _expanded(words, 0, len(words), count, [])
    if len(entries) < count:
        raise Malformed(f"a segmented palette of {len(entries)} entries, {count} are told")
    return Table(first, tuple(entries[:count]), min(max(bits, 8), 16))


def _expanded(words: list[int], at: int, segments: int, most: int, entries: list[int]) -> list[int]:
    """Expand at most `segments` segments from `at`, to at most `most` entries."""
    while segments and at + 2 <= len(words) and len(entries) < most:
        kind, length = words[at], words[at + 1]
        if kind == 0:
            entries += words[at + 2 : at + 2 + length]
            at += 2 + length
        elif kind == 1 and entries and at + 2 < len(words):
            ramp = np.linspace(entries[-1], words[at + 2], min(length, most) + 1)[1:]
            entries += np.rint(ramp).astype(int).tolist()
            at += 3
        elif kind == 2 and at + 4 <= len(words):  # noqa: PLR2004 - as the section numbers them
            place = (words[at + 2] | words[at + 3] << 16) // 2
            if place >= at:
                raise Malformed("a segmented palette that repeats what is to come")
            _expanded(words, place, length, most, entries)
            at += 4
        else:
            raise Malformed("a segmented palette with an unknown segment")
        segments -= 1
    return entries
