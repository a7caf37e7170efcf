"""C-FIND SCP (PS3.4 C.4.1): one response for each match.

More matches than `max_results` end with 0xA700, Out of Resources, after the first
ones: a truncated list that claims to be whole would hide studies.
"""

from collections.abc import Callable, Iterator

from pacs.scp import identifiers, models, status
from pacs.scp.exchange import Exchange, Request, Response
from pacs.scp.identifiers import Answers
from pacs.scp.texts import Texts
from storage.access.peers import Peer
from storage.archive import search as archive_search
from storage.archive.model import Match, Query

Search = Callable[[Query, int], Iterator[Match]]
"""Yields at most so many matches of a query; raises `Malformed` for a key that cannot be read."""


def find(
    request: Request,
    exchange: Exchange,
    *,
    search: Search,
    find_peer: Callable[[str], Peer | None],
    ae_title: str,
    max_results: int,
) -> Iterator[Response]:
    """Answer a query; `ae_title` is where the matches can be retrieved from: ours.

    Raises
    ------
    Malformed, Conflict
        The identifier cannot be read, does not fit the model, or a key's value is wrong.
    StoreUnavailable
        The index does not answer.
    """
    context = request.context
    identifier = identifiers.read(
        request.identifier(),
        context.transfer_syntax,
        models.FIND[context.abstract_syntax],
        relational=context.options.relational,
    )
    query = Query(
        identifier.level,
        identifier.texts,
        fuzzy=context.options.fuzzy,
        combined_datetime=context.options.combined_datetime,
    )
    texts = Texts(find_peer(request.caller.calling_ae_title), identifier.specific_character_set)
    answers = Answers(identifier, context.transfer_syntax, ae_title, texts)
    every_key = not (identifier.has_unknown_keys or archive_search.unsupported(query))
    pending = status.PENDING if every_key else status.PENDING_OPTIONAL_KEYS
    for number, match in enumerate(search(query, max_results + 1)):
        if exchange.cancelled():
            yield Response(status.CANCEL)
            return
        if number == max_results:
            yield Response(status.OUT_OF_RESOURCES, f"more than {max_results} matches")
            return
        yield Response(pending, identifier=answers.write(match))
    yield Response(status.SUCCESS)
