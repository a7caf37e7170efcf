"""Figures of the HL7 listener and of the sender for Prometheus."""

from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

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
