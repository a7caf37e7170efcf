"""C-MOVE SCP (PS3.4 C.4.2): the instances go to a third party, over associations of our own."""

from collections.abc import Callable, Iterator

from pacs.scp import models, status, suboperations
from pacs.scp.exchange import Counts, Exchange, Request, Response
from pacs.scp.suboperations import Locate
from pacs.scu.association import Address
from pacs.scu.sender import Originator, Outgoing, Sender
from storage.archive.model import StoredInstance
from storage.objects.store import ObjectStore

Resolve = Callable[[str], Address | None]
"""Finds where a registered AE title listens."""


def move(
    request: Request,
    exchange: Exchange,
    *,
    locate: Locate,
    store: ObjectStore,
    resolve: Resolve,
    ae_title: str,
) -> Iterator[Response]:
    """Send every instance that the identifier names to the Move Destination (0000,0600)."""
    keys = suboperations.wanted(request, models.MOVE[request.context.abstract_syntax])
    named = request.command.move_destination or ""
    destination = resolve(named) if named else None
    if destination is None:
        yield Response(
            status.DESTINATION_UNKNOWN,
            f"Move Destination {named} is not registered",
            (0x00000600,),
            counts=Counts(0, 0, 0),
        )
        return
    instances = locate(keys)
    originator = Originator(request.caller.calling_ae_title, request.command.message_id or 0)
    pairs = [(one.sop_class_uid, one.transfer_syntax_uid) for one in instances]
    with Sender(destination, ae_title, pairs) as sender:

        def send(instance: StoredInstance) -> int:
            accepted = sender.accepted(instance.sop_class_uid)
            syntax, dataset = suboperations.dataset(store, instance, accepted)
            outgoing = Outgoing(instance.sop_class_uid, instance.sop_instance_uid, syntax, dataset)
            return sender.send(outgoing, originator)

        yield from suboperations.perform(request, exchange, instances, send)
