"""The deploy's last table, from reports as the check program writes them."""

from typing import Any

import pytest

from provision._report import draw_report, failure_lines, warning_lines
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


def check(name: str, verdict: str = "met", **facts: Any) -> dict[str, Any]:
    step = "" if verdict == "met" else "make a new key"
    return {"name": name, "verdict": verdict, "detail": "as seen", "next": step, "facts": facts}


def report_of(*checks: dict[str, Any]) -> dict[str, Any]:
    met = all(one["verdict"] == "met" for one in checks)
    return REPORT | {"ok": met, "checks": [*REPORT["checks"], *checks]}


def test_the_fallback_is_told_with_what_is_left_and_who_may_receive_text() -> None:
    report = report_of(
        check("fallback.huggingface", finding="off"),
        check("fallback.elevenlabs", finding="ready", characters_left=9_812),
        check("fallback.private", hosts=["api.elevenlabs.io"]),
    )
    told = row("Fallback", report)
    assert told.endswith("elevenlabs ready (9,812 characters left), huggingface off")
    assert row("Text may go to", report).endswith("api.elevenlabs.io")


def test_a_strict_offline_host_sends_text_to_nobody() -> None:
    assert row("Text may go to", report_of(check("fallback.private", hosts=[]))).endswith("nobody")


@pytest.mark.parametrize("verdict", ["not_met", "unknown"])
@pytest.mark.parametrize(
    "name", ["fallback.elevenlabs", "fallback.huggingface", "fallback.settings"]
)
def test_a_fallback_that_cannot_work_fails_the_deploy_unless_told_otherwise(
    name: str, verdict: str
) -> None:
    report = report_of(check(name, verdict))
    assert any(name in line for line in failure_lines(DeploySettings(), report))
    told_otherwise = DeploySettings(fallback_failure="warn")
    assert failure_lines(told_otherwise, report) == []
    assert any(name in line for line in warning_lines(told_otherwise, report))
    assert warning_lines(DeploySettings(), report) == []


@pytest.mark.parametrize("name", ["fallback.csm", "fallback.remote", "fallback.private", "speech"])
def test_a_warning_is_never_enough_for_the_voice_itself(name: str) -> None:
    report = report_of(check(name, "not_met"), check("fallback.elevenlabs", "not_met"))
    lines = failure_lines(DeploySettings(fallback_failure="warn"), report)
    assert any(name in line for line in lines)
    assert not any("elevenlabs" in line for line in lines)


def test_a_report_without_a_reason_is_told_so() -> None:
    lines = failure_lines(DeploySettings(), REPORT | {"ok": False})
    assert lines == ["the check program reported no reason"]
