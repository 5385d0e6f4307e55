import json
from xml.etree import ElementTree as ET

import pytest

from checks.report import Report, Result, Timing, Verdict, printable

MET = Result("health.answers", Verdict.MET, "HTTP 200", timing=Timing(0.0121, 0.0234))
NOT_MET = Result("speech.maya", Verdict.NOT_MET, "<silent> & short", "Look.")
UNKNOWN = Result("refusals.not_json", Verdict.UNKNOWN, "the queue is full", "Wait.")


@pytest.mark.parametrize(
    ("results", "verdict", "exit_code"),
    [
        ((MET,), "met", 0),
        ((MET, NOT_MET), "not_met", 1),
        ((MET, UNKNOWN), "unknown", 2),
        ((UNKNOWN, NOT_MET, MET), "not_met", 1),
    ],
)
def test_not_met_wins_over_unknown_and_unknown_over_met(
    results: tuple[Result, ...], verdict: str, exit_code: int
) -> None:
    report = Report("http://host", results, None)
    assert (report.verdict, report.exit_code) == (verdict, exit_code)


def test_the_json_is_flat_and_names_what_is_not_met_or_not_known() -> None:
    report = Report("http://host", (MET, NOT_MET, UNKNOWN), {"engine": "csm"})
    assert json.loads(report.to_json()) == {
        "url": "http://host",
        "ok": False,
        "verdict": "not_met",
        "exit_code": 1,
        "checks": [
            {"name": "health.answers", "verdict": "met", "detail": "HTTP 200", "next": ""},
            {
                "name": "speech.maya",
                "verdict": "not_met",
                "detail": "<silent> & short",
                "next": "Look.",
            },
            {
                "name": "refusals.not_json",
                "verdict": "unknown",
                "detail": "the queue is full",
                "next": "Wait.",
            },
        ],
        "failures": ["speech.maya", "refusals.not_json"],
        "service": {"engine": "csm"},
        "timings": {"health.answers": {"first_byte_ms": 12, "total_ms": 23}},
    }


def test_junit_counts_not_met_as_failure_and_unknown_as_error() -> None:
    report = Report("http://host", (MET, NOT_MET, UNKNOWN), None)
    root = ET.fromstring(report.to_junit())  # noqa: S314 (our own XML)
    suite = root.find("testsuite")
    assert suite is not None
    counts = {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "3", "failures": "1", "errors": "1", "skipped": "0"}
    failure = suite.find("testcase[@name='speech.maya']/failure")
    error = suite.find("testcase[@name='refusals.not_json']/error")
    assert failure is not None
    assert error is not None
    assert failure.get("message") == "<silent> & short"
    assert error.get("message") == "the queue is full"


def test_junit_groups_cases_by_what_they_check() -> None:
    root = ET.fromstring(Report("http://host", (MET,), None).to_junit())  # noqa: S314 (our own XML)
    case = root.find("testsuite/testcase")
    assert case is not None
    assert (case.get("classname"), case.get("time")) == ("checks.health", "0.023")


MEASURED = Result(
    "latency.first_audio",
    Verdict.NOT_MET,
    "over its objective",
    "Wait.",
    figures={"p50_ms": 212.41, "p95": 0.0612345},
)


def test_figures_stand_with_the_timings_and_not_in_the_detail() -> None:
    document = json.loads(Report("http://host", (MEASURED,), None).to_json())
    assert document["timings"] == {"latency.first_audio": {"p50_ms": 212.41, "p95": 0.061}}
    assert document["checks"][0]["detail"] == "over its objective"


def test_junit_carries_the_figures() -> None:
    root = ET.fromstring(Report("http://host", (MEASURED,), None).to_junit())  # noqa: S314 (our own XML)
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "p50 212 ms, p95 0.0612; over its objective"


def test_control_characters_and_lone_surrogates_are_escaped() -> None:
    assert printable("a\x1b[2Jb\nc\ud800 🟢") == "a\\x1b[2Jb\\nc\\ud800 🟢"
