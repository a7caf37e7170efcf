"""Figures of the HL7 listener and of the sender for Prometheus."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily

from ris import outbox
from ris.hl7 import destinations, ledger, outgoing
from ris.hl7.destinations import Destination
from ris.hl7.ledger import State
from ris.hl7.outgoing import Backlog
from storage.db.engine import Session

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5, 30)


class Metrics:
    """What is counted of HL7, registered once per `registry`."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.connections = Gauge(
            "lienthong_hl7_connections",
            "Connections to the MLLP port that are open",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._messages = Counter(
            "lienthong_hl7_messages",
            "Messages that were answered, by wire and MSA-1",
            ("wire", "code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "lienthong_hl7_answer_seconds",
            "From the last byte of a message to its acknowledgement",
            ("wire",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._sent = Counter(
            "lienthong_hl7_sent",
            "Messages that destinations answered, or did not (none)",
            ("destination", "code"),
            registry=registry,
        )

    def answered(self, wire: str, code: str, seconds: float) -> None:
        """Count a message that came in; `code` is MSA-1 of its answer, '' when it got none."""
        self._messages.labels(wire, code or "none").inc()
        self._seconds.labels(wire).observe(seconds)

    def sent(self, destination: str, code: str) -> None:
        """Count a try to deliver; `code` is MSA-1 of what came back, '' when nothing did."""
        self._sent.labels(destination, code or "none").inc()


def waiting(session: Session, now: datetime) -> Iterator[GaugeMetricFamily]:
    """Yield what waits on either side and where it is stuck, as it is `now` (aware)."""
    found = ledger.waiting(session)
    yield _one("hl7_unfinished", "Messages received and not done", found[State.RECEIVED].count)
    yield _since("hl7_unfinished", "the oldest of them was received", found[State.RECEIVED].oldest)
    yield _one("hl7_dead_letters", "Messages that a person has to look at", found[State.DEAD].count)
    yield _since("hl7_dead_letters", "the oldest of them was received", found[State.DEAD].oldest)
    untold, since = outbox.count_untold(session)
    yield _one("hl7_untold", "Events of which no messages were made yet", untold)
    yield _since("hl7_untold", "the oldest of them happened", since)
    known = destinations.list_all(session)
    yield from _outgoing(known, outgoing.backlog(session))
    yield from _destinations(known, now)


def _outgoing(
    known: Sequence[Destination], found: Sequence[Backlog]
) -> Iterator[GaugeMetricFamily]:
    idle = {one.name: Backlog(one.name, 0, 0, None) for one in known}
    backlog = idle | {one.destination: one for one in found}
    waits = _each("hl7_outgoing_waiting", "Messages that wait to be sent")
    parked = _each("hl7_outgoing_parked", "Messages that were refused; a person decides")
    oldest = _each("hl7_outgoing_oldest_timestamp_seconds", _WHEN.format("the oldest was made"))
    for name, one in backlog.items():
        waits.add_metric([name], one.waiting)
        parked.add_metric([name], one.parked)
        oldest.add_metric([name], one.oldest.timestamp() if one.oldest else 0)
    yield from (waits, parked, oldest)


def _destinations(known: Sequence[Destination], now: datetime) -> Iterator[GaugeMetricFamily]:
    paused = _each("hl7_destination_paused", "1: a person said that nothing is sent there")
    opened = _each("hl7_destination_circuit_open", "1: left alone since it cannot be reached")
    failures = _each("hl7_destination_failures", "Failed tries in a row")
    for one in known:
        alone = one.closed_until is not None and one.closed_until > now
        paused.add_metric([one.name], one.paused)
        opened.add_metric([one.name], alone)
        failures.add_metric([one.name], one.failures)
    yield from (paused, opened, failures)


_WHEN: Final = "When {}, 0 when none waits"


def _one(name: str, explanation: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"lienthong_{name}", explanation, value)


def _since(name: str, what: str, moment: datetime | None) -> GaugeMetricFamily:
    value = moment.timestamp() if moment else 0
    return _one(f"{name}_oldest_timestamp_seconds", _WHEN.format(what), value)


def _each(name: str, explanation: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"lienthong_{name}", explanation, labels=("destination",))
