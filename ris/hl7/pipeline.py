"""One message from its bytes to its acknowledgement, whichever wire brought it.

    bytes ─ read ─ sender ─ plan ─┬─ ledger (committed) ─ verbs + result (one transaction) ─ AA
                                  └─ a fault ─ ledger ──────────────────────────────── AE, AR

What comes back says what is true: AA, it is safe and done; AR 207, nothing is lost and the sender
shall keep it; and a message that came before gets its first answer again. What cannot be done
stays in the ledger with its reason, and blocks nobody.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo
from typing import Final

from sqlalchemy.exc import IntegrityError

from ris.hl7 import ack, dispatch, express, ledger, message, modes, outgoing
from ris.hl7.ack import Code, Fault
from ris.hl7.dispatch import Task, Verbs
from ris.hl7.express import Express, Parcel
from ris.hl7.ledger import Noted, Received, Result, State
from ris.hl7.message import NoMessage
from ris.hl7.outgoing import Draft
from ris.hl7.profile import Profile
from ris.hl7.reading import Reading, kind_of, storable
from ris.hl7.senders import SenderBook
from storage.base.clock import utc_now
from storage.base.errors import (
    ImagingError,
    Malformed,
    Rejected,
    StoreUnavailable,
    Unavailable,
)
from storage.base.logs import bound
from storage.db.engine import Engine, Session, transaction

log = logging.getLogger(__name__)

MAX_TRIES: Final = 3
"""So often a message is tried that we cannot work on for a reason of our own; then it is dead."""
_QUICK_RETRIES: Final = 2
"""Within one try, for what passes by itself: a deadlock, a connection that was cut, a row that
two made at once."""
_PAUSE_S: Final = 0.05
_NOT_NOW: Final = Fault(Code.REJECT, "207", "")
_NOTHING: Final = b"\0\r\n\t "
_EMPTY: Final = Fault(Code.REJECT, "100", "there is no message in the frame")
_TOO_LONG: Final = Fault(Code.REJECT, "207", "the message is longer than this system takes")


class _DoneMeanwhile(Exception):
    """Another connection brought the same message and was faster."""


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
        self._express = Express(engine, verbs, self._now)

    def answer(self, octets: bytes, peer: str, wire: str = "mllp") -> bytes:
        """Return what is said last of one message or batch, for a wire that says one thing.

        b'' is no answer at all: the sender wants none.
        """
        said = b""
        for said in self.answers(octets, peer, wire):  # noqa: B007 - the last one counts
            pass
        return said

    def answers(self, octets: bytes, peer: str, wire: str = "mllp") -> Iterator[bytes]:
        """Yield the acknowledgements of one message or batch, each when it is due; never raises.

        Nothing at all: the sender wants none. The message is worked on between the first and the
        second, so whoever takes one has to take them all.
        """
        said = False
        try:
            for answer in self._answers(octets, peer, wire):
                said = True
                yield answer
        except Exception:
            log.exception("hl7_defect")
            if not said:
                yield ack.build_blind(octets, self._now(), _NOT_NOW)

    def refuse(self, head: bytes) -> bytes:
        """Return the answer to a frame that is too long, of which `head` is the beginning."""
        return ack.build_blind(head, self._now(), _TOO_LONG)

    def read(self, raw: bytes, peer: str, given: Profile | None = None) -> Reading:
        """Read a message by its sender's profile, or by `given`, and do nothing.

        Raises
        ------
        Malformed
            Its header cannot be read.
        NotPermitted
            The sender is not registered.
        StoreUnavailable
            Nobody can look the sender up now.
        """
        read = message.read(raw)
        for number in range(3, len(read.header.fields)):
            read.header.repetitions(number)  # what is too long for a header shows here
        profile = given or self._senders.find(read, peer)
        if read.decoded.guessed and profile.charset:
            read = message.read(raw, profile.charset)
        kind, control_id = kind_of(read), storable(read.control_id)
        try:
            task = dispatch.plan(read, profile, self._zone)
        except ImagingError as error:
            fault = ack.fault_of(error)
            return Reading(raw, read, profile, kind, control_id, None, fault)
        return Reading(raw, read, profile, kind, control_id, task, None)

    def note(self, reading: Reading, peer: str, wire: str, corrects: int | None = None) -> Noted:
        """Write a message down before anything is done with it.

        Raises
        ------
        StoreUnavailable
            The database does not answer.
        """
        with transaction(self._engine) as session:
            noted = ledger.note(session, express.received(reading, peer, wire, corrects))
        if noted.reused_control_id:
            log.warning("hl7_control_id_reused", extra={"kind": reading.kind})
        return noted

    def process(self, reading: Reading, message_id: int) -> bytes:
        """Do what a message asks for and write down what became of it; return the answer."""
        try:
            if reading.task is None:
                result = self._failed(reading, reading.fault or _NOT_NOW)
                return self.settle(message_id, result, reading)
            return self._try(reading, reading.task, message_id)
        except Unavailable as error:
            log.warning("hl7_not_now", extra={"reason": str(error)})
            return self._not_now(reading)

    def settle(self, message_id: int, result: Result, reading: Reading | None = None) -> bytes:
        """Write down what became of a message; return its answer, or that of who was faster.

        With `reading`, the sender gets its application acknowledgement if it wants one.

        Raises
        ------
        StoreUnavailable
            The database does not answer.
        """
        with transaction(self._engine) as session:
            done = self._settle(session, message_id, result, reading)
            earlier = None if done else ledger.answer_of(session, message_id)
        return earlier or result.answer or b""

    def refused(self, raw: bytes, error: ImagingError) -> Result:
        """Return what becomes of something whose header cannot be read."""
        fault = ack.fault_of(error)
        answer = ack.build_blind(raw, self._now(), fault)
        return Result(State.REFUSED, answer, fault.code, reason=_reason(fault))

    def given_up(self, raw: bytes, reason: str) -> Result:
        """Return what becomes of a message that cannot be finished for a reason of our own."""
        answer = ack.build_blind(raw, self._now(), Fault(Code.ERROR, "207", ""))
        return Result(State.DEAD, answer, Code.ERROR, reason=f"207 {reason}")

    def _answers(self, octets: bytes, peer: str, wire: str) -> Iterator[bytes]:
        if not octets.strip(_NOTHING):  # somebody asks whether we are there
            yield ack.build_blind(octets, self._now(), _EMPTY)
            return
        parts = message.split_batch(octets)
        if parts == [octets]:
            yield from self._exchange(octets, peer, wire)
        else:
            yield self._answer_batch(octets, parts, peer, wire)

    def _answer_batch(self, octets: bytes, parts: Sequence[bytes], peer: str, wire: str) -> bytes:
        if not parts:
            return self._unreadable(octets, peer, wire, NoMessage("the batch has no message in it"))
        declared = message.declared_count(octets)
        if declared is not None and declared != len(parts):
            log.warning("hl7_batch_count", extra={"count": len(parts), "total": declared})
        said = [[*self._exchange(part, peer, wire)] for part in parts]
        return ack.build_batch([each[-1] for each in said if each], octets, self._now())

    def _exchange(self, raw: bytes, peer: str, wire: str) -> Iterator[bytes]:
        """Yield what is said of one message on the connection that brought it."""
        try:
            reading = self.read(raw, peer)
        except Malformed as error:
            yield self._unreadable(raw, peer, wire, error)
            return
        except ImagingError as error:  # not registered, or nobody can look it up now
            log.warning("hl7_refused", extra={"reason": str(error), "peer": peer})
            yield ack.build_blind(raw, self._now(), ack.fault_of(error))
            return
        if reading.profile.enhanced and reading.message.code == modes.ACKNOWLEDGEMENT:
            log.warning("hl7_unasked_acknowledgement", extra={"peer": peer})
            return
        parcel = self._express.take(reading, peer, wire)
        if parcel is not None and parcel.answer is not None:
            yield parcel.answer
            return
        noted = self._noted(reading, parcel, peer, wire)
        if noted is None:
            said = (self._not_kept(reading),)
        else:
            yield from filter(None, (self._accepted(reading),))
            said = (self._finish(reading, noted),)
        yield from filter(None, said)

    def _noted(self, reading: Reading, parcel: Parcel | None, peer: str, wire: str) -> Noted | None:
        """Return the place in the ledger of a message that is still to be worked on."""
        if parcel is None or (parcel.noted is None and parcel.error is None):
            return self._keep(reading, peer, wire)
        if parcel.error is not None:
            with bound(message_control_id=reading.control_id):
                log.warning("hl7_not_kept", extra={"reason": str(parcel.error)})
        return parcel.noted

    def _keep(self, reading: Reading, peer: str, wire: str) -> Noted | None:
        with bound(message_control_id=reading.control_id):
            try:
                return self.note(reading, peer, wire)
            except Unavailable as error:
                log.warning("hl7_not_kept", extra={"reason": str(error)})
                return None

    def _finish(self, reading: Reading, noted: Noted) -> bytes:
        """Return what is said here of a message that is kept."""
        with bound(message_control_id=reading.control_id):
            if noted.answer is None:
                answer = self.process(reading, noted.id)
            else:
                log.info("hl7_repeated", extra={"kind": reading.kind})
                answer = noted.answer
        if reading.asked is None:
            return answer
        elsewhere = reading.profile.application_ack
        return b"" if elsewhere or not reading.wants(ack.code_in(answer)) else answer

    def _accepted(self, reading: Reading) -> bytes:
        """Return the accept acknowledgement of a message that is kept, b'' for none."""
        if reading.asked is None or reading.first not in reading.asked.accept:
            return b""
        fault = None if reading.first is Code.COMMIT_ACCEPT else reading.fault
        return ack.build(reading.message, reading.first, self._now(), fault)

    def _not_kept(self, reading: Reading) -> bytes:
        """Return the answer to a message that is not safe with us; b'' when none is asked for."""
        codes = (Code.REJECT,) if reading.asked is None else (Code.COMMIT_ERROR, Code.REJECT)
        code = next((one for one in codes if not reading.asked or reading.asked.wants(one)), None)
        return ack.build(reading.message, code, self._now(), _NOT_NOW) if code else b""

    def _not_now(self, reading: Reading) -> bytes:
        """Return the answer to a message that is kept and not done; b'': it is with us anyhow."""
        if reading.asked is not None:
            return b""
        return ack.build(reading.message, Code.REJECT, self._now(), _NOT_NOW)

    def _try(self, reading: Reading, task: Task, message_id: int) -> bytes:
        started = time.monotonic()
        try:
            answer = self._apply(reading, task, message_id)
        except _DoneMeanwhile:
            return self._earlier(message_id)
        except Rejected as error:
            return self.settle(message_id, self._failed(reading, ack.fault_of(error)), reading)
        except Unavailable:
            raise
        except Exception as error:
            log.exception("hl7_verb_failed", extra={"kind": reading.kind})
            return self._defect(reading, message_id, error)
        elapsed_ms = round((time.monotonic() - started) * 1000)
        log.info("hl7_applied", extra={"kind": reading.kind, "duration_ms": elapsed_ms})
        return answer

    def _apply(self, reading: Reading, task: Task, message_id: int) -> bytes:
        tries = 0
        while True:
            try:
                return self._apply_once(reading, task, message_id)
            except (Unavailable, IntegrityError):
                tries += 1
                if tries > _QUICK_RETRIES:
                    raise
                time.sleep(_PAUSE_S * tries)

    def _apply_once(self, reading: Reading, task: Task, message_id: int) -> bytes:
        context = express.context(reading, task, message_id)
        with transaction(self._engine) as session:
            ledger.lock(session, task.locks)
            done = task.work(session, self._verbs, context)
            result = express.applied(reading, task, done, self._now())
            if not self._settle(session, message_id, result, reading):
                raise _DoneMeanwhile
        return result.answer or b""

    def _settle(
        self, session: Session, message_id: int, result: Result, reading: Reading | None
    ) -> bool:
        """Write down what became of a message, and let its acknowledgement wait to be sent."""
        if not ledger.settle(session, message_id, result):
            return False
        if reading and reading.profile.application_ack and reading.wants(result.answer_code):
            outgoing.enqueue(session, [_follow_up(reading, message_id, result)])
        return True

    def _earlier(self, message_id: int) -> bytes:
        with transaction(self._engine) as session:
            answer = ledger.answer_of(session, message_id)
        if answer is None:
            raise StoreUnavailable("somebody took the message up once more just now")
        return answer

    def _failed(self, reading: Reading, fault: Fault) -> Result:
        """Return what becomes of a message that a resend will not mend."""
        refused = fault.code is Code.REJECT
        answer = (
            self._build(reading, Code.ACCEPT)
            if reading.is_softened(fault)
            else self._build(reading, fault.code, fault)
        )
        log.warning(
            "hl7_refused" if refused else "hl7_dead",
            extra={"reason": fault.text, "kind": reading.kind},
        )
        return Result(
            State.REFUSED if refused else State.DEAD,
            answer,
            ack.code_in(answer),
            reason=_reason(fault),
        )

    def _defect(self, reading: Reading, message_id: int, error: Exception) -> bytes:
        """Keep the message for another try; one that failed too often for our own fault is dead."""
        why = f"207 defect: {type(error).__name__}"
        with transaction(self._engine) as session:
            tries = ledger.note_failure(session, message_id, why)
        if tries < MAX_TRIES:
            return self._not_now(reading)
        result = self._failed(reading, Fault(Code.ERROR, "207", ""))
        return self.settle(message_id, replace(result, reason=why), reading)

    def _unreadable(self, raw: bytes, peer: str, wire: str, error: Malformed) -> bytes:
        """Keep what is no message too: somebody will ask where it went."""
        result = self.refused(raw, error)
        log.warning("hl7_unreadable", extra={"reason": str(error), "peer": peer})
        try:
            with transaction(self._engine) as session:
                noted = ledger.note(session, Received(raw=raw, wire=wire, peer=peer))
                ledger.settle(session, noted.id, result)
        except Unavailable as away:
            log.warning("hl7_not_kept", extra={"reason": str(away)})
        return result.answer or b""

    def _build(
        self,
        reading: Reading,
        code: Code,
        fault: Fault | None = None,
    ) -> bytes:
        return ack.build(
            reading.message, code, self._now(), fault, conditions=reading.wanted_of_answer
        )

    def _now(self) -> datetime:
        return utc_now().astimezone(self._zone)


def _follow_up(reading: Reading, message_id: int, result: Result) -> Draft:
    """Return the application acknowledgement of a message as a message of our own."""
    answer = result.answer or b""
    kind, control_id = ack.named_in(answer)
    return Draft(
        reading.profile.application_ack,
        f"ack:{message_id}",
        control_id,
        f"{kind} {result.answer_code}",
        answer,
        reading.keys,
    )


def _reason(fault: Fault) -> str:
    return f"{fault.error} {ack.ERRORS[fault.error][0]}: {fault.text}"
