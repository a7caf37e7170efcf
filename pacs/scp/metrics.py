"""Figures of the DICOM listener for Prometheus."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from pacs.upper_layer import dimse

_SERVICES: Final[Mapping[int, str]] = {
    dimse.C_ECHO_RQ: "echo",
    dimse.C_STORE_RQ: "store",
    dimse.C_FIND_RQ: "find",
    dimse.C_MOVE_RQ: "move",
    dimse.C_GET_RQ: "get",
    dimse.N_CREATE_RQ: "n-create",
    dimse.N_SET_RQ: "n-set",
    dimse.N_GET_RQ: "n-get",
    dimse.N_ACTION_RQ: "n-action",
}
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30, 300)


class Metrics:
    """What the listener counts, registered once per `registry`."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.associations = Gauge(
            "lienthong_dicom_associations", "DICOM associations that are open", registry=registry
        )
        self._refused = Counter(
            "lienthong_dicom_refused",
            "Associations that were rejected or aborted by us",
            ("reason",),
            registry=registry,
        )
        self._requests = Counter(
            "lienthong_dicom_requests",
            "DIMSE requests that were answered",
            ("service", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "lienthong_dicom_request_seconds",
            "From the command set to the final response",
            ("service",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._kept: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._bytes = Counter(
            "lienthong_dicom_received_bytes", "Data set bytes received", registry=registry
        )

    def refused(self, reason: str) -> None:
        """Count a rejection or abort; `reason` is one of few words of ours."""
        self._refused.labels(reason).inc()

    def served(self, command_field: int, status: int, seconds: float, size: int) -> None:
        """Count a request with its final status and the bytes of its data set."""
        requests, durations = self._of(_SERVICES.get(command_field, "other"), status)
        requests.inc()
        durations.observe(seconds)
        self._bytes.inc(size)

    def _of(self, service: str, status: int) -> tuple[Counter, Histogram]:
        """Return the two series of a kind of answer; kept, since labels are dear to look up."""
        kept = self._kept.get((service, status))
        if kept is None:
            kept = self._requests.labels(service, f"{status:04X}"), self._seconds.labels(service)
            self._kept[service, status] = kept
        return kept
