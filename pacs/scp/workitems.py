"""Unified Procedure Step SCP (PS3.4 Annex CC): UPS Push, Pull, Watch and Query.

Every workitem is an instance of UPS Push, whichever of the classes was negotiated (CC.3.1).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import tzinfo
from functools import partial
from typing import Any, Final
from uuid import uuid4

from pacs import header
from pacs.scp import identifiers, models, status, workitem_datasets
from pacs.scp.exchange import Exchange, Offers, Request, Response, Service
from pacs.scp.identifiers import Key
from pacs.scp.texts import Texts
from pacs.scp.worklist import Entries
from pacs.upper_layer import dimse
from ris.workitems import contents, search, subscriptions, verbs
from ris.workitems.attributes import STATE, TRANSACTION
from ris.workitems.contents import Json
from ris.workitems.faults import UnknownReceiver
from ris.workitems.search import Query
from ris.workitems.states import Answer, State
from ris.workitems.verbs import Wish
from storage.access.peers import Peer
from storage.base.errors import Malformed
from storage.db.engine import Engine, transaction

# PS3.4 Tables CC.2.1-1, CC.2.2-1 and CC.2.3-1, Action Type ID
CHANGE_STATE: Final = 1
REQUEST_CANCEL: Final = 2
SUBSCRIBE: Final = 3
UNSUBSCRIBE: Final = 4
SUSPEND: Final = 5

# PS3.4 Tables CC.2-1 to CC.2-3
ACTIONS: Final[Mapping[str, frozenset[int]]] = {
    models.WORKITEM_PUSH: frozenset({REQUEST_CANCEL}),
    models.WORKITEM_PULL: frozenset({CHANGE_STATE}),
    models.WORKITEM_WATCH: frozenset({REQUEST_CANCEL, SUBSCRIBE, UNSUBSCRIBE, SUSPEND}),
}

_DEPTH: Final = 4
_ALWAYS: Final = (0x00080016, 0x00080018)
"""SOP Class and Instance UID are in every match (PS3.4 CC.2.8.3)."""
_ALREADY: Final[Mapping[str, int]] = {
    State.COMPLETED: status.ALREADY_COMPLETED,
    State.CANCELED: status.ALREADY_CANCELED,
}

FindPeer = Callable[[str], Peer | None]


def offers(engine: Engine, zone: tzinfo, find_peer: FindPeer, max_results: int) -> Offers:
    """Return the services of the five classes; events go out on associations of ours."""
    act_: Service = partial(act, engine=engine, zone=zone, find_peer=find_peer)
    find_: Service = partial(
        find, engine=engine, zone=zone, find_peer=find_peer, max_results=max_results
    )
    get_: Service = partial(get, engine=engine)
    return {
        models.WORKITEM_PUSH: {
            dimse.N_CREATE_RQ: partial(create, engine=engine, zone=zone),
            dimse.N_ACTION_RQ: act_,
            dimse.N_GET_RQ: get_,
        },
        models.WORKITEM_PULL: {
            dimse.C_FIND_RQ: find_,
            dimse.N_GET_RQ: get_,
            dimse.N_SET_RQ: partial(update, engine=engine, zone=zone),
            dimse.N_ACTION_RQ: act_,
        },
        models.WORKITEM_WATCH: {
            dimse.C_FIND_RQ: find_,
            dimse.N_GET_RQ: get_,
            dimse.N_ACTION_RQ: act_,
        },
        models.WORKITEM_QUERY: {dimse.C_FIND_RQ: find_},
    }


def create(
    request: Request,
    exchange: Exchange,  # noqa: ARG001 - a Service
    *,
    engine: Engine,
    zone: tzinfo,
) -> tuple[Response]:
    """Create a workitem: N-CREATE (PS3.4 CC.2.5).

    Raises
    ------
    Malformed
        The data set cannot be read, or is not that of a workitem.
    Duplicate
        There is a workitem of that UID.
    StoreUnavailable
        It cannot be kept now.
    """
    uid = request.command.affected_sop_instance_uid or f"2.25.{uuid4().int}"
    sent = workitem_datasets.read(request)
    with transaction(engine) as session:
        supplied = verbs.create(session, uid, sent, zone)
    code = status.CREATED_WITH_MODIFICATIONS if supplied else status.SUCCESS
    return (Response(code, sop_instance_uid=uid),)


def update(
    request: Request,
    exchange: Exchange,  # noqa: ARG001 - a Service
    *,
    engine: Engine,
    zone: tzinfo,
) -> tuple[Response]:
    """Change attributes: N-SET (PS3.4 CC.2.6).

    Raises
    ------
    Rejected
        The state table or the table of attributes does not allow it.
    StoreUnavailable
        The change cannot be kept now.
    """
    sent = workitem_datasets.read(request)
    with transaction(engine) as session:
        verbs.update(session, _uid(request), sent, contents.text(sent, TRANSACTION), zone)
    return (Response(status.SUCCESS),)


def get(
    request: Request,
    exchange: Exchange,  # noqa: ARG001 - a Service
    *,
    engine: Engine,
) -> tuple[Response]:
    """Return the attributes that are asked for, without any all of them: N-GET (PS3.4 CC.2.7).

    Raises
    ------
    NoSuchWorkitem
        There is none of that UID.
    StoreUnavailable
        The workitems cannot be looked up.
    """
    with transaction(engine) as session:
        held = verbs.get(session, _uid(request))
    wanted = {f"{tag:08X}" for tag in request.command.attribute_identifier_list or ()}
    found = {tag: value for tag, value in held.items() if not wanted or tag in wanted}
    code = status.OPTIONAL_ATTRIBUTES_NOT_SUPPORTED if wanted - found.keys() else status.SUCCESS
    data = workitem_datasets.write(found, request.context.transfer_syntax)
    return (Response(code, identifier=data),)


def act(
    request: Request,
    exchange: Exchange,  # noqa: ARG001 - a Service
    *,
    engine: Engine,
    zone: tzinfo,
    find_peer: FindPeer,
) -> tuple[Response]:
    """Change the state, wish for cancellation, watch or watch no more: N-ACTION (CC.2.1 to 2.3).

    Raises
    ------
    Rejected
        The state table does not allow it, or the data set is not that of the action.
    StoreUnavailable
        It cannot be kept now.
    """
    action = request.command.action_type_id
    if action not in ACTIONS[request.context.abstract_syntax]:
        return (Response(status.NO_SUCH_ACTION, "not an action of this SOP class"),)
    if action == CHANGE_STATE:
        return (_change_state(request, engine),)
    if action == REQUEST_CANCEL:
        return (_request_cancel(request, engine),)
    sent = workitem_datasets.read(request)
    title = contents.text(sent, "ReceivingAE")
    if not title:
        raise Malformed("Receiving AE is missing")
    with transaction(engine) as session:
        if action == UNSUBSCRIBE:
            subscriptions.unsubscribe(session, _uid(request), title)
        elif action == SUSPEND:
            subscriptions.suspend(session, _uid(request), title)
        else:
            if find_peer(title) is None:
                raise UnknownReceiver("the Receiving AE is not registered here")
            lock = contents.text(sent, "DeletionLock") == "TRUE"
            keys = _keys(sent)
            subscriptions.subscribe(session, _uid(request), title, lock=lock, zone=zone, keys=keys)
    return (Response(status.SUCCESS),)


def find(
    request: Request,
    exchange: Exchange,
    *,
    engine: Engine,
    zone: tzinfo,
    find_peer: FindPeer,
    max_results: int,
) -> Iterator[Response]:
    """Answer a query with the workitems that match: C-FIND (PS3.4 CC.2.8).

    Raises
    ------
    Malformed
        The identifier cannot be read, or a key's value is wrong.
    StoreUnavailable
        The workitems cannot be looked up.
    """
    context = request.context
    found = header.scan(request.identifier(), context.transfer_syntax)
    keys, texts = identifiers.keys_of(found, _DEPTH)
    peer = find_peer(request.caller.calling_ae_title)
    shaped = Texts(peer, found.specific_character_set)
    answers = Entries(_complete(keys), context.transfer_syntax, shaped)
    known = all(key.keyword for key in keys)
    pending = status.PENDING if known else status.PENDING_OPTIONAL_KEYS
    query = Query(texts, context.options.combined_datetime, context.options.fuzzy)
    for number, whole in enumerate(search.iterate(engine, query, zone, max_results + 1)):
        if exchange.cancelled():
            yield Response(status.CANCEL)
            return
        if number == max_results:
            yield Response(status.OUT_OF_RESOURCES, f"more than {max_results} matches")
            return
        yield Response(pending, identifier=answers.write(contents.plain(whole)))
    yield Response(status.SUCCESS)


def _change_state(request: Request, engine: Engine) -> Response:
    sent = workitem_datasets.read(request)
    title = request.caller.calling_ae_title
    wish = Wish(contents.text(sent, STATE), contents.text(sent, TRANSACTION), title)
    with transaction(engine) as session:
        answer = verbs.change_state(session, _uid(request), wish)
    return Response(_ALREADY[wish.state] if answer is Answer.ALREADY else status.SUCCESS)


def _request_cancel(request: Request, engine: Engine) -> Response:
    sent = workitem_datasets.read(request) if request.command.has_data_set else {}
    by = request.caller.calling_ae_title
    with transaction(engine) as session:
        answer = verbs.request_cancel(session, _uid(request), sent, by)
    return Response(status.ALREADY_CANCELED if answer is Answer.ALREADY else status.SUCCESS)


def _uid(request: Request) -> str:
    return request.command.requested_sop_instance_uid or ""


def _keys(sent: Json) -> dict[str, str]:
    """Return the matching keys that stand beside the attributes of a subscription."""
    of_action = {"ReceivingAE", "DeletionLock", "SpecificCharacterSet"}
    plain = {name: value for name, value in contents.plain(sent).items() if name not in of_action}
    return dict(_dotted(plain, ""))


def _dotted(plain: Mapping[str, Any], path: str) -> Iterable[tuple[str, str]]:
    for keyword, value in plain.items():
        if isinstance(value, list):
            for item in value[:1]:
                yield from _dotted(item, f"{path}{keyword}.")
        elif value:
            yield f"{path}{keyword}", value


def _complete(keys: tuple[Key, ...]) -> tuple[Key, ...]:
    by_tag = {key.tag: key for key in keys}
    for tag, keyword in zip(_ALWAYS, ("SOPClassUID", "SOPInstanceUID"), strict=True):
        by_tag.setdefault(tag, Key(tag, "UI", keyword))
    return tuple(by_tag[tag] for tag in sorted(by_tag))
