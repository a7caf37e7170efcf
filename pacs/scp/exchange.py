"""What a service sees of an association: requests, responses, and a few things to ask of it.

Services are functions from a request to responses. They know nothing of sockets
and PDUs, so each can be tried with a handful of data and a fake exchange.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from pacs import contexts
from pacs.upper_layer.dimse import Command
from storage.base.errors import Malformed

MAX_IDENTIFIER_BYTES: Final = 1 << 20
"""An identifier is some keys, in bytes; more is no query."""


@dataclass(frozen=True, slots=True)
class Options:
    """Extended negotiation of queries and retrievals (PS3.4 C.5.1.1, C.5.2.1)."""

    relational: bool = False
    combined_datetime: bool = False
    fuzzy: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context."""

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    peer_stores: bool = False
    """The peer takes the SCP role here: it receives C-STORE sub-operations of C-GET."""
    options: Options = field(default_factory=Options)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    calling_ae_title: str
    called_ae_title: str
    address: str


@dataclass(frozen=True, slots=True)
class Request:
    """One DIMSE request; the data set is read as it arrives, each fragment valid until the next."""

    command: Command
    context: Context
    caller: Caller
    dataset: Iterator[memoryview]

    def identifier(self, max_bytes: int = MAX_IDENTIFIER_BYTES) -> bytes:
        """Read the whole data set, which must be a small one.

        Raises
        ------
        Malformed
            There is none, or it is longer than `max_bytes`.
        """
        parts: list[bytes] = []
        size = 0
        for fragment in self.dataset:
            size += len(fragment)
            if size > max_bytes:
                raise Malformed(f"data set of more than {max_bytes} bytes")
            parts.append(bytes(fragment))
        if not parts:
            raise Malformed("the request has no data set")
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Counts:
    """Sub-operations of a retrieval (PS3.7 9.1.3.1, 9.1.4.1); `remaining` None at the end."""

    completed: int
    failed: int
    warning: int
    remaining: int | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """One DIMSE response."""

    status: int
    comment: str = ""
    offending: tuple[int, ...] = ()
    identifier: bytes | None = None
    counts: Counts | None = None
    sop_instance_uid: str = ""
    """Of the response to a DIMSE-N request; '': that of the request."""
    error_id: int | None = None
    attributes: tuple[int, ...] = ()
    """Attribute Identifier List (0000,1005): what a DIMSE-N response complains of."""


class Exchange(Protocol):
    """What a service may ask of its association while it answers."""

    def cancelled(self) -> bool:
        """Whether the peer has sent C-CANCEL for this request; never blocks."""
        ...

    def accepted(self, sop_class_uid: str) -> dict[str, int]:
        """Return transfer syntax → context ID in which the peer takes this class (C-GET)."""
        ...

    def store(self, context_id: int, command: Command, dataset: Iterable[bytes]) -> Command:
        """Send a C-STORE sub-operation over this association and return its response."""
        ...


Service = Callable[[Request, Exchange], Iterable[Response]]

STORAGE: Final = "storage"
"""Stands in `Offers` for every storage SOP class."""
Offers = Mapping[str, Mapping[int, Service]]
"""SOP class → command field of a request → the service that answers it."""


def services_of(offers: Offers, abstract_syntax: str) -> Mapping[int, Service]:
    """Return the services of an abstract syntax, none when we do not offer it."""
    if contexts.is_storage(abstract_syntax):
        return offers.get(STORAGE, {})
    return offers.get(abstract_syntax, {})
