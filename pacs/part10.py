"""DICOM files: the head before the dataset (PS3.10 Section 7).

    128 bytes preamble, "DICM", group 0002 in Explicit VR Little Endian, dataset

Our own heads are written here and read strictly; files that others wrote are
split tolerantly, since media hold them without preamble, without group length
or without any file meta information. Nothing here copies a dataset: an `mmap` of a huge
file costs its head.
"""

import re
import struct
from dataclasses import dataclass
from datetime import datetime
from mmap import mmap
from typing import Final, Literal

import msgspec

from pacs import contexts
from storage.base.errors import Malformed

Buffer = bytes | bytearray | memoryview | mmap

PREAMBLE: Final = bytes(128)
PREFIX: Final = b"DICM"
KEPT_HEAD_BYTES: Final = 1024
"""Length of every head with provenance; a multiple of it when a peer's UIDs are absurdly long."""
_MAX_NAME: Final = 64
_LENGTH_ELEMENT: Final = 12
MAX_META_BYTES: Final = 1 << 20
"""No file meta information is longer; what claims to be is not ours to read."""
_MAX_TEXT: Final = 1024
_SHORT: Final = 8
"""Bytes before the value of an element with a 16-bit length."""
_LONG: Final = 12
_UNDEFINED: Final = 0xFFFFFFFF
_GROUP_LENGTH: Final = 0x0000
_PRIVATE_INFORMATION_CREATOR: Final = 0x0100
_PRIVATE_INFORMATION: Final = 0x0102

# Owner of (0002,0102) in the heads of the spool (PS3.10 7.1), after PS3.5 B.2.
_PROVENANCE_CREATOR: Final = contexts.IMPLEMENTATION_CLASS_UID
_LONG_VRS: Final = frozenset(
    (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
)
_FIRST_GROUPS: Final = range(0x0001, 0x0100)
"""Groups with which datasets begin; wide enough for odd ones, narrow enough for other files."""
_VR: Final = re.compile(rb"[A-Z]{2}")


@dataclass(frozen=True, slots=True)
class Provenance:
    """How an object came to us."""

    received_at: datetime
    """Aware, UTC."""
    wire: Literal["c-store", "stow", "import"]
    source_ae_title: str = ""
    called_ae_title: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before a dataset; texts are '' when the file does not say."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    provenance: Provenance | None
    length: int
    """Bytes before the dataset."""


def head(
    sop_class_uid: str,
    sop_instance_uid: str,
    transfer_syntax_uid: str,
    provenance: Provenance | None = None,
) -> bytes:
    """Return preamble, prefix and file meta information for a dataset (PS3.10 Table 7.1-1).

    The UIDs are a peer's words and are written as given, even when they are no
    UIDs: what arrived must be kept first and judged later.
    """
    elements = [
        _element(0x0001, b"OB", b"\x00\x01"),
        _element(0x0002, b"UI", _uid(sop_class_uid)),
        _element(0x0003, b"UI", _uid(sop_instance_uid)),
        _element(0x0010, b"UI", _uid(transfer_syntax_uid)),
        _element(0x0012, b"UI", _uid(contexts.IMPLEMENTATION_CLASS_UID)),
        _element(0x0013, b"SH", contexts.IMPLEMENTATION_VERSION_NAME.encode()),
    ]
    if provenance is not None:
        elements.append(_element(_PRIVATE_INFORMATION_CREATOR, b"UI", _uid(_PROVENANCE_CREATOR)))
        elements.append(_told(provenance, sum(map(len, elements))))
    meta = b"".join(elements)
    length = _element(_GROUP_LENGTH, b"UL", struct.pack("<I", len(meta)))
    return b"".join((PREAMBLE, PREFIX, length, meta))


def read_head(buffer: Buffer) -> Head:
    """Read the head of a Part 10 file.

    Raises
    ------
    Malformed
        There is no preamble and prefix, or the file meta information is cut off,
        broken or without a Transfer Syntax UID.
    """
    if buffer[128:132] != PREFIX:
        raise Malformed("not a DICOM file: no DICM prefix at byte 128")
    meta, end = _meta(buffer, 132)
    found = _head(meta, end)
    if not found.transfer_syntax_uid:
        raise Malformed("Transfer Syntax UID (0002,0010) is missing from the file meta information")
    return found


def split(buffer: Buffer) -> Head:
    """Find where the dataset of a file that others wrote begins, and its transfer syntax.

    The preamble, the file meta information and its group length may be missing or
    wrong. Without a Transfer Syntax UID the encoding of the dataset decides.

    Raises
    ------
    Malformed
        The file is cut off inside its head, or its first element is no DICOM.
    """
    start = _meta_start(buffer)
    meta, end = _meta(buffer, start)
    found = _head(meta, end)
    if found.transfer_syntax_uid:
        return found
    return Head(
        found.sop_class_uid,
        found.sop_instance_uid,
        guess_transfer_syntax(buffer, end),
        found.provenance,
        end,
    )


def guess_transfer_syntax(buffer: Buffer, offset: int = 0) -> str:
    """Return the uncompressed transfer syntax in which the element at `offset` is encoded.

    Raises
    ------
    Malformed
        The bytes are not the start of a dataset.
    """
    start = bytes(buffer[offset : offset + _SHORT])
    if len(start) < _SHORT:
        raise Malformed(f"no dataset at byte {offset}: the data ends")
    explicit = _VR.fullmatch(start, 4, 6) is not None
    if int.from_bytes(start[:2], "little") in _FIRST_GROUPS and explicit:
        return contexts.EXPLICIT_VR_LITTLE_ENDIAN
    if int.from_bytes(start[:2], "big") in _FIRST_GROUPS and explicit:
        return contexts.EXPLICIT_VR_BIG_ENDIAN
    if explicit or int.from_bytes(start[:2], "little") not in _FIRST_GROUPS:
        raise Malformed(f"not DICOM: no dataset begins at byte {offset}")
    (length,) = struct.unpack_from("<I", start, 4)
    if length != _UNDEFINED and length > len(buffer) - offset - _SHORT:
        raise Malformed(f"no dataset at byte {offset}: the first element runs past the end")
    return contexts.IMPLICIT_VR_LITTLE_ENDIAN


def _told(provenance: Provenance, before: int) -> bytes:
    """Return the provenance, padded so that the whole head fills `KEPT_HEAD_BYTES`.

    An object's key says nothing of its head, so the same dataset from two peers must
    begin at the same place.
    """
    content = msgspec.json.encode(
        {
            "received_at": provenance.received_at,
            "wire": provenance.wire,
            "source_ae_title": _name(provenance.source_ae_title),
            "called_ae_title": _name(provenance.called_ae_title),
            "address": _name(provenance.address),
        }
    )
    start = len(PREAMBLE) + len(PREFIX) + _LENGTH_ELEMENT + before + _LONG
    return _element(
        _PRIVATE_INFORMATION,
        b"OB",
        content.ljust(len(content) + -(start + len(content)) % KEPT_HEAD_BYTES),
    )


def _name(text: str) -> str:
    """Return the beginning of a text that takes no more than 128 bytes of JSON."""
    shown = "".join(one if one.isprintable() else "?" for one in text[:_MAX_NAME])
    return shown.encode()[: 2 * _MAX_NAME].decode(errors="ignore")


def _uid(text: str) -> bytes:
    value = text[:_MAX_TEXT].encode("latin-1", "replace")
    return value + b"\0" * (len(value) % 2)


def _element(number: int, vr: bytes, value: bytes) -> bytes:
    if vr == b"OB":
        padded = value + b"\0" * (len(value) % 2)
        return struct.pack("<HH2sHI", 2, number, vr, 0, len(padded)) + padded
    padded = value if vr in (b"UI", b"UL") else value + b" " * (len(value) % 2)
    return struct.pack("<HH2sH", 2, number, vr, len(padded)) + padded


def _meta_start(buffer: Buffer) -> int:
    if buffer[128:132] == PREFIX:
        return 132
    return 4 if buffer[:4] == PREFIX else 0


def _meta(buffer: Buffer, start: int) -> tuple[dict[int, bytes], int]:
    """Read group 0002 from `start`; return its values by element number, and where it ends."""
    meta: dict[int, bytes] = {}
    position = start
    declared_end = -1
    while buffer[position : position + 2] == b"\x02\x00":
        if position == declared_end and _is_deflated(meta):
            break  # a deflate stream may begin like group 0002
        number, value_start, length = _meta_element(buffer, position)
        position = value_start + length
        if position > len(buffer) or position - start > MAX_META_BYTES:
            raise Malformed(f"(0002,{number:04X}) at byte {value_start}: the value is cut off")
        meta[number] = bytes(buffer[value_start:position])
        if number == _GROUP_LENGTH:
            declared_end = position + int.from_bytes(meta[_GROUP_LENGTH], "little")
    return meta, position


def _meta_element(buffer: Buffer, position: int) -> tuple[int, int, int]:
    start = bytes(buffer[position : position + _LONG])
    if len(start) < _SHORT:
        raise Malformed(f"group 0002 at byte {position}: the data ends inside an element")
    _, number, vr, length = struct.unpack_from("<HH2sH", start)
    if not _VR.fullmatch(vr):  # some write it implicit, against PS3.10 7.1
        return number, position + _SHORT, struct.unpack_from("<I", start, 4)[0]
    if vr not in _LONG_VRS:
        return number, position + _SHORT, length
    if len(start) < _LONG:
        raise Malformed(f"(0002,{number:04X}) at byte {position}: the data ends inside an element")
    return number, position + _LONG, struct.unpack_from("<I", start, _SHORT)[0]


def _is_deflated(meta: dict[int, bytes]) -> bool:
    return _text(meta, 0x0010) == contexts.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN


def _text(meta: dict[int, bytes], number: int) -> str:
    return meta.get(number, b"").decode("latin-1").strip("\0 ")


def _head(meta: dict[int, bytes], length: int) -> Head:
    return Head(
        sop_class_uid=_text(meta, 0x0002),
        sop_instance_uid=_text(meta, 0x0003),
        transfer_syntax_uid=_text(meta, 0x0010),
        provenance=_provenance(meta),
        length=length,
    )


def _provenance(meta: dict[int, bytes]) -> Provenance | None:
    """Read our own (0002,0102); another owner's private information is not ours to read."""
    if _text(meta, _PRIVATE_INFORMATION_CREATOR) != _PROVENANCE_CREATOR:
        return None
    try:
        return msgspec.json.decode(
            meta.get(_PRIVATE_INFORMATION, b"").rstrip(b"\0"), type=Provenance
        )
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
