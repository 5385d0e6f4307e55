"""What a check can say, and a run's results as flat JSON and as JUnit XML.

Knows nothing of HTTP, of speech, or of how a person is shown the same results.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self
from xml.etree import ElementTree as ET

JsonObject = dict[str, object]


class Verdict(StrEnum):
    """What was found out about one claim."""

    MET = "met"
    NOT_MET = "not_met"
    UNKNOWN = "unknown"


EXIT_CODES = {Verdict.MET: 0, Verdict.NOT_MET: 1, Verdict.UNKNOWN: 2}


class CheckError(Exception):
    """Ends a check early: carries what was seen, what to do next, and the verdict it leads to."""

    verdict = Verdict.UNKNOWN

    def __init__(self, detail: str, next_step: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.next_step = next_step


@dataclass(frozen=True)
class Timing:
    """Seconds from sending a request to the first byte of the body and to its last one."""

    first_byte: float
    total: float


@dataclass(frozen=True)
class Result:
    """One claim and its verdict.

    `name` is `group.claim`; `detail` is what was seen; `next_step` is what to do, empty when met.
    `timing` is information and decides nothing. `figures` were measured, by name: `p95_ms` is in
    milliseconds, `p95` has no unit. They are kept apart from `detail`, which has no timings.
    `facts` are what was seen for programs, where a caller wants more than the verdict.
    """

    name: str
    verdict: Verdict
    detail: str
    next_step: str = ""
    timing: Timing | None = None
    figures: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def seen(self) -> str:
        """What was seen, for a person: the figures, then the detail."""
        spoken = ", ".join(_spoken(name, value) for name, value in self.figures.items())
        return f"{spoken}; {self.detail}" if spoken else self.detail

    @property
    def timings(self) -> dict[str, float]:
        """What may differ between equal runs: timing in whole milliseconds, and the figures."""
        measured: dict[str, float] = {}
        if self.timing:
            measured["first_byte_ms"] = round(self.timing.first_byte * 1000)
            measured["total_ms"] = round(self.timing.total * 1000)
        return measured | {name: round(value, 3) for name, value in self.figures.items()}

    @classmethod
    def of_error(cls, name: str, error: CheckError) -> Self:
        """Return the result that `error` leads to."""
        return cls(name, error.verdict, error.detail, error.next_step)

    @classmethod
    def of_problems(
        cls, name: str, problems: list[str], *, met: str, next_step: str, timing: Timing | None
    ) -> Self:
        """Return not met with every problem named, or met with the detail `met`."""
        if problems:
            return cls(name, Verdict.NOT_MET, "; ".join(problems), next_step, timing)
        return cls(name, Verdict.MET, met, "", timing)


@dataclass(frozen=True)
class Report:
    """The results of one run against `url`, and what the service said of itself, if it did."""

    url: str
    results: tuple[Result, ...]
    service: JsonObject | None

    @property
    def verdict(self) -> Verdict:
        """Not met when anything is; else unknown when anything is; else met."""
        verdicts = {result.verdict for result in self.results}
        for verdict in (Verdict.NOT_MET, Verdict.UNKNOWN):
            if verdict in verdicts:
                return verdict
        return Verdict.MET

    @property
    def exit_code(self) -> int:
        """0 all met, 1 something not met, 2 could not tell."""
        return EXIT_CODES[self.verdict]

    def to_json(self) -> str:
        """Return one JSON object. Only `timings` differs between equal runs.

        A name in `timings` that ends in `_ms` is in milliseconds, another has no unit.
        `failures` names every check that is not `met`, those that could not tell included, so
        that `ok` is true exactly when it is empty.
        """
        checks = [
            {"name": r.name, "verdict": r.verdict, "detail": r.detail, "next": r.next_step}
            | ({"facts": dict(r.facts)} if r.facts else {})
            for r in self.results
        ]
        document: JsonObject = {
            "url": self.url,
            "ok": self.verdict is Verdict.MET,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "checks": checks,
            "failures": [r.name for r in self.results if r.verdict is not Verdict.MET],
            "service": self.service,
            "timings": {r.name: r.timings for r in self.results if r.timings},
        }
        return json.dumps(document, ensure_ascii=False) + "\n"

    def to_junit(self) -> str:
        """Return JUnit XML: not met is a `failure`, unknown is an `error`."""
        verdicts = [result.verdict for result in self.results]
        counts = {
            "tests": str(len(verdicts)),
            "failures": str(verdicts.count(Verdict.NOT_MET)),
            "errors": str(verdicts.count(Verdict.UNKNOWN)),
            "skipped": "0",
        }
        root = ET.Element("testsuites", counts)
        suite = ET.SubElement(root, "testsuite", {"name": "checks", **counts})
        for result in self.results:
            suite.append(_junit_case(result))
        ET.indent(root)
        return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


_JUNIT_TAGS = {Verdict.NOT_MET: "failure", Verdict.UNKNOWN: "error"}


def _junit_case(result: Result) -> ET.Element:
    seconds = result.timing.total if result.timing else 0.0
    attributes = {"classname": f"checks.{result.name.partition('.')[0]}", "name": result.name}
    case = ET.Element("testcase", {**attributes, "time": f"{seconds:.3f}"})
    tag = _JUNIT_TAGS.get(result.verdict)
    if tag is None:
        ET.SubElement(case, "system-out").text = result.seen
    else:
        outcome = ET.SubElement(case, tag, {"message": result.seen, "type": result.verdict})
        outcome.text = f"{result.seen}\nNext: {result.next_step}"
    return case


def _spoken(name: str, value: float) -> str:
    """Return a figure as a person reads it: `p95 340 ms`, `p50 0.06`."""
    percentile, _, unit = name.partition("_")
    return f"{percentile} {value:.0f} {unit}" if unit else f"{percentile} {value:.3g}"


def printable(text: str) -> str:
    """Return `text` on one line, with control characters and lone surrogates escaped.

    What a stranger's server says must not move a cursor or make a document invalid.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        for char in text
    )
