"""Sending what waits: a lane for each destination, one message at a time, in order.

    due ─ ask ─┬─ AA, CA     sent
               ├─ nothing    sent: it says that it wants no answer
               ├─ AE, AR     parked: its own queue stands still, the others go on
               └─ no answer  later: 1 s, 2 s, 4 s … 5 min, each shortened by chance

A destination that cannot be reached is left alone for as long (the circuit is open), and nothing
counts against the messages. One that answers late or oddly is left alone after three in a row.
"""

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo
from typing import Final

from ris.hl7 import ack, destinations, modes, outbound, outgoing, reporting
from ris.hl7.ack import Code
from ris.hl7.conversation import Conversation, NoAnswer, NotReached, Speaks
from ris.hl7.destinations import Destination
from ris.hl7.metrics import Metrics
from ris.hl7.outgoing import Outgoing
from storage.base.clock import utc_now
from storage.base.errors import ImagingError, Unavailable
from storage.base.logs import bound
from storage.db.engine import Engine, transaction
from storage.objects.store import ObjectStore

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 300.0
BATCH: Final = 100
BATCH_S: Final = 10.0
"""A batch is broken off after so long, to renew the lease."""
MARGIN_S: Final = 15.0
ODD_ANSWERS: Final = 3
"""So many in a row, and the destination is left alone."""
IDLE_S: Final = 30.0
POLL_S: Final = 1.0
PACE_S: Final = 0.1
"""Passes begin no closer together: a look for news takes a quarter of what an order takes."""

_MSA: Final = re.compile(rb"(?:^|[\r\n])MSA([^A-Za-z0-9\s])[A-Z]{2}\1([^\r\n]*)")

Clock = Callable[[], datetime]
Connect = Callable[[Destination], Speaks]


def pause_s(failures: int, chance: float) -> float:
    """Return how long to wait after so many failures in a row, in seconds.

    Twice as long each time, between the half and the whole of it by `chance` (0 to 1).
    """
    whole = min(FIRST_PAUSE_S * 2.0 ** min(failures - 1, 30), LONGEST_PAUSE_S)
    return whole * (0.5 + 0.5 * chance)


@dataclass(frozen=True, slots=True)
class Outside:
    """What a lane depends on beside the database."""

    connect: Connect = Conversation
    """Opens a connection, or raises `NotReached`."""
    clock: Clock = utc_now
    chance: Callable[[], float] = random.random
    """Gives a number from 0 to 1, so that those who wait do not come back all at once."""


class Lane:
    """Sends to one destination; used by one thread.

    Parameters
    ----------
    holder
        Names this node: nobody else sends to the destination while it has the lane.
    """

    def __init__(
        self,
        engine: Engine,
        name: str,
        holder: str,
        metrics: Metrics | None = None,
        outside: Outside | None = None,
    ) -> None:
        self._engine = engine
        self._name = name
        self._holder = holder
        self._metrics = metrics
        given = outside or Outside()
        self._connect, self._clock, self._chance = given.connect, given.clock, given.chance
        self._line: Speaks | None = None
        self._reached: tuple[object, ...] = ()

    def run_once(self) -> datetime | None:
        """Send what is due now; return when to look again, None when nothing waits.

        Raises
        ------
        StoreUnavailable
            The database does not answer.
        """
        now = self._clock()
        with transaction(self._engine) as session:
            destination = destinations.lease(session, self._name, self._holder, now)
            if destination is None:
                self.hang_up()
                return now + timedelta(seconds=IDLE_S)
            if destination.closed_until is not None and destination.closed_until > now:
                return destination.closed_until
            batch = outgoing.due(session, self._name, now, BATCH)
            if not batch:
                when = outgoing.next_try(session, self._name)
                return max(when, now + timedelta(seconds=POLL_S)) if when else None
        return self._send_all(destination, batch, now + timedelta(seconds=BATCH_S))

    def hang_up(self) -> None:
        """Close the connection, if there is one."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def give_back(self) -> None:
        """Hang up and let others send there."""
        self.hang_up()
        with transaction(self._engine) as session:
            destinations.release(session, self._name, self._holder)

    def _send_all(
        self, destination: Destination, batch: Sequence[Outgoing], until: datetime
    ) -> datetime:
        """Send a batch as far as the destination lets us; return when to look again."""
        failures, held = destination.failures, set[str]()
        for message in batch:
            if self._clock() >= until:
                break
            if message.queue in held:
                continue
            with bound(destination=self._name, message_control_id=message.control_id):
                try:
                    taken = self._send(destination, message)
                except NotReached as error:
                    return self._leave_alone(failures + 1, failures + 1, error)
                except NoAnswer as error:
                    held.add(message.queue)
                    failures += 1
                    self._postpone(message, error)
                    if failures >= ODD_ANSWERS:
                        return self._leave_alone(failures, failures - ODD_ANSWERS + 1, error)
                    continue
            failures = self._works(failures)
            if not taken:
                held.add(message.queue)
        return self._clock()

    def _send(self, destination: Destination, message: Outgoing) -> bool:
        """Send one message and note its answer; return whether it was taken."""
        unanswered = modes.wants_nothing(message.payload)
        try:
            answer = self._ask(destination, message.payload, unanswered=unanswered)
        except NoAnswer:
            self.hang_up()
            self._count("")
            raise
        if unanswered:
            self._note_sent(message, answer)
            return True
        code = ack.code_in(answer)
        self._count(code)
        if not code:
            self.hang_up()
            raise NoAnswer("what came back is no acknowledgement")
        _compare(answer, message)
        if code in _TAKEN:
            self._note_sent(message, answer)
            return True
        with transaction(self._engine) as session:
            said = f"{code} {ack.told_in(answer)}".strip()
            if code in _NOT_NOW and message.attempts + 1 < destination.style.reject_tries:
                outgoing.postpone(session, message.id, said, self._after(message.attempts + 1))
            else:
                log.error("hl7_parked", extra={"kind": message.kind, "message_id": message.id})
                outgoing.park(session, message.id, said, answer)
        return False

    def _note_sent(self, message: Outgoing, answer: bytes) -> None:
        with transaction(self._engine) as session:
            outgoing.mark_sent(session, message.id, answer, self._clock())

    def _ask(self, destination: Destination, payload: bytes, *, unanswered: bool) -> bytes:
        reached = destination.host, destination.port, destination.style
        if self._line is not None and self._reached == reached:
            try:
                return _say(self._line, payload, unanswered=unanswered)
            except NotReached:
                log.debug("hl7_connection_renewed")
        self.hang_up()
        self._line, self._reached = self._connect(destination), reached
        return _say(self._line, payload, unanswered=unanswered)

    def _postpone(self, message: Outgoing, error: ImagingError) -> None:
        log.warning("hl7_no_answer", extra={"reason": str(error), "attempt": message.attempts + 1})
        with transaction(self._engine) as session:
            until = self._after(message.attempts + 1)
            outgoing.postpone(session, message.id, str(error), until)

    def _leave_alone(self, failures: int, rounds: int, error: ImagingError) -> datetime:
        """Open the circuit; return until when."""
        self.hang_up()
        until = self._after(rounds)
        log.warning(
            "hl7_destination_left_alone",
            extra={"destination": self._name, "reason": str(error), "count": failures},
        )
        with transaction(self._engine) as session:
            destinations.note(session, self._name, failures, until)
        return until

    def _works(self, failures: int) -> int:
        if failures:
            with transaction(self._engine) as session:
                destinations.note(session, self._name, 0, None)
        return 0

    def _after(self, failures: int) -> datetime:
        return self._clock() + timedelta(seconds=pause_s(failures, self._chance()))

    def _count(self, code: str) -> None:
        if self._metrics is not None:
            self._metrics.sent(self._name, code)


def _say(line: Speaks, payload: bytes, *, unanswered: bool) -> bytes:
    if unanswered:
        line.tell(payload)
        return b""
    return line.ask(payload)


_TAKEN: Final = frozenset({Code.ACCEPT, Code.COMMIT_ACCEPT})
_NOT_NOW: Final = frozenset({Code.REJECT, Code.COMMIT_REJECT})


def _compare(answer: bytes, message: Outgoing) -> None:
    """Say so when an answer names another message; only one is on its way, so it is meant."""
    found = _MSA.search(answer)
    named = found[2].split(found[1])[0].strip() if found else b""
    if named and named != message.control_id.encode():
        log.warning("hl7_answer_to_another", extra={"message_id": message.id})


@dataclass(slots=True)
class _Running:
    destination: Destination
    thread: threading.Thread
    stop: threading.Event = field(default_factory=threading.Event)
    wake: threading.Event = field(default_factory=threading.Event)


class Delivery:
    """Makes messages of what happened, and keeps a lane open for each destination.

    Parameters
    ----------
    wait
        Returns when somebody says that there is something to send, or after so many seconds.
    store
        Where the papers of reports are.
    """

    def __init__(
        self,
        engine: Engine,
        zone: tzinfo,
        holder: str,
        wait: Callable[[float], object],
        metrics: Metrics | None = None,
        store: ObjectStore | None = None,
    ) -> None:
        self._engine = engine
        self._zone = zone
        self._store = store
        self._holder = holder
        self._wait = wait
        self._metrics = metrics
        self._lanes: dict[str, _Running] = {}

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set."""
        while not stop.is_set():
            begun_s = time.monotonic()
            try:
                told = outbound.tell(self._engine, self._zone)
                self._refresh()
                told += self._tell_reports()
            except Unavailable as error:
                log.warning("hl7_delivery_waits", extra={"reason": str(error)})
                told = 0
            except Exception:
                log.exception("hl7_delivery_failed")
                told = 0
            if told:
                self._wake()
            if told < outbound.BATCH:
                stop.wait(begun_s + PACE_S - time.monotonic())
                if self._wait(POLL_S):
                    self._wake()
        for running in self._lanes.values():
            self._end(running)

    def _tell_reports(self) -> int:
        """Make messages of reports; when that fails, those of orders go on."""
        try:
            return reporting.tell(self._engine, self._zone, self._store)
        except Unavailable as error:
            log.warning("hl7_reports_wait", extra={"reason": str(error)})
        except Exception:
            log.exception("hl7_reports_failed")
        return 0

    def _wake(self) -> None:
        for running in self._lanes.values():
            running.wake.set()

    def _refresh(self) -> None:
        with transaction(self._engine) as session:
            known = {one.name: one for one in destinations.list_all(session)}
        for name in self._lanes.keys() - known.keys():
            self._end(self._lanes.pop(name))
        for name, destination in known.items():
            running = self._lanes.get(name)
            if running is None:
                self._lanes[name] = self._begin(destination)
            elif _moved(running.destination, destination):
                running.wake.set()
            self._lanes[name].destination = destination

    def _begin(self, destination: Destination) -> _Running:
        lane = Lane(self._engine, destination.name, self._holder, self._metrics)
        running = _Running(destination, threading.Thread())
        running.thread = threading.Thread(
            target=_drive, args=(lane, running), name=f"hl7-to-{destination.name}", daemon=True
        )
        running.thread.start()
        return running

    def _end(self, running: _Running) -> None:
        running.stop.set()
        running.wake.set()
        running.thread.join(MARGIN_S)


def _moved(before: Destination, now: Destination) -> bool:
    """Whether something changed that a lane should look at without being told."""
    opened = before.closed_until is not None and now.closed_until is None
    return opened or (before.host, before.port, before.style, before.paused) != (
        now.host,
        now.port,
        now.style,
        now.paused,
    )


def _drive(lane: Lane, running: _Running) -> None:
    while not running.stop.is_set():
        try:
            when = lane.run_once()
        except Unavailable as error:
            log.warning("hl7_delivery_waits", extra={"reason": str(error)})
            when = utc_now() + timedelta(seconds=POLL_S)
        except Exception:
            log.exception("hl7_delivery_failed")
            when = utc_now() + timedelta(seconds=IDLE_S)
        left_s = (when - utc_now()).total_seconds() if when else IDLE_S
        if left_s > 0:
            running.wake.wait(min(left_s, IDLE_S))
        running.wake.clear()
    try:
        lane.give_back()
    except Unavailable as error:
        log.warning("hl7_delivery_waits", extra={"reason": str(error)})
