"""Modality Worklist SCP (PS3.4 Annex K): what a console still has to do.

A response holds what the query asked for, every key of it, without a value where
there is none: consoles drop an entry that lacks what they asked for. A sequence that
is asked for without its attributes comes whole.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pacs import header
from pacs.scp import datasets, identifiers, status
from pacs.scp.datasets import Attributes
from pacs.scp.encoding import Encoder
from pacs.scp.exchange import Exchange, Request, Response
from pacs.scp.identifiers import SPECIFIC_CHARACTER_SET, Key
from pacs.scp.texts import Texts
from pacs.scp.worklist_keys import ATTRIBUTES
from storage.access.peers import Peer
from storage.base.errors import ImagingError

log = logging.getLogger(__name__)

_DEPTH: Final = 3
"""Scheduled Procedure Step Sequence > Scheduled Protocol Code Sequence > Protocol Context."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One worklist query."""

    calling_ae_title: str
    keys: Mapping[str, str]
    """Dotted keyword → value, as sent; '' matches everything."""
    peer: Peer | None
    """The caller, if somebody registered it."""
    combined_datetime: bool
    fuzzy: bool


Search = Callable[[Asked, int], Iterable[Attributes]]
"""Yields at most so many entries; raises `Malformed` for a key that cannot be read."""
Remember = Callable[[Asked, int], None]
"""Keeps a query and how many entries matched, so that somebody can ask why one did not."""


def find(
    request: Request,
    exchange: Exchange,
    *,
    search: Search,
    find_peer: Callable[[str], Peer | None],
    remember: Remember,
    max_results: int,
) -> Iterator[Response]:
    """Answer a query with the steps that match.

    Raises
    ------
    Malformed
        The identifier cannot be read, or a key's value is wrong.
    StoreUnavailable
        The steps cannot be looked up.
    """
    context = request.context
    found = header.scan(request.identifier(), context.transfer_syntax)
    keys, texts = identifiers.keys_of(found, _DEPTH)
    title = request.caller.calling_ae_title
    options = context.options
    asked = Asked(title, texts, find_peer(title), options.combined_datetime, options.fuzzy)
    answers = Entries(
        keys, context.transfer_syntax, Texts(asked.peer, found.specific_character_set)
    )
    pending = status.PENDING
    if _unsupported(keys):
        pending = status.PENDING_OPTIONAL_KEYS
    final, number = Response(status.SUCCESS), 0
    for entry in search(asked, max_results + 1):
        if exchange.cancelled():
            final = Response(status.CANCEL)
            break
        if number == max_results:
            final = Response(status.OUT_OF_RESOURCES, f"more than {max_results} matches")
            break
        yield Response(pending, identifier=answers.write(entry))
        number += 1
    _remember(remember, asked, number)
    yield final


def _remember(remember: Remember, asked: Asked, number: int) -> None:
    try:
        remember(asked, number)
    except ImagingError as error:  # the console has its answer
        log.warning("worklist_query_not_kept", extra={"reason": str(error)})


def _unsupported(keys: Iterable[Key]) -> bool:
    """Whether an attribute is asked for that no entry has (PS3.4 K.4.1.1.4, status FF01)."""
    return any(
        _unsupported(key.items)
        if key.items
        else key.keyword not in ATTRIBUTES and key.tag != SPECIFIC_CHARACTER_SET
        for key in keys
    )


_Node = tuple[int, str, object]
"""Tag, VR, and the text or for a sequence the list of nodes of each item."""


class Entries:
    """Writes the entries that match one query as response identifiers (PS3.4 K.4.1.1.3.2)."""

    def __init__(self, keys: Sequence[Key], transfer_syntax: str, texts: Texts) -> None:
        self._encoder = Encoder(transfer_syntax)
        self._keys = tuple(key for key in keys if key.tag != SPECIFIC_CHARACTER_SET)
        self._texts = texts

    def write(self, entry: Attributes) -> bytes:
        """Return the response identifier of one entry."""
        nodes = self._nodes(self._keys, entry)
        charset = self._texts.charset(_texts(nodes))
        if charset:
            nodes = sorted([(SPECIFIC_CHARACTER_SET, "CS", charset), *nodes])
        return self._encoded(nodes, charset)

    def _nodes(self, keys: Iterable[Key], entry: Attributes) -> list[_Node]:
        return [self._node(key, key.keyword.rpartition(".")[2], entry) for key in keys]

    def _node(self, key: Key, keyword: str, entry: Attributes) -> _Node:
        vr = header.dictionary_vr(key.tag)[:2] if keyword else key.vr
        if vr == "SQ":
            items = datasets.items(entry, keyword)
            return key.tag, vr, [self._nodes(key.items or _every_key(item), item) for item in items]
        return key.tag, vr, self._texts.shape(keyword, vr, datasets.text(entry, keyword))

    def _encoded(self, nodes: Iterable[_Node], charset: str) -> bytes:
        return b"".join(
            self._encoder.sequence(tag, [self._encoded(item, charset) for item in value])
            if isinstance(value, list)
            else self._encoder.element(tag, vr, datasets.binary(vr, str(value)), charset)
            for tag, vr, value in nodes
        )


def _every_key(item: Attributes) -> list[Key]:
    tags = sorted((header.tag_of(keyword), keyword) for keyword in item)
    return [Key(tag, header.dictionary_vr(tag)[:2], keyword) for tag, keyword in tags]


def _texts(nodes: Iterable[_Node]) -> Iterator[str]:
    for _, _, value in nodes:
        if isinstance(value, list):
            for item in value:
                yield from _texts(item)
        else:
            yield str(value)
