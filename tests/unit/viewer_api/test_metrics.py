import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily

from viewer_api.metrics import Metrics


def test_requests_are_counted_by_route() -> None:
    metrics = Metrics()

    metrics.answered("GET", "/studies/{study}", 200, 0.002)

    text = metrics.render().decode()
    assert (
        'lienthong_http_requests_total{method="GET",route="/studies/{study}",status="200"} 1.0'
        in text
    )


def test_gauges_are_read_when_asked() -> None:
    values = [3.0, 5.0]
    metrics = Metrics(lambda: [GaugeMetricFamily("lienthong_waiting", "", values.pop(0))])

    first, second = metrics.render().decode(), metrics.render().decode()

    assert "lienthong_waiting 3.0" in first
    assert "lienthong_waiting 5.0" in second


COUNT_ONE = """
from viewer_api.metrics import Metrics
metrics = Metrics()
metrics.answered("GET", "/", 200, 0.1)
print(metrics.render().decode())
"""


def test_figures_of_all_processes_are_added_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    printed = [
        subprocess.run(
            [sys.executable, "-c", COUNT_ONE], check=True, capture_output=True, text=True
        ).stdout
        for _ in range(2)
    ]

    assert 'lienthong_http_requests_total{method="GET",route="/",status="200"} 2.0' in printed[1]
