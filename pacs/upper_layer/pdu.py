"""Protocol data units that open and end an association (PS3.8 9.3), as bytes and as data.

    A-ASSOCIATE-RQ 01H   A-ASSOCIATE-AC 02H   A-ASSOCIATE-RJ 03H
    P-DATA-TF 04H        A-RELEASE-RQ 05H     A-RELEASE-RP 06H     A-ABORT 07H

What is read here was sent by anybody who can reach the port: every length is
checked against what is there, and nothing but `ProtocolFault` comes out.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pacs import contexts
from pacs.upper_layer.faults import ProtocolFault

ASSOCIATE_RQ: Final = 0x01
ASSOCIATE_AC: Final = 0x02
ASSOCIATE_RJ: Final = 0x03
P_DATA: Final = 0x04
RELEASE_RQ: Final = 0x05
RELEASE_RP: Final = 0x06
ABORT: Final = 0x07

APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
"""The DICOM Application Context Name (PS3.7 A.2.1)."""

MAX_CONTEXT_ID: Final = 255
MAX_CONTEXTS: Final = 128
MIN_USEFUL_LENGTH: Final = 128
"""A maximum length below this is not a peer that wants to talk, in bytes."""

# item types, PS3.8 9.3.2, 9.3.3, D.1 and PS3.7 D.3.3
_APPLICATION_CONTEXT_ITEM: Final = 0x10
_PROPOSED_CONTEXT: Final = 0x20
_CONTEXT_RESULT: Final = 0x21
_ABSTRACT_SYNTAX: Final = 0x30
_TRANSFER_SYNTAX: Final = 0x40
_USER_INFORMATION: Final = 0x50
_MAXIMUM_LENGTH: Final = 0x51
_CLASS_UID: Final = 0x52
_ASYNCHRONOUS: Final = 0x53
_ROLES: Final = 0x54
_VERSION_NAME: Final = 0x55
_EXTENDED: Final = 0x56

HEADER: Final = struct.Struct(">BxI")
_ITEM: Final = struct.Struct(">BxH")
_FIXED: Final = struct.Struct(">H2x16s16s32x")
_LENGTH: Final = struct.Struct(">I")
_COUNT: Final = struct.Struct(">H")
_CONTEXT: Final = struct.Struct(">BxBx")
_REASONS: Final = struct.Struct(">xBBB")


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """One presentation context as the requestor proposes it (PS3.8 9.3.2.2)."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContextResult:
    """The acceptor's answer to one proposed context (PS3.8 9.3.3.2)."""

    context_id: int
    result: int
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Roles:
    """SCP/SCU Role Selection (PS3.7 D.3.3.4): what the *requestor* may be."""

    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class UserInformation:
    """The user information item (PS3.8 D.1, PS3.7 D.3.3)."""

    max_length: int
    """Largest P-DATA-TF variable field that its sender receives, in bytes; 0: no limit."""
    implementation_class_uid: str = contexts.IMPLEMENTATION_CLASS_UID
    implementation_version_name: str = contexts.IMPLEMENTATION_VERSION_NAME
    roles: Mapping[str, Roles] = field(default_factory=dict)
    extended: Mapping[str, bytes] = field(default_factory=dict)
    """SOP Class Extended Negotiation (PS3.7 D.3.3.5) by SOP Class UID."""
    asynchronous: bool = False
    """Whether an Asynchronous Operations Window is there; ours is always 1 and 1."""


@dataclass(frozen=True, slots=True)
class AssociateRequest:
    """A-ASSOCIATE-RQ (PS3.8 9.3.2)."""

    called_ae_title: str
    calling_ae_title: str
    contexts: tuple[ProposedContext, ...]
    user: UserInformation
    application_context: str = APPLICATION_CONTEXT
    protocol_version: int = 1


@dataclass(frozen=True, slots=True)
class AssociateAccept:
    """A-ASSOCIATE-AC (PS3.8 9.3.3)."""

    called_ae_title: str
    calling_ae_title: str
    contexts: tuple[ContextResult, ...]
    user: UserInformation


@dataclass(frozen=True, slots=True)
class Rejection:
    """A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

    result: int
    source: int
    reason: int

    @property
    def text(self) -> str:
        """Return what the codes mean."""
        words = _REJECTIONS.get((self.source, self.reason), "no reason given")
        return f"{words} ({'transient' if self.result == TRANSIENT else 'permanent'})"


PERMANENT: Final = 1
TRANSIENT: Final = 2
_REJECTIONS: Final[Mapping[tuple[int, int], str]] = {
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


def encode_request(request: AssociateRequest) -> bytes:
    """Return the A-ASSOCIATE-RQ PDU."""
    items = b"".join(_proposed(context) for context in request.contexts)
    return _associate(ASSOCIATE_RQ, request, items)


def encode_accept(accept: AssociateAccept) -> bytes:
    """Return the A-ASSOCIATE-AC PDU."""
    items = b"".join(
        _item(
            _CONTEXT_RESULT,
            _CONTEXT.pack(context.context_id, context.result)
            + _item(_TRANSFER_SYNTAX, context.transfer_syntax.encode("ascii", "replace")),
        )
        for context in accept.contexts
    )
    return _associate(ASSOCIATE_AC, accept, items)


def encode_reject(rejection: Rejection) -> bytes:
    """Return the A-ASSOCIATE-RJ PDU."""
    return HEADER.pack(ASSOCIATE_RJ, _REASONS.size) + _REASONS.pack(
        rejection.result, rejection.source, rejection.reason
    )


def encode_abort(source: int, reason: int) -> bytes:
    """Return the A-ABORT PDU; `source` is 0 for the user and 2 for the provider."""
    return HEADER.pack(ABORT, _REASONS.size) + _REASONS.pack(0, source, reason)


RELEASE_REQUEST: Final = HEADER.pack(RELEASE_RQ, 4) + bytes(4)
RELEASE_REPLY: Final = HEADER.pack(RELEASE_RP, 4) + bytes(4)


def decode_request(body: memoryview) -> AssociateRequest:
    """Read the variable part of an A-ASSOCIATE-RQ.

    Raises
    ------
    ProtocolFault
        An item is cut short, missing, or says what cannot be.
    """
    version, called, calling = _titles(body)
    application_context, proposed, user = "", [], None
    for kind, item in _items(body[_FIXED.size :]):
        if kind == _APPLICATION_CONTEXT_ITEM:
            application_context = _text(item)
        elif kind == _PROPOSED_CONTEXT:
            proposed.append(_read_proposed(item))
        elif kind == _USER_INFORMATION:
            user = _read_user(item)
    if user is None or not proposed:
        raise ProtocolFault("A-ASSOCIATE-RQ: no user information or no presentation context")
    if len({context.context_id for context in proposed}) != len(proposed):
        raise ProtocolFault("A-ASSOCIATE-RQ: a presentation context ID is used twice")
    return AssociateRequest(called, calling, tuple(proposed), user, application_context, version)


def decode_accept(body: memoryview) -> AssociateAccept:
    """Read the variable part of an A-ASSOCIATE-AC; raise `ProtocolFault` as `decode_request`."""
    _, called, calling = _titles(body)
    results, user = [], None
    for kind, item in _items(body[_FIXED.size :]):
        if kind == _CONTEXT_RESULT:
            results.append(_read_result(item))
        elif kind == _USER_INFORMATION:
            user = _read_user(item)
    if user is None:
        raise ProtocolFault("A-ASSOCIATE-AC: no user information")
    return AssociateAccept(called, calling, tuple(results), user)


def decode_reject(body: memoryview) -> Rejection:
    """Read the variable part of an A-ASSOCIATE-RJ."""
    if len(body) < _REASONS.size:
        raise ProtocolFault("A-ASSOCIATE-RJ: cut short")
    return Rejection(*_REASONS.unpack_from(body))


def _associate(kind: int, pdu: AssociateRequest | AssociateAccept, items: bytes) -> bytes:
    titles = (pdu.called_ae_title, pdu.calling_ae_title)
    called, calling = (title.encode("ascii", "replace").ljust(16) for title in titles)
    body = (
        _FIXED.pack(1, called, calling)
        + _item(_APPLICATION_CONTEXT_ITEM, APPLICATION_CONTEXT.encode())
        + items
        + _item(_USER_INFORMATION, _user(pdu.user))
    )
    return HEADER.pack(kind, len(body)) + body


def _item(kind: int, body: bytes) -> bytes:
    return _ITEM.pack(kind, len(body)) + body


def _proposed(context: ProposedContext) -> bytes:
    syntaxes = b"".join(
        _item(_TRANSFER_SYNTAX, uid.encode("ascii")) for uid in context.transfer_syntaxes
    )
    abstract = _item(_ABSTRACT_SYNTAX, context.abstract_syntax.encode("ascii"))
    return _item(_PROPOSED_CONTEXT, _CONTEXT.pack(context.context_id, 0) + abstract + syntaxes)


def _user(user: UserInformation) -> bytes:
    parts = [
        _item(_MAXIMUM_LENGTH, _LENGTH.pack(user.max_length)),
        _item(_CLASS_UID, user.implementation_class_uid.encode("ascii")),
    ]
    if user.asynchronous:
        parts.append(_item(_ASYNCHRONOUS, _COUNT.pack(1) * 2))
    for uid, roles in user.roles.items():
        parts.append(_item(_ROLES, _counted(uid) + bytes((roles.scu, roles.scp))))
    parts.append(_item(_VERSION_NAME, user.implementation_version_name.encode("ascii")))
    for uid, information in user.extended.items():
        parts.append(_item(_EXTENDED, _counted(uid) + information))
    return b"".join(parts)


def _counted(uid: str) -> bytes:
    return _COUNT.pack(len(uid)) + uid.encode("ascii", "replace")


def _titles(body: memoryview) -> tuple[int, str, str]:
    if len(body) < _FIXED.size:
        raise ProtocolFault(f"association PDU of {len(body)} bytes is cut short")
    version, called, calling = _FIXED.unpack_from(body)
    return version, _text(called), _text(calling)


def _items(body: memoryview) -> Iterator[tuple[int, memoryview]]:
    position, end = 0, len(body)
    while position < end:
        if end - position < _ITEM.size:
            raise ProtocolFault("association PDU: an item is cut short")
        kind, length = _ITEM.unpack_from(body, position)
        position += _ITEM.size
        if length > end - position:
            raise ProtocolFault(f"association PDU: item {kind:02X}H of {length} bytes is cut short")
        yield kind, body[position : position + length]
        position += length


def _text(data: Iterable[int]) -> str:
    return bytes(data).decode("ascii", "replace").strip(" \0")


def _read_proposed(item: memoryview) -> ProposedContext:
    context_id = _context_id(item)
    abstract, syntaxes = "", []
    for kind, value in _items(item[_CONTEXT.size :]):
        if kind == _ABSTRACT_SYNTAX:
            abstract = _text(value)
        elif kind == _TRANSFER_SYNTAX:
            syntaxes.append(_text(value))
    if not abstract or not syntaxes:
        raise ProtocolFault(f"presentation context {context_id}: a syntax is missing")
    return ProposedContext(context_id, abstract, tuple(syntaxes))


def _read_result(item: memoryview) -> ContextResult:
    context_id = _context_id(item)
    syntax = next(
        (_text(value) for kind, value in _items(item[_CONTEXT.size :]) if kind == _TRANSFER_SYNTAX),
        "",
    )
    return ContextResult(context_id, item[2], syntax)


def _context_id(item: memoryview) -> int:
    if len(item) < _CONTEXT.size:
        raise ProtocolFault("presentation context: cut short")
    if not item[0] & 1:
        raise ProtocolFault(f"presentation context ID {item[0]} is not odd")
    return item[0]


def _read_user(item: memoryview) -> UserInformation:
    items = list(_items(item))
    single = {kind: value for kind, value in items if kind not in (_ROLES, _EXTENDED)}
    counted = [
        (kind, *_read_counted(value)) for kind, value in items if kind in (_ROLES, _EXTENDED)
    ]
    return UserInformation(
        max_length=_read_max_length(single.get(_MAXIMUM_LENGTH, memoryview(bytes(4)))),
        implementation_class_uid=_text(single.get(_CLASS_UID, b"")),
        implementation_version_name=_text(single.get(_VERSION_NAME, b"")),
        roles={uid: _read_roles(rest) for kind, uid, rest in counted if kind == _ROLES},
        extended={uid: bytes(rest) for kind, uid, rest in counted if kind == _EXTENDED},
        asynchronous=_ASYNCHRONOUS in single,
    )


def _read_max_length(value: memoryview) -> int:
    if len(value) != _LENGTH.size:
        raise ProtocolFault(f"maximum length: {len(value)} bytes")
    length: int = _LENGTH.unpack(value)[0]
    if 0 < length < MIN_USEFUL_LENGTH:
        raise ProtocolFault(f"maximum length: {length} bytes hold no message")
    return length


def _read_counted(value: memoryview) -> tuple[str, memoryview]:
    length = _COUNT.unpack_from(value)[0] if len(value) >= _COUNT.size else len(value)
    rest = _COUNT.size + length
    if rest > len(value):
        raise ProtocolFault("user information: a sub-item is cut short")
    return _text(value[_COUNT.size : rest]), value[rest:]


def _read_roles(rest: memoryview) -> Roles:
    if len(rest) < _COUNT.size:
        raise ProtocolFault("role selection: cut short")
    return Roles(scu=bool(rest[0]), scp=bool(rest[1]))
