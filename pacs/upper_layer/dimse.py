"""Command sets: encoded and read by hand, always in Implicit VR Little Endian (PS3.7 6.3).

A message costs microseconds here; building the same set with a general DICOM
library costs a hundred times that, for every instance that is received.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pacs.upper_layer.faults import ProtocolFault

# PS3.7 E.1, Command Field (0000,0100)
C_STORE_RQ: Final = 0x0001
C_GET_RQ: Final = 0x0010
C_FIND_RQ: Final = 0x0020
C_MOVE_RQ: Final = 0x0021
C_ECHO_RQ: Final = 0x0030
C_CANCEL_RQ: Final = 0x0FFF
N_EVENT_REPORT_RQ: Final = 0x0100
N_GET_RQ: Final = 0x0110
N_SET_RQ: Final = 0x0120
N_ACTION_RQ: Final = 0x0130
N_CREATE_RQ: Final = 0x0140
N_DELETE_RQ: Final = 0x0150
RESPONSE: Final = 0x8000

NO_DATA_SET: Final = 0x0101
DATA_SET: Final = 0x0001
MEDIUM: Final = 0x0000

MAX_COMMAND_BYTES: Final = 64 * 1024
MAX_COMMENT: Final = 64

_ELEMENT: Final = struct.Struct("<HHI")
_US: Final = struct.Struct("<H")
_SHORT: Final = struct.Struct("<HHIH")
_GROUP_LENGTH: Final = struct.Struct("<HHII")


@dataclass(slots=True, kw_only=True)
class Command:
    """One command set; None means that the element is absent."""

    command_field: int
    affected_sop_class_uid: str | None = None
    requested_sop_class_uid: str | None = None
    message_id: int | None = None
    message_id_being_responded_to: int | None = None
    move_destination: str | None = None
    priority: int | None = None
    command_data_set_type: int = NO_DATA_SET
    status: int | None = None
    offending_element: tuple[int, ...] | None = None
    error_comment: str | None = None
    error_id: int | None = None
    affected_sop_instance_uid: str | None = None
    requested_sop_instance_uid: str | None = None
    event_type_id: int | None = None
    attribute_identifier_list: tuple[int, ...] | None = None
    action_type_id: int | None = None
    number_of_remaining_suboperations: int | None = None
    number_of_completed_suboperations: int | None = None
    number_of_failed_suboperations: int | None = None
    number_of_warning_suboperations: int | None = None
    move_originator_application_entity_title: str | None = None
    move_originator_message_id: int | None = None

    @property
    def has_data_set(self) -> bool:
        """Whether a data set follows (PS3.7 E.1, Command Data Set Type)."""
        return self.command_data_set_type != NO_DATA_SET

    @property
    def is_response(self) -> bool:
        """Whether this is an ``-RSP``."""
        return bool(self.command_field & RESPONSE)


class _Vr(StrEnum):
    UI = "UI"
    US = "US"
    AE = "AE"
    LO = "LO"
    AT = "AT"


# PS3.7 Table E.1-1: the elements that the services of ours use, in order of their tags
_ELEMENTS: Final[tuple[tuple[int, str, _Vr], ...]] = (
    (0x0002, "affected_sop_class_uid", _Vr.UI),
    (0x0003, "requested_sop_class_uid", _Vr.UI),
    (0x0100, "command_field", _Vr.US),
    (0x0110, "message_id", _Vr.US),
    (0x0120, "message_id_being_responded_to", _Vr.US),
    (0x0600, "move_destination", _Vr.AE),
    (0x0700, "priority", _Vr.US),
    (0x0800, "command_data_set_type", _Vr.US),
    (0x0900, "status", _Vr.US),
    (0x0901, "offending_element", _Vr.AT),
    (0x0902, "error_comment", _Vr.LO),
    (0x0903, "error_id", _Vr.US),
    (0x1000, "affected_sop_instance_uid", _Vr.UI),
    (0x1001, "requested_sop_instance_uid", _Vr.UI),
    (0x1002, "event_type_id", _Vr.US),
    (0x1005, "attribute_identifier_list", _Vr.AT),
    (0x1008, "action_type_id", _Vr.US),
    (0x1020, "number_of_remaining_suboperations", _Vr.US),
    (0x1021, "number_of_completed_suboperations", _Vr.US),
    (0x1022, "number_of_failed_suboperations", _Vr.US),
    (0x1023, "number_of_warning_suboperations", _Vr.US),
    (0x1030, "move_originator_application_entity_title", _Vr.AE),
    (0x1031, "move_originator_message_id", _Vr.US),
)
Value = int | str | tuple[int, ...]
_BY_ELEMENT: Final[Mapping[int, tuple[str, _Vr]]] = {tag: (name, vr) for tag, name, vr in _ELEMENTS}
_REQUIRED: Final = frozenset(("command_field", "command_data_set_type"))


def encode(command: Command) -> bytes:
    """Return the command set with its group length (PS3.7 E.1)."""
    parts = []
    for element, name, vr in _ELEMENTS:
        value = getattr(command, name)
        if value is None:
            continue
        if vr is _Vr.US:
            parts.append(_SHORT.pack(0, element, 2, value))
        else:
            data = _bytes_of(value, vr)
            parts.append(_ELEMENT.pack(0, element, len(data)) + data)
    body = b"".join(parts)
    return _GROUP_LENGTH.pack(0, 0, 4, len(body)) + body


def _bytes_of(value: object, vr: _Vr) -> bytes:
    if isinstance(value, tuple):
        return b"".join(struct.pack("<HH", tag >> 16, tag & 0xFFFF) for tag in value)
    text = _comment(str(value)) if vr is _Vr.LO else str(value)
    data = text.encode("ascii", "replace")
    return data + (b"\0" if vr is _Vr.UI else b" ") if len(data) & 1 else data


def _comment(text: str) -> str:
    """Error Comment (0000,0902) is one value of VR LO."""
    return "".join(c if c.isprintable() and c != "\\" else "?" for c in text)[:MAX_COMMENT]


def decode(data: bytes | memoryview) -> Command:
    """Read one complete command set; elements that no service of ours uses are passed over.

    Raises
    ------
    ProtocolFault
        It is not a command set: cut short, of another group, a value of the wrong
        length or repertoire, or without Command Field or Command Data Set Type.
    """
    values: dict[str, Any] = {}
    position, end = 0, len(data)
    while position < end:
        if end - position < _ELEMENT.size:
            raise ProtocolFault(f"command set: {end - position} bytes too many at its end")
        group, element, length = _ELEMENT.unpack_from(data, position)
        position += _ELEMENT.size
        if group != 0 or length > end - position:
            raise ProtocolFault(
                f"command set: ({group:04X},{element:04X}) of {length} bytes cannot be"
            )
        if known := _BY_ELEMENT.get(element):
            name, vr = known
            values[name] = _value_of(data, position, length, vr)
        position += length
    if not values.keys() >= _REQUIRED:
        raise ProtocolFault("command set: no Command Field or no Command Data Set Type")
    return Command(**values)


def _value_of(data: bytes | memoryview, position: int, length: int, vr: _Vr) -> Value:
    if vr is _Vr.US:
        if length != _US.size:
            raise ProtocolFault(f"command set: a US of {length} bytes")
        value: int = _US.unpack_from(data, position)[0]
        return value
    if vr is _Vr.AT:
        usable = length - length % 4
        tags = struct.unpack_from(f"<{usable // 2}H", data, position)
        return tuple(g << 16 | e for g, e in zip(tags[::2], tags[1::2], strict=True))
    try:
        text = str(data[position : position + length], "ascii")
    except UnicodeDecodeError:
        raise ProtocolFault(f"command set: a {vr} that is not ASCII") from None
    return text.strip(" \0") if vr is not _Vr.UI else text.rstrip(" \0")
