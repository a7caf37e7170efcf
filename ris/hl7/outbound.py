"""From what happened to orders to the messages that tell of it, one for each destination.

One process at a time does it, oldest event first, so that the messages of an order wait in the
order in which its events were written down. A message is made once and stays as it is.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Final

from sqlalchemy import text

from ris import orders, outbox, patients
from ris.hl7 import building, destinations, outgoing
from ris.hl7.building import OrderNews
from ris.hl7.destinations import Destination, Style
from ris.hl7.outgoing import Draft
from ris.outbox import OrderEvent
from storage.base.errors import NotFound
from storage.db.engine import Engine, Session, transaction

log = logging.getLogger(__name__)

BATCH: Final = 100
STATUS_CHANGED: Final = "SC"
"""ORC-1 (HL7 table 0119)."""
_ONLY_ONE: Final = text("SELECT pg_try_advisory_xact_lock(4743210021)")


def tell(engine: Engine, zone: tzinfo, limit: int = BATCH) -> int:
    """Make messages of the oldest events of which none were made; return of how many."""
    with transaction(engine) as session:
        if not session.scalar(_ONLY_ONE):
            return 0  # another process is at it
        events = outbox.untold(session, limit)
        if not events:
            return 0
        known = destinations.list_all(session)
        wanted = [one for one in events if any(wants(to.style, one) for to in known)]
        news = _news(session, wanted)
        drafts = [
            _draft(news[event.id], one, event, zone)
            for event in wanted
            for one in known
            if event.id in news and wants(one.style, event) and concerns(one.style, news[event.id])
        ]
        outgoing.enqueue(session, drafts)
        outbox.mark_told(session, [event.id for event in events])
    if drafts:
        log.info("hl7_told", extra={"count": len(drafts)})
    return len(events)


def wants(style: Style, event: OrderEvent) -> bool:
    """Whether a destination wants to know of what happened.

    The sender of an order knows what its own message did; what it could not do it is told.
    """
    echo = bool(event.caused_by) and event.control == STATUS_CHANGED
    return (style.echo or not echo) and (not style.statuses or event.status in style.statuses)


def concerns(style: Style, news: OrderNews) -> bool:
    """Whether a destination wants to know of that order."""
    from_there = not style.senders or news.order.sender in style.senders
    return "orders" in style.tells and from_there


def _draft(news: OrderNews, to: Destination, event: OrderEvent, zone: tzinfo) -> Draft:
    control_id = building.new_control_id()
    return Draft(
        to.name,
        f"order:{event.order_id}",
        control_id,
        f"{'OMG^O19' if to.style.message == 'OMG' else 'ORM^O01'} {event.control} {event.status}",
        building.order_message(news, to.style, zone, control_id),
        keys_of(news),
    )


def keys_of(news: OrderNews) -> list[str]:
    """Return what people find a message by."""
    order = news.order
    return [
        f"{kind}:{value}"
        for kind, value in (
            ("patient", news.patient.identifier.value),
            ("order", order.placer_order_number),
            ("order", order.filler_order_number),
            ("accession", order.accession_number),
        )
        if value
    ]


def _news(session: Session, events: Sequence[OrderEvent]) -> Mapping[int, OrderNews]:
    """Return what is to be told of each event; an order that is gone is told of no more."""
    found: dict[int, OrderNews] = {}
    for event in events:
        try:
            found[event.id] = _of(session, event)
        except NotFound:
            log.warning("hl7_order_gone", extra={"reason": "an order that is told of is gone"})
    return found


def _of(session: Session, event: OrderEvent) -> OrderNews:
    order = orders.get(session, event.order_id)
    return OrderNews(
        control=event.control,
        status=event.status,
        happened_at=event.happened_at,
        order=order,
        patient=patients.shown(session, order.patient_id),
        visit=patients.visit(session, order.visit_id) if order.visit_id else None,
        procedures=orders.procedures_of(session, order.id),
        steps=orders.steps_of(session, order.id),
    )
