"""One message from its bytes to its acknowledgement, whichever wire brought it.

    bytes ─ read ─ sender ─ plan ─┬─ ledger (committed) ─ verbs + result (one transaction) ─ AA
                                  └─ a fault ─ ledger ──────────────────────────────── AE, AR

What comes back says what is true: AA, it is safe and done; AR 207, nothing is lost and the sender
shall keep it; and a message that came before gets its first answer again. What cannot be done
stays in the ledger with its reason, and blocks nobody.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from typing import Final

from ris.hl7 import ack, dispatch, ledger, message
from ris.hl7.ack import Code, Fault, NoSequence, OrderAnswer
from ris.hl7.dispatch import Task, Verbs
from ris.hl7.ledger import Entry, Noted, Received, Result, State
from ris.hl7.message import Message, NoMessage
from ris.hl7.profile import OnError, Profile
from ris.hl7.senders import SenderBook
from ris.requests import Applied, Context
from storage.base.clock import utc_now
from storage.base.errors import ImagingError, Rejected, Unavailable
from storage.base.logs import bound
from storage.db.engine import Engine, transaction

log = logging.getLogger(__name__)

MAX_TRIES: Final = 3
"""So often a message is tried that we cannot work on for a reason of our own; then it is dead."""
_QUICK_RETRIES: Final = 2
"""Within one try, for what passes by itself: a deadlock, a connection that was cut."""
_PAUSE_S: Final = 0.05
UNDONE_AFTER: Final = timedelta(seconds=30)
_NOT_NOW: Final = Fault(Code.REJECT, "207", "")
_TOO_LONG: Final = Fault(Code.REJECT, "207", "the message is longer than this system takes")


@dataclass(frozen=True, slots=True)
class Preview:
    """What a message would become; nothing of it is done."""

    kind: str
    sender: str
    profile: Profile
    charset: str
    charset_guessed: bool
    task: Task | None
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class _Reading:
    """A message as far as it could be understood."""

    raw: bytes
    message: Message
    profile: Profile
    task: Task | None
    fault: Fault | None


class Pipeline:
    """Receives messages for one node; used by many threads.

    Parameters
    ----------
    zone
        The time zone of the hospital.
    """

    def __init__(self, engine: Engine, senders: SenderBook, verbs: Verbs, zone: tzinfo) -> None:
        self._engine = engine
        self._senders = senders
        self._verbs = verbs
        self._zone = zone

    def answer(self, octets: bytes, peer: str, wire: str = "mllp") -> bytes:
        """Return the acknowledgement of one message or batch; never raises."""
        try:
            parts = message.split_batch(octets)
            if parts == [octets]:
                return self._answer(octets, peer, wire)
            answers = [self._answer(part, peer, wire) for part in parts]
            return ack.build_batch(answers, octets, self._now())
        except Exception:
            log.exception("hl7_defect")
            return ack.build_blind(octets, self._now(), _NOT_NOW)

    def refuse(self, head: bytes) -> bytes:
        """Return the answer to a frame that is too long, of which `head` is the beginning."""
        return ack.build_blind(head, self._now(), _TOO_LONG)

    def preview(self, octets: bytes, peer: str = "", given: Profile | None = None) -> Preview:
        """Read a message by its sender's profile, or by `given`, and do nothing.

        Raises
        ------
        NoMessage
            It does not begin with MSH.
        NotPermitted
            The sender is not registered.
        """
        reading = self._read(octets, peer, given)
        decoded = reading.message.decoded
        return Preview(
            _kind(reading.message),
            reading.profile.name,
            reading.profile,
            decoded.charset,
            decoded.guessed,
            reading.task,
            reading.fault,
        )

    def replay(self, message_id: int, corrected: bytes | None = None) -> Entry:
        """Try a message that failed once more, or a corrected copy of it.

        Raises
        ------
        NotFound
            The ledger has no message of that number.
        Conflict
            It was applied already.
        """
        with transaction(self._engine) as session:
            entry = ledger.reopen(session, message_id)
        if corrected is None:
            self._again(entry)
        else:
            self._correct(entry, corrected)
        with transaction(self._engine) as session:
            newest = ledger.Search()
            found = [
                one for one in ledger.search(session, newest, 50) if one.corrects == message_id
            ]
            return found[0] if corrected is not None and found else ledger.get(session, message_id)

    def finish_undone(self, before: datetime | None = None, limit: int = 500) -> int:
        """Take up the messages that were received and not finished, oldest first; return how many.

        A process that was killed leaves them. Their senders got no answer, and send them again.
        """
        until = before or utc_now() - UNDONE_AFTER
        with transaction(self._engine) as session:
            entries = ledger.unfinished(session, until, limit)
        for entry in entries:
            self._again(entry)
        return len(entries)

    def _answer(self, raw: bytes, peer: str, wire: str) -> bytes:
        try:
            reading = self._read(raw, peer)
        except NoMessage as error:
            return self._unreadable(raw, peer, wire, error)
        except ImagingError as error:  # not registered, or nobody can look it up now
            log.warning("hl7_refused", extra={"reason": str(error), "peer": peer})
            return self._blind(raw, error)
        with bound(message_control_id=reading.message.control_id):
            try:
                noted = self._note(reading, peer, wire)
            except Unavailable as error:
                log.warning("hl7_not_kept", extra={"reason": str(error)})
                return self._build(reading, Code.REJECT, ack.fault_of(error))
            if noted.answer is not None:
                log.info("hl7_repeated", extra={"kind": _kind(reading.message)})
                return noted.answer
            return self._process(reading, noted.id)

    def _read(self, raw: bytes, peer: str, given: Profile | None = None) -> _Reading:
        read = message.read(raw)
        profile = given or self._senders.find(read, peer)
        if read.decoded.guessed and profile.charset:
            read = message.read(raw, profile.charset)
        try:
            task = dispatch.plan(read, profile, self._zone)
        except ImagingError as error:
            return _Reading(raw, read, profile, None, ack.fault_of(error))
        return _Reading(raw, read, profile, task, None)

    def _note(self, reading: _Reading, peer: str, wire: str, corrects: int | None = None) -> Noted:
        read, sender = reading.message, reading.profile.name
        received = Received(
            raw=reading.raw,
            wire=wire,
            peer=peer,
            sender=sender,
            control_id=_storable(read.control_id),
            kind=_kind(read),
            charset=read.decoded.charset,
            charset_guessed=read.decoded.guessed,
            identity=None if corrects else ledger.identity_of(sender, read, reading.raw),
            keys=[_storable(key) for key in reading.task.keys] if reading.task else [],
            corrects=corrects,
        )
        with transaction(self._engine) as session:
            noted = ledger.note(session, received)
        if noted.reused_control_id:
            log.warning("hl7_control_id_reused", extra={"kind": received.kind})
        return noted

    def _process(self, reading: _Reading, message_id: int) -> bytes:
        """Do what the message asks for and write down what became of it; return the answer."""
        if reading.task is None:
            return self._settle(message_id, self._failed(reading, reading.fault or _NOT_NOW))
        started = time.monotonic()
        try:
            answer = self._apply(reading, reading.task, message_id)
        except Rejected as error:
            return self._settle(message_id, self._failed(reading, ack.fault_of(error)))
        except Unavailable as error:
            log.warning("hl7_not_now", extra={"reason": str(error)})
            return self._later(reading, message_id, error)
        except Exception as error:
            log.exception("hl7_verb_failed", extra={"kind": _kind(reading.message)})
            return self._later(reading, message_id, error)
        elapsed_ms = round((time.monotonic() - started) * 1000)
        log.info("hl7_applied", extra={"kind": _kind(reading.message), "duration_ms": elapsed_ms})
        return answer

    def _apply(self, reading: _Reading, task: Task, message_id: int) -> bytes:
        tries = 0
        while True:
            try:
                return self._apply_once(reading, task, message_id)
            except Unavailable:
                tries += 1
                if tries > _QUICK_RETRIES:
                    raise
                time.sleep(_PAUSE_S * tries)

    def _apply_once(self, reading: _Reading, task: Task, message_id: int) -> bytes:
        context = Context(
            sender=reading.profile.name,
            sent_at=task.sent_at,
            message_id=message_id,
            role=reading.profile.role,
        )
        with transaction(self._engine) as session:
            ledger.lock(session, task.locks)
            applied = task.work(session, self._verbs, context)
            answer = self._build(reading, Code.ACCEPT, orders=_order_answers(reading, applied))
            result = Result(
                State.APPLIED,
                answer,
                Code.ACCEPT,
                reason="; ".join((*task.notes, *(note for one in applied for note in one.notes))),
                outcome=" ".join(one.outcome for one in applied),
            )
            if not ledger.settle(session, message_id, result):
                session.rollback()  # another connection brought the same message
        with transaction(self._engine) as session:
            return ledger.answer_of(session, message_id) or answer if session.is_active else answer

    def _failed(self, reading: _Reading, fault: Fault) -> Result:
        """Return what becomes of a message that a resend will not mend."""
        profile = reading.profile
        refused = fault.code is Code.REJECT
        softened = (
            profile.accept_unsupported if refused else profile.on_error is OnError.QUEUE
        ) and fault.error != "202"
        answer = (
            self._build(reading, Code.ACCEPT)
            if softened
            else self._build(reading, fault.code, fault)
        )
        log.warning("hl7_refused" if refused else "hl7_dead", extra={"reason": fault.text})
        return Result(
            State.REFUSED if refused else State.DEAD,
            answer,
            ack.code_in(answer),
            reason=f"{fault.error} {ack.ERRORS[fault.error][0]}: {fault.text}",
        )

    def _settle(self, message_id: int, result: Result) -> bytes:
        with transaction(self._engine) as session:
            done = ledger.settle(session, message_id, result)
            earlier = None if done else ledger.answer_of(session, message_id)
        return earlier or result.answer or b""

    def _later(self, reading: _Reading, message_id: int, error: Exception) -> bytes:
        """Keep the message for another try; one that failed too often for our own fault is dead."""
        why = str(error) if isinstance(error, ImagingError) else type(error).__name__
        try:
            with transaction(self._engine) as session:
                tries = ledger.note_failure(session, message_id, why)
            if tries >= MAX_TRIES and not isinstance(error, Unavailable):
                fault = Fault(Code.ERROR, "207", "")
                result = replace(self._failed(reading, fault), reason=f"207 defect: {why}")
                return self._settle(message_id, result)
        except Unavailable as away:
            log.warning("hl7_not_noted", extra={"reason": str(away)})
        return self._build(reading, Code.REJECT, _NOT_NOW)

    def _again(self, entry: Entry) -> None:
        with bound(message_control_id=entry.control_id):
            try:
                reading = self._read(entry.raw, entry.peer)
            except ImagingError as error:
                fault = ack.fault_of(error)
                answer = ack.build_blind(entry.raw, self._now(), fault)
                result = Result(State.REFUSED, answer, fault.code, reason=fault.text)
                self._settle(entry.id, result)
                return
            self._process(reading, entry.id)

    def _correct(self, entry: Entry, corrected: bytes) -> None:
        """Apply a corrected copy as a message of its own, which answers for the first one."""
        try:
            reading = self._read(corrected, entry.peer)
            if reading.fault is not None:
                raise NoSequence(reading.fault.text)
            noted = self._note(reading, entry.peer, "corrected", corrects=entry.id)
        except ImagingError:
            self._back_to_dead(entry)
            raise
        self._process(reading, noted.id)
        with transaction(self._engine) as session:
            if ledger.get(session, noted.id).state is State.APPLIED:
                ledger.mark_corrected(session, entry.id)
                return
        self._back_to_dead(entry)

    def _back_to_dead(self, entry: Entry) -> None:
        result = Result(entry.state, entry.answer, entry.answer_code, entry.reason, entry.outcome)
        with transaction(self._engine) as session:
            ledger.settle(session, entry.id, result)

    def _unreadable(self, raw: bytes, peer: str, wire: str, error: NoMessage) -> bytes:
        """Keep what is no message too: somebody will ask where it went."""
        answer = self._blind(raw, NoSequence(str(error)))
        try:
            with transaction(self._engine) as session:
                noted = ledger.note(session, Received(raw=raw, wire=wire, peer=peer))
                reason = f"100 {error}"
                result = Result(State.REFUSED, answer, Code.REJECT, reason=reason)
                ledger.settle(session, noted.id, result)
        except Unavailable as away:
            log.warning("hl7_not_kept", extra={"reason": str(away)})
        return answer

    def _blind(self, raw: bytes, error: ImagingError) -> bytes:
        return ack.build_blind(raw, self._now(), ack.fault_of(error))

    def _build(
        self,
        reading: _Reading,
        code: Code,
        fault: Fault | None = None,
        orders: Sequence[OrderAnswer] | None = None,
    ) -> bytes:
        return ack.build(reading.message, code, self._now(), fault, orders)

    def _now(self) -> datetime:
        return utc_now().astimezone(self._zone)


def _kind(read: Message) -> str:
    return _storable("^".join(filter(None, (read.code, read.trigger))))[:40]


def _storable(text: str) -> str:
    """Return `text` as PostgreSQL can hold it, short enough for an index."""
    return text.replace("\0", "")[:200]


def _order_answers(reading: _Reading, applied: Sequence[Applied]) -> list[OrderAnswer] | None:
    """Return what an answer of the ORR kind says, None where the sender wants a plain one."""
    if not reading.profile.answer_orders or reading.message.code not in dispatch.ORDERS:
        return None
    return [
        OrderAnswer(one.control or "OK", one.placer_order_number, one.filler_order_number)
        for one in applied
    ]
