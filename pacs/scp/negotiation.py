"""Which association and which presentation contexts we accept (PS3.8 7.1, PS3.7 Annex D).

Of a storage context the sender's first transfer syntax is taken
(`contexts.choose`): it costs the sender no transcoding and keeps the bytes as
they are. Queries and retrievals prefer Explicit VR Little Endian.
"""

from collections.abc import Callable, Mapping
from typing import Final

from pacs import contexts
from pacs.scp import models
from pacs.scp.exchange import Context, Offers, Options, services_of
from pacs.upper_layer.connection import MAX_PDU_BYTES
from pacs.upper_layer.pdu import (
    APPLICATION_CONTEXT,
    PERMANENT,
    TRANSIENT,
    AssociateAccept,
    AssociateRequest,
    ContextResult,
    ProposedContext,
    Rejection,
    Roles,
    UserInformation,
)
from storage.base import values
from storage.base.errors import Malformed
from storage.base.settings import UnknownPeers

Admit = Callable[[str, str], bool]
"""Whether a calling AE title from an IP address may associate."""

# PS3.8 Table 9-21: result, source, reason
NO_APPLICATION_CONTEXT: Final = Rejection(PERMANENT, 1, 2)
CALLING_NOT_RECOGNIZED: Final = Rejection(PERMANENT, 1, 3)
CALLED_NOT_RECOGNIZED: Final = Rejection(PERMANENT, 1, 7)
NO_PROTOCOL_VERSION: Final = Rejection(PERMANENT, 2, 2)
CONGESTION: Final = Rejection(TRANSIENT, 3, 1)
LOCAL_LIMIT: Final = Rejection(TRANSIENT, 3, 2)

# PS3.8 Table 9-18
ACCEPTED: Final = 0
USER_REJECTION: Final = 1
NO_ABSTRACT_SYNTAX: Final = 3
NO_TRANSFER_SYNTAX: Final = 4

_QUERY_SYNTAXES: Final = (
    contexts.EXPLICIT_VR_LITTLE_ENDIAN,
    contexts.IMPLICIT_VR_LITTLE_ENDIAN,
    contexts.EXPLICIT_VR_BIG_ENDIAN,
)
_LEVEL_2_STORAGE: Final = bytes((2, 0, 0, 0, 0, 0))
"""All attributes kept, no signatures checked, nothing coerced (PS3.4 B.3.1)."""
_EVERY_OPTION: Final = Options(relational=True, combined_datetime=True, fuzzy=True)


def admission(unknown: UnknownPeers, is_registered: Callable[[str], bool]) -> Admit:
    """Return the rule for calling AE titles: registered ones, and the others by `unknown`."""

    def admit(calling_ae_title: str, address: str) -> bool:
        if unknown is UnknownPeers.ACCEPT:
            return True
        if unknown is UnknownPeers.LOOPBACK and is_loopback(address):
            return True
        return is_registered(calling_ae_title)

    return admit


def is_loopback(address: str) -> bool:
    """Whether `address` is of this machine: 127.0.0.0/8 or ::1."""
    return address.removeprefix("::ffff:").startswith("127.") or address == "::1"


def refuse(
    request: AssociateRequest, ae_title: str | None, admit: Admit, address: str
) -> Rejection | None:
    """Return why the association is rejected, None when it is not.

    `ae_title` None: any called AE title will do.
    """
    if not request.protocol_version & 1:
        return NO_PROTOCOL_VERSION
    if request.application_context != APPLICATION_CONTEXT:
        return NO_APPLICATION_CONTEXT
    if ae_title is not None and request.called_ae_title != ae_title:
        return CALLED_NOT_RECOGNIZED
    try:
        values.ae_title(request.calling_ae_title)
    except Malformed:
        return CALLING_NOT_RECOGNIZED
    return None if admit(request.calling_ae_title, address) else CALLING_NOT_RECOGNIZED


def negotiate(
    request: AssociateRequest, offers: Offers
) -> tuple[AssociateAccept, tuple[Context, ...]]:
    """Answer every proposed context; return the A-ASSOCIATE-AC and the contexts accepted."""
    proposed_roles = request.user.roles
    roles = {uid: _roles(uid, proposed) for uid, proposed in proposed_roles.items()}
    extended = {
        uid: able
        for uid, asked in request.user.extended.items()
        if (able := _extended(uid, asked)) is not None
    }
    results = tuple(_result(context, roles, offers) for context in request.contexts)
    accepted = tuple(
        Context(
            proposed.context_id,
            proposed.abstract_syntax,
            result.transfer_syntax,
            peer_stores=contexts.is_storage(proposed.abstract_syntax)
            and proposed.abstract_syntax in roles
            and roles[proposed.abstract_syntax].scp,
            options=_options(extended.get(proposed.abstract_syntax, b"")),
        )
        for proposed, result in zip(request.contexts, results, strict=True)
        if result.result == ACCEPTED
    )
    known = {context.abstract_syntax for context in accepted}
    user = UserInformation(
        MAX_PDU_BYTES,
        roles={uid: role for uid, role in roles.items() if uid in known},
        extended={uid: able for uid, able in extended.items() if uid in known},
        asynchronous=request.user.asynchronous,
    )
    answer = AssociateAccept(request.called_ae_title, request.calling_ae_title, results, user)
    return answer, accepted


def _result(proposed: ProposedContext, roles: Mapping[str, Roles], offers: Offers) -> ContextResult:
    uid = proposed.abstract_syntax
    if not services_of(offers, uid):
        return _no(proposed, NO_ABSTRACT_SYNTAX)
    role = roles.get(uid)
    if role and not (role.scu or role.scp):
        return _no(proposed, USER_REJECTION)
    syntax = _syntax(proposed)
    if syntax is None:
        return _no(proposed, NO_TRANSFER_SYNTAX)
    return ContextResult(proposed.context_id, ACCEPTED, syntax)


def _no(proposed: ProposedContext, result: int) -> ContextResult:
    # the transfer syntax of a rejected context is there, but means nothing (PS3.8 9.3.3.2)
    return ContextResult(proposed.context_id, result, contexts.IMPLICIT_VR_LITTLE_ENDIAN)


def _syntax(proposed: ProposedContext) -> str | None:
    if contexts.is_storage(proposed.abstract_syntax):
        return contexts.choose(proposed.transfer_syntaxes)
    return next((uid for uid in _QUERY_SYNTAXES if uid in proposed.transfer_syntaxes), None)


def _roles(uid: str, proposed: Roles) -> Roles:
    """PS3.7 D.3.3.4: the acceptor may turn a role down, never offer one."""
    return Roles(scu=proposed.scu, scp=proposed.scp and contexts.is_storage(uid))


def _extended(uid: str, asked: bytes) -> bytes | None:
    """Return what we can do of the options asked for (PS3.4 C.5.1.1, C.5.2.1, K.5.2, B.3.1)."""
    if uid in models.FIND or uid in models.WORKITEM_CLASSES or uid == models.MODALITY_WORKLIST:
        able = bytes(
            (_EVERY_OPTION.relational, _EVERY_OPTION.combined_datetime, _EVERY_OPTION.fuzzy)
        )
        return bytes(a & b for a, b in zip(asked, able.ljust(len(asked), b"\0"), strict=False))
    if uid in models.MOVE or uid in models.GET:
        return bytes(a & b for a, b in zip(asked, b"\1".ljust(len(asked), b"\0"), strict=False))
    return _LEVEL_2_STORAGE if contexts.is_storage(uid) else None


def _options(answer: bytes) -> Options:
    relational, combined_datetime, fuzzy = (bool(byte) for byte in answer[:3].ljust(3, b"\0"))
    return Options(relational, combined_datetime, fuzzy)
