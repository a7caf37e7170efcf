"""C-GET SCP (PS3.4 C.4.3): the instances come back over the same association."""

from collections.abc import Iterator

from pacs import contexts
from pacs.scp import models, suboperations
from pacs.scp.exchange import Exchange, Request, Response
from pacs.scp.suboperations import Locate
from pacs.scu.sender import Outgoing, store_request
from storage.archive.model import StoredInstance
from storage.base.errors import NotSupported
from storage.objects.store import ObjectStore


def get(
    request: Request, exchange: Exchange, *, locate: Locate, store: ObjectStore
) -> Iterator[Response]:
    """Send every instance that the identifier names to the peer itself."""

    def send(instance: StoredInstance) -> int:
        accepted = exchange.accepted(instance.sop_class_uid)
        if not accepted:
            raise NotSupported(
                f"the peer has no SCP role for {contexts.name_of(instance.sop_class_uid)}"
            )
        syntax, dataset = suboperations.dataset(store, instance, accepted)
        outgoing = Outgoing(instance.sop_class_uid, instance.sop_instance_uid, syntax, dataset)
        answer = exchange.store(accepted[syntax], store_request(outgoing), dataset)
        return answer.status or 0

    keys = suboperations.wanted(request, models.GET[request.context.abstract_syntax])
    yield from suboperations.perform(request, exchange, locate(keys), send)
