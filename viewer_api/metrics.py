"""Figures of the HTTP server for Prometheus.

With ``PROMETHEUS_MULTIPROC_DIR`` in the environment, every process of the node
writes its figures there and any `render` gives the sum; without it, this process's own.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

MEDIA_TYPE: Final = CONTENT_TYPE_LATEST
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30, 300)

Gauges = Callable[[], Iterable[Metric]]
"""Gives what is measured when somebody asks."""


class Metrics:
    """What the HTTP server counts; `gauges` are read at every `render`."""

    def __init__(self, gauges: Gauges = tuple) -> None:
        self._registry = CollectorRegistry()
        self._gauges = _Measured(gauges)
        self._requests = Counter(
            "lienthong_http_requests",
            "HTTP requests that were answered",
            ("method", "route", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "lienthong_http_request_seconds",
            "From the request line to the end of the answer",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request; `route` is the template of its path, never the path itself."""
        self._requests.labels(method, route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def render(self) -> bytes:
        """Return all figures in the text format of Prometheus."""
        registry = self._registry
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        measured = CollectorRegistry()
        measured.register(self._gauges)
        return generate_latest(registry) + generate_latest(measured)


class _Measured(Collector):
    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        yield from self._gauges()
