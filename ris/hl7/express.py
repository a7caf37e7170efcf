"""New orders of many connections, kept and placed together.

    ledger, all of them (committed) ─ orders and results, all of them (one transaction) ─ AA, each
                                      └─ what is not plain: one by one (`pipeline`)

Whoever waits on a connection waits no longer than for what was begun before; messages that come
meanwhile share the next two commits and the statements between them. A message that cannot be
placed so, or whose company fails, is in the ledger as any other is, and is worked on alone.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.exc import IntegrityError

from ris.hl7 import ack, dispatch, ledger
from ris.hl7.ack import Code, OrderAnswer
from ris.hl7.convoy import Convoy
from ris.hl7.dispatch import Task, Verbs
from ris.hl7.ledger import Noted, Received, Result, State
from ris.hl7.reading import Reading
from ris.placing import Asked
from ris.requests import Applied, Context, OrderRequest, PatientRequest, VisitRequest
from storage.base.errors import ImagingError, StoreUnavailable, Unavailable
from storage.base.logs import bound
from storage.db import together
from storage.db.engine import Engine, Session, line

log = logging.getLogger(__name__)

LONGEST: Final = 64 << 10
"""Bytes of a message that goes along with others."""


@dataclass(slots=True)
class Parcel:
    """One message, and what came of it."""

    reading: Reading
    task: Task
    order: tuple[PatientRequest, VisitRequest, OrderRequest]
    received: Received
    noted: Noted | None = None
    """None: it was there before, or nobody could write it down."""
    answer: bytes | None = None
    """Of an order that was placed; None: it is still to be worked on."""
    error: Unavailable | None = None
    """Why it could not be written down."""


class Express:
    """Keeps and places new orders for many threads; `now` is the local time of the hospital."""

    def __init__(self, engine: Engine, verbs: Verbs, now: Callable[[], datetime]) -> None:
        self._engine = engine
        self._verbs = verbs
        self._now = now
        self._convoy = Convoy(self.carry)

    def take(self, reading: Reading, peer: str, wire: str) -> Parcel | None:
        """Keep a message and place its order; None for one that is not kept here."""
        parcel = parcel_of(reading, peer, wire)
        if parcel is None:
            return None
        started = time.monotonic()
        self._convoy.ride(parcel, parcel.task.locks)
        with bound(message_control_id=reading.control_id):
            if parcel.noted and parcel.noted.reused_control_id:
                log.warning("hl7_control_id_reused", extra={"kind": reading.kind})
            if parcel.answer is not None:
                elapsed_ms = round((time.monotonic() - started) * 1000)
                log.info("hl7_applied", extra={"kind": reading.kind, "duration_ms": elapsed_ms})
        return parcel

    def carry(self, parcels: Sequence[Parcel]) -> None:
        """Keep some messages and place their orders, of which no two share a lock; never raises."""
        written = False
        with _all_or_each():
            try:
                with line(self._engine) as session:
                    self._keep(session, parcels)
                    written = True
                    if kept := [one for one in parcels if one.noted is not None]:
                        self._place(session, kept)
            except Unavailable as error:
                if written:
                    raise
                for one in parcels:
                    one.error = error

    def _keep(self, session: Session, parcels: Sequence[Parcel]) -> None:
        with session.begin():
            noted = ledger.note_all(session, [one.received for one in parcels])
        for one, its in zip(parcels, noted, strict=True):
            one.noted = its

    def _place(self, session: Session, kept: Sequence[Parcel]) -> None:
        with session.begin():
            drawn = self._verbs.place(session, list(map(_asked, kept)))
            placed = [
                (one, its) for one, its in zip(kept, drawn.done, strict=True) if its is not None
            ]
            if not placed:
                return
            results = {
                number(one): applied(one.reading, one.task, [its], self._now())
                for one, its in placed
            }
            *_, settled = together.ask(session, *drawn.writes, ledger.settling(results))
            if settled.count != len(results):
                raise StoreUnavailable("somebody took one of the messages up just now")
        for one, _ in placed:
            one.answer = results[number(one)].answer


def parcel_of(reading: Reading, peer: str, wire: str) -> Parcel | None:
    """Return a message that may go along with others, None for another."""
    task = reading.task
    if task is None or task.order is None or reading.asked is not None:
        return None
    if len(reading.raw) > LONGEST:
        return None
    return Parcel(reading, task, task.order, received(reading, peer, wire))


@contextmanager
def _all_or_each() -> Iterator[None]:
    """Let each of them try alone where all together fail, and say what is wrong."""
    try:
        yield
    except ImagingError as error:
        log.warning("hl7_parted", extra={"reason": str(error)})
    except IntegrityError as error:
        log.warning("hl7_parted", extra={"reason": type(error).__name__})
    except Exception:
        log.exception("hl7_parted")


def received(reading: Reading, peer: str, wire: str, corrects: int | None = None) -> Received:
    """Return what the ledger keeps of a message."""
    sender, decoded = reading.profile.name, reading.message.decoded
    identity = None if corrects else ledger.identity_of(sender, reading.message, reading.raw)
    return Received(
        raw=reading.raw,
        wire=wire,
        peer=peer,
        sender=sender,
        control_id=reading.control_id,
        kind=reading.kind,
        charset=decoded.charset,
        charset_guessed=decoded.guessed,
        identity=identity,
        keys=reading.keys,
        corrects=corrects,
    )


def context(reading: Reading, task: Task, message_id: int) -> Context:
    """Return of which message a task is."""
    return Context(
        sender=reading.profile.name,
        sent_at=task.sent_at,
        message_id=message_id,
        role=reading.profile.role,
    )


def applied(reading: Reading, task: Task, done: Sequence[Applied], now: datetime) -> Result:
    """Return what became of a message whose task was done."""
    answer = ack.build(
        reading.message,
        Code.ACCEPT,
        now,
        orders=_order_answers(reading, done),
        conditions=reading.wanted_of_answer,
    )
    return Result(
        State.APPLIED,
        answer,
        Code.ACCEPT,
        reason="; ".join((*task.notes, *(note for one in done for note in one.notes))),
        outcome=" ".join(one.outcome for one in done),
    )


def number(parcel: Parcel) -> int:
    """Return the number in the ledger of a message that is kept."""
    return parcel.noted.id if parcel.noted else 0


def _asked(parcel: Parcel) -> Asked:
    told = context(parcel.reading, parcel.task, number(parcel))
    return Asked(told, *parcel.order, parcel.task.locks)


def _order_answers(reading: Reading, done: Sequence[Applied]) -> list[OrderAnswer] | None:
    """Return what an answer of the ORR kind says, None where the sender wants a plain one."""
    if not reading.profile.answer_orders or reading.message.code not in dispatch.ORDERS:
        return None
    return [
        OrderAnswer(one.control or "OK", one.placer_order_number, one.filler_order_number)
        for one in done
    ]
