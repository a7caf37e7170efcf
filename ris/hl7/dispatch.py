"""Which message asks for which verb.

ADT^A01 … A31          the patient and the visit
ADT^A40 A34 A30 A36    merge                ADT^A46 A47   another number
ADT^A24 / A37          link / unlink
ORM OMG OMI            orders, by ORC-1     SIU^S12 … S15 when and where
ORU^R01                results of a report system of another maker (`ris.reports.foreign`)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Final, Protocol

from ris.hl7 import inbound, observing
from ris.hl7.ack import TrialMessage, UnsupportedEvent
from ris.hl7.message import Message
from ris.hl7.profile import Profile
from ris.placing import Asked, Placed
from ris.reports import foreign
from ris.requests import (
    Applied,
    AppointmentRequest,
    Context,
    Identifier,
    MergeRequest,
    OrderRequest,
    PatientRequest,
    Request,
    ResultRequest,
    VisitRequest,
)
from storage.base.errors import Malformed, NotFound, NotSupported
from storage.db.engine import Session


class Verbs(Protocol):
    """What messages may ask for; each verb does its whole work in the session it is given."""

    def admit(
        self,
        session: Session,
        context: Context,
        event: str,
        patient: PatientRequest,
        visit: VisitRequest,
    ) -> Applied:
        """Create or update a patient (ADT `event`)."""
        ...

    def merge(self, session: Session, context: Context, pairs: Sequence[MergeRequest]) -> Applied:
        """Merge each prior patient into its survivor."""
        ...

    def renumber(
        self, session: Session, context: Context, pairs: Sequence[MergeRequest]
    ) -> Applied:
        """Give each prior patient the survivor's number."""
        ...

    def link(
        self, session: Session, context: Context, one: Identifier, other: Identifier
    ) -> Applied:
        """Note that two patients are one person."""
        ...

    def unlink(
        self, session: Session, context: Context, one: Identifier, other: Identifier
    ) -> Applied:
        """Undo a link or a merge of two patients."""
        ...

    def order(
        self,
        session: Session,
        context: Context,
        patient: PatientRequest,
        visit: VisitRequest,
        order: OrderRequest,
    ) -> Applied:
        """Do with one order what its control code says."""
        ...

    def place(self, session: Session, asked: Sequence[Asked]) -> Placed:
        """Draw up many new orders at once, those that need not be left to `order`."""
        ...

    def appoint(
        self, session: Session, context: Context, appointment: AppointmentRequest
    ) -> Applied:
        """Move or cancel the time of an order."""
        ...


Work = Callable[[Session, Verbs, Context], list[Applied]]


@dataclass(frozen=True, slots=True)
class Task:
    """What one message asks for, read and ready to be done."""

    work: Work
    locks: tuple[str, ...]
    """Two tasks that share one are done one after the other."""
    keys: tuple[str, ...]
    """What people find the message by."""
    sent_at: datetime | None
    notes: tuple[str, ...] = ()
    requests: tuple[Request, ...] = ()
    """What was read, for people to look at."""
    order: tuple[PatientRequest, VisitRequest, OrderRequest] | None = None
    """The only order of a message: it may be placed together with those of others."""


# HL7 table 0003. The patient and the visit are taken as they are told; what a movement means
# beyond that concerns nobody here.
_ADMISSIONS: Final = frozenset(
    {*(f"A{number:02}" for number in range(1, 17)), "A25", "A26", "A27", "A28", "A31", "A38"}
)
_MERGES: Final = frozenset({"A30", "A34", "A36", "A39", "A40"})
_NUMBERS: Final = frozenset({"A46", "A47"})
_APPOINTMENTS: Final[Mapping[str, bool]] = {"S12": False, "S13": False, "S14": False, "S15": True}
"""Trigger event → whether it cancels."""
IGNORED: Final = "ignored"
"""What becomes of results that are not for us."""
ORDERS: Final = frozenset({"ORM", "OMG", "OMI"})
_ORDER_EVENTS: Final[Mapping[str, str]] = {"ORM": "O01", "OMG": "O19", "OMI": "O23"}


def plan(message: Message, profile: Profile, zone: tzinfo) -> Task:
    """Read what `message` asks for.

    Raises
    ------
    NotSupported, UnsupportedEvent, TrialMessage
        It is not for us.
    Malformed
        Something that we insist on is missing or cannot be read.
    """
    processing = message.header.value(11, 1).upper()
    if processing and processing not in profile.processing_ids:
        raise TrialMessage("MSH-11: this system works on real patients")
    if message.code in ORDERS:
        return _orders(message, profile, zone)
    if message.code == "ADT":
        return _adt(message, profile, zone)
    if message.code == "ORU":
        return _results(message, profile, zone)
    if message.code == "SIU":
        return _appointment(message, profile, zone)
    if not message.code:
        raise NotSupported("MSH-9: there is no message type")
    raise NotSupported("MSH-9.1: not a type of message that this system takes")


def _orders(message: Message, profile: Profile, zone: tzinfo) -> Task:
    if message.trigger and message.trigger != _ORDER_EVENTS[message.code]:
        raise UnsupportedEvent("MSH-9.2: not an event of this type of message")
    read = inbound.reader(message, profile, zone)
    patient, visit = inbound.patient(read), inbound.visit(read)
    orders, notes = inbound.orders(message, profile, zone)

    def work(session: Session, verbs: Verbs, context: Context) -> list[Applied]:
        return [verbs.order(session, context, patient, visit, order) for order in orders]

    numbers = {order.placer_order_number or order.filler_order_number for order in orders}
    accessions = {order.accession_number for order in orders} - {""}
    return Task(
        work,
        locks=(*_patient_locks(patient.identifier), *(f"order:{number}" for number in numbers)),
        keys=_keys((patient.identifier, *patient.other_identifiers), numbers, accessions),
        sent_at=inbound.sent_at(read),
        notes=(*read.notes, *notes),
        requests=(patient, visit, *orders),
        order=(patient, visit, orders[0]) if len(orders) == 1 else None,
    )


def _results(message: Message, profile: Profile, zone: tzinfo) -> Task:
    if message.trigger not in {"", "R01"}:
        raise UnsupportedEvent("MSH-9.2: not an event of this type of message")
    read = inbound.reader(message, profile, zone)
    patient = inbound.patient(read)
    results, notes = observing.results(message, profile, zone)

    def work(session: Session, _verbs: Verbs, context: Context) -> list[Applied]:
        done = [_taken(session, context, profile, patient, one) for one in results]
        return done or [Applied(IGNORED)]

    numbers = {one.placer_order_number or one.filler_order_number for one in results} - {""}
    accessions = {one.accession_number for one in results} - {""}
    return Task(
        work,
        locks=(*_patient_locks(patient.identifier), *(f"order:{number}" for number in numbers)),
        keys=_keys((patient.identifier, *patient.other_identifiers), numbers, accessions),
        sent_at=inbound.sent_at(read),
        notes=(*read.notes, *notes),
        requests=(patient, *results),
    )


def _taken(
    session: Session,
    context: Context,
    profile: Profile,
    patient: PatientRequest,
    result: ResultRequest,
) -> Applied:
    try:
        return foreign.take(session, context, patient, result)
    except NotFound as error:
        if not profile.ignore_unknown_results:
            raise
        return Applied(IGNORED, result.placer_order_number, notes=(str(error),))


def _adt(message: Message, profile: Profile, zone: tzinfo) -> Task:
    event = message.trigger
    read = inbound.reader(message, profile, zone)
    if event in _ADMISSIONS:
        patient, visit = inbound.patient(read), inbound.visit(read)

        def admit(session: Session, verbs: Verbs, context: Context) -> list[Applied]:
            return [verbs.admit(session, context, event, patient, visit)]

        task = _of((patient.identifier,), admit, (patient, visit), patient.other_identifiers)
    elif event in _MERGES | _NUMBERS:
        pairs = inbound.merges(message, profile, zone)

        def merge(session: Session, verbs: Verbs, context: Context) -> list[Applied]:
            verb = verbs.merge if event in _MERGES else verbs.renumber
            return [verb(session, context, pairs)]

        people = [one for pair in pairs for one in (pair.survivor.identifier, pair.prior)]
        task = _of(people, merge, pairs)
    elif event in {"A24", "A37"}:
        one, other = inbound.linked(message, profile, zone)

        def link(session: Session, verbs: Verbs, context: Context) -> list[Applied]:
            verb = verbs.link if event == "A24" else verbs.unlink
            return [verb(session, context, one, other)]

        task = _of((one, other), link, (one, other))
    else:
        raise UnsupportedEvent("MSH-9.2: not an event that this system takes")
    return replace(task, sent_at=inbound.sent_at(read), notes=tuple(read.notes))


def _appointment(message: Message, profile: Profile, zone: tzinfo) -> Task:
    if message.trigger not in _APPOINTMENTS:
        raise UnsupportedEvent("MSH-9.2: not an event that this system takes")
    read = inbound.reader(message, profile, zone)
    asked = inbound.appointment(read, cancelled=_APPOINTMENTS[message.trigger])

    def work(session: Session, verbs: Verbs, context: Context) -> list[Applied]:
        return [verbs.appoint(session, context, asked)]

    numbers = {*asked.placer_order_numbers, *asked.filler_order_numbers}
    try:
        people = [inbound.patient(read).identifier]
    except Malformed:  # the number of the order is enough
        people = []
    task = _of(people, work, (asked,))
    return replace(
        task,
        locks=(*task.locks, *(f"order:{number}" for number in numbers)),
        keys=_keys(people, numbers, ()),
        sent_at=inbound.sent_at(read),
        notes=tuple(read.notes),
    )


def _of(
    people: Sequence[Identifier],
    work: Work,
    requests: Sequence[Request],
    others: Sequence[Identifier] = (),
) -> Task:
    locks = tuple(lock for one in people for lock in _patient_locks(one))
    return Task(work, locks, _keys((*people, *others), (), ()), None, requests=tuple(requests))


def _patient_locks(identifier: Identifier) -> tuple[str, ...]:
    """By the number alone: two issuers that share one wait for each other, which harms nobody."""
    return (f"patient:{identifier.value.strip().lstrip('0').casefold()}",)


def _keys(
    people: Sequence[Identifier],
    numbers: Sequence[str] | set[str],
    accessions: Sequence[str] | set[str],
) -> tuple[str, ...]:
    return (
        *dict.fromkeys(f"patient:{one.value}" for one in people),
        *sorted(f"order:{number}" for number in numbers),
        *sorted(f"accession:{number}" for number in accessions),
    )
