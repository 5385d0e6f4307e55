"""The deploy's last table, from reports as the check program writes them."""

from typing import Any

import pytest

from provision._report import draw_report
from provision.settings import DeploySettings
from tests.provision.hosts import REPORT

TIMINGS = {
    "latency.first_audio": {"p50_ms": 212.4, "p95_ms": 340.0},
    "latency.real_time_factor": {"p50": 0.0612, "p95": 0.07},
}


def row(name: str, report: dict[str, Any]) -> str:
    lines = draw_report(DeploySettings(), report)
    return next(line for line in lines if line.strip().startswith(name))


def test_the_latency_is_told_with_the_device() -> None:
    service = {**REPORT["service"], "device": "NVIDIA H100 80GB HBM3"}
    told = row("First audio", REPORT | {"timings": TIMINGS, "service": service})
    assert "after 212 ms (p50), real-time factor 0.061, on NVIDIA H100 80GB HBM3" in told


@pytest.mark.parametrize("timings", [{}, {"health.answers": {"first_byte_ms": 2}}])
def test_a_latency_that_was_not_measured_is_not_invented(timings: dict[str, Any]) -> None:
    assert "not measured" in row("First audio", REPORT | {"timings": timings})


def test_a_service_without_a_device_is_measured_all_the_same() -> None:
    assert "on a device that is not named" in row("First audio", REPORT | {"timings": TIMINGS})
