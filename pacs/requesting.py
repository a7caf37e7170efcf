"""The Request Attributes Sequence of an order, for datasets that do not name it (PS3.3 C.7.3.1).

A dataset whose own sequence names one of the requested procedures keeps it: the device took it
from the worklist, and knows more of it.
"""

import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from pacs import header
from pacs.elements import Event, Kind
from pacs.encoding import ITEM, SHORT_VRS, Codec
from pacs.part10 import Buffer

KEYWORD: Final = "RequestAttributesSequence"
TAG: Final = 0x00400275
LAST_GROUP: Final = 0x0040FFFF
_ID: Final = "RequestedProcedureID"
_ID_TAG: Final = 0x00401001

Item = Mapping[str, str]
"""Keyword → text."""


def ids(items: Sequence[Item]) -> set[str]:
    """Return the requested procedures of these items."""
    return {item[_ID] for item in items if _ID in item}


def names_one(events: Sequence[Event], start: Buffer, wanted: Collection[str]) -> bool:
    """Return whether the sequence of a dataset, of which `events` tells, names one of these."""
    depth, within = 0, False
    for kind, tag, _, at, length, _ in events:
        if kind is Kind.SEQUENCE:
            within = within or (depth == 0 and tag == TAG)
            depth += 1
        elif kind is Kind.SEQUENCE_END:
            depth -= 1
            within = within and depth > 0
        elif kind is Kind.VALUE and within and depth == 1 and tag == _ID_TAG:
            text = bytes(start[at : at + length]).decode("utf-8", "replace")
            if text.strip(" \0") in wanted:
                return True
    return False


def json_names_one(made: Mapping[str, Any], wanted: Collection[str]) -> bool:
    """Return the same of a DICOM JSON object."""
    items = made.get(f"{TAG:08X}", {}).get("Value", [])
    found = (item.get(f"{_ID_TAG:08X}", {}).get("Value", [""]) for item in items)
    return any(str(values[0]).strip() in wanted for values in found if values)


def encoded(items: Sequence[Item], codec: Codec, write: Callable[[str, str, str], bytes]) -> bytes:
    """Return the items as they stand in a sequence; `write` makes the value of a text.

    `write` takes keyword, VR and text.
    """
    order = ">" if codec.big_endian else "<"
    return b"".join(_item(item, codec, order, write) for item in items)


def _item(item: Item, codec: Codec, order: str, write: Callable[[str, str, str], bytes]) -> bytes:
    pieces = []
    for tag, keyword in sorted((header.tag_of(keyword), keyword) for keyword in item):
        vr = header.dictionary_vr(tag)
        value = write(keyword, vr, item[keyword])
        number = tag >> 16, tag & 0xFFFF
        if codec.implicit:
            pieces.append(struct.pack(f"{order}HHI", *number, len(value)))
        elif vr.encode() in SHORT_VRS:
            pieces.append(struct.pack(f"{order}HH2sH", *number, vr.encode(), len(value)))
        else:
            pieces.append(struct.pack(f"{order}HH2sHI", *number, vr.encode(), 0, len(value)))
        pieces.append(value)
    content = b"".join(pieces)
    return struct.pack(f"{order}HHI", ITEM >> 16, ITEM & 0xFFFF, len(content)) + content
