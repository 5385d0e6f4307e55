"""Which rungs the service has, which of them would speak, and who may receive text.

Asks the service's own report and spends nothing, unless a drill is asked for. Knows no cloud.
"""

from collections.abc import Callable
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError

from checks.client import Answer, Client
from checks.generate import refuse_key_problem
from checks.health import LOADED_STEP, Health
from checks.report import CheckError, Result, Verdict

RUNGS = "/rungs"
DRILL = "/rungs/drill"

Announce = Callable[[str], None]
"""Is told, a line at a time, what a drill will do and spend before it is made."""

_CLOUDS = ("huggingface", "elevenlabs")
_SENDERS = ("remote", *_CLOUDS)
"""Rungs that send text to another host."""

_LOG_HINT = "Look into the service's log: docker logs <container>."


class NoReportError(CheckError):
    """The service has no report of its rungs: it is of an older version."""


class WrongReportError(CheckError):
    """The service answered with something else than its report."""

    verdict = Verdict.NOT_MET


class DrillRunningError(CheckError):
    """Somebody else has a drill made."""


class _Quota(BaseModel):
    left: int | None = None


class _Rung(BaseModel):
    name: str
    asked_for: bool
    state: str
    reason: str | None = None
    host: str | None = None
    finding: Literal["ready", "narrow", "invalid", "unreachable", "off"]
    detail: str
    next_step: str
    quota: _Quota | None = None

    @property
    def left(self) -> int | None:
        return self.quota.left if self.quota else None

    @property
    def works(self) -> bool:
        return self.finding in ("ready", "narrow") and self.state != "latched"


class _Fallback(BaseModel):
    enabled: bool
    hosts: list[str]


class _Rungs(BaseModel):
    mode: str
    fallback: _Fallback
    warnings: list[str]
    rungs: list[_Rung]


class _Planned(BaseModel):
    broken: list[str]
    speaks: str
    spends: dict[str, int]


class _Plan(BaseModel):
    plan: list[_Planned]


class _Step(BaseModel):
    broken: list[str]
    expected: str
    spoke: str | None
    ok: bool
    switch_ms: float | None
    detail: str


class _Drilled(BaseModel):
    steps: list[_Step]
    ok: bool
    detail: str


async def check(client: Client, health: Health, drill: Announce | None = None) -> list[Result]:
    """Check each rung of the service's report, its settings and its privacy; drill if asked to.

    + drill: is told what the drill will spend before it is made; None: there is none
    """
    try:
        report = _read(client, await client.get_with_key(RUNGS), RUNGS, _Rungs)
    except CheckError as error:
        return [Result.of_error("fallback.report", error)]
    results = [_check_rung(client, rung) for rung in report.rungs]
    results += [_check_settings(client, report), _check_privacy(client, report, health)]
    if drill is not None:
        results.append(await _drill(client, drill))
    return results


Form = TypeVar("Form", bound=BaseModel)


def _read(client: Client, answer: Answer, path: str, form: type[Form]) -> Form:
    """Return an answer of the service in its form, or raise what else it means."""
    refuse_key_problem(client, answer)
    if answer.status == 404:
        raise NoReportError(
            f"this version of the service has no {path}",
            "Deploy the version of these checks: make deploy.",
        )
    if answer.status == 409:
        raise DrillRunningError("another drill is being made (HTTP 409)", "Run it again.")
    if answer.status != 200:
        raise WrongReportError(f"{path} answers HTTP {answer.status}, expected 200", _LOG_HINT)
    try:
        return form.model_validate_json(answer.body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise WrongReportError(
            f"{path}: {client.quote(place)}: {client.quote(first['msg'])}",
            "Compare the service's version with that of these checks.",
        ) from None


def _check_rung(client: Client, rung: _Rung) -> Result:
    """Judge one rung: one that nobody asked for is as it should be."""
    verdict, next_step = _judge(rung)
    detail = client.quote(rung.detail)
    if rung.left is not None:
        detail = f"{rung.left:,} characters left; {detail}"
    if rung.state == "open" and rung.reason and verdict is Verdict.MET:
        detail += f"; not asked at present: {client.quote(rung.reason)}"
    facts: dict[str, object] = {"finding": rung.finding, "asked_for": rung.asked_for}
    if rung.left is not None:
        facts["characters_left"] = rung.left
    return Result(
        f"fallback.{client.quote(rung.name)}",
        verdict,
        f"{rung.finding}: {detail}",
        "" if verdict is Verdict.MET else client.quote(next_step),
        facts=facts,
    )


def _judge(rung: _Rung) -> tuple[Verdict, str]:
    told = rung.next_step or _LOG_HINT
    if rung.state == "loading":
        return Verdict.UNKNOWN, LOADED_STEP
    if rung.finding == "unreachable":
        return Verdict.UNKNOWN, rung.next_step or "Run it again when its host answers."
    if rung.finding == "off":
        # A model that is not there is told of in health; a fallback was asked for by its key.
        wanted = rung.asked_for and rung.name in _CLOUDS
        return Verdict.NOT_MET if wanted else Verdict.MET, told
    return Verdict.MET if rung.works else Verdict.NOT_MET, told


def _check_settings(client: Client, report: _Rungs) -> Result:
    """Judge what the service warns of.

    A warning about a fallback that is off, or one that its rungs disprove, is told and no more.
    """
    told = "; ".join(map(client.quote, report.warnings))
    clouds = [rung for rung in report.rungs if rung.name in _CLOUDS and rung.asked_for]
    proven = bool(clouds) and all(rung.works for rung in clouds)
    if told and report.fallback.enabled and not proven:
        next_step = "Set what the warning says, with service_env or secrets, and deploy again."
        return Result("fallback.settings", Verdict.NOT_MET, told, next_step)
    return Result("fallback.settings", Verdict.MET, told or "none that could not work")


def _check_privacy(client: Client, report: _Rungs, health: Health) -> Result:
    """Show that a strict-offline host has no rung that sends text, or say who may receive it."""
    hosts = sorted({rung.host for rung in report.rungs if rung.host} | set(report.fallback.hosts))
    facts = {"hosts": [client.quote(host) for host in hosts]}
    named = ", ".join(client.quote(host) for host in hosts)
    if report.mode == "online" or report.fallback.enabled:
        detail = f"text may go to: {named or 'nobody'}"
        return Result("fallback.private", Verdict.MET, detail, facts=facts)
    engines = health.form.engines if health.form else []
    problems = [f"text may go to {named}"] if hosts else []
    problems += [
        f"/health lists {engine.name}"
        for engine in engines
        if engine.name in _SENDERS and engine.state != "off"
    ]
    if problems:
        detail = f"mode is offline and the fallback is off, yet {' and '.join(problems)}"
        return Result("fallback.private", Verdict.NOT_MET, detail, _LOG_HINT, facts=facts)
    detail = "strict offline: no rung sends text to another host"
    return Result("fallback.private", Verdict.MET, detail, facts=facts)


async def _drill(client: Client, announce: Announce) -> Result:
    """Say what a drill spends, have it made, and judge it."""
    name = "fallback.drill"
    try:
        plan = _read(client, await client.get_with_key(DRILL), DRILL, _Plan)
        for planned in plan.plan:
            announce(_announcement(client, planned))
        drilled = _read(client, await client.post_json(DRILL, b"{}"), DRILL, _Drilled)
    except CheckError as error:
        return Result.of_error(name, error)
    if not drilled.steps:
        return Result(
            name,
            Verdict.NOT_MET,
            client.quote(drilled.detail),
            "Set SESAME_BASIC_VOICE=true, or give the key of a fallback.",
        )
    told = "; ".join(_told(client, step) for step in drilled.steps)
    verdict = Verdict.MET if drilled.ok else Verdict.NOT_MET
    next_step = "" if drilled.ok else "Mend the rung that did not speak: see its line above."
    switches = [step.switch_ms for step in drilled.steps if step.switch_ms is not None]
    figures = {"switch_ms": max(switches)} if switches else {}
    return Result(name, verdict, told, next_step, figures=figures)


def _announcement(client: Client, planned: _Planned) -> str:
    spent = [f"{count} characters at {host}" for host, count in planned.spends.items()]
    words = f"{', '.join(planned.broken)} broken, {planned.speaks} speaks; spends "
    return f"drill: {client.quote(words + (' and '.join(spent) or 'nothing'))}"


def _told(client: Client, step: _Step) -> str:
    went = "" if step.ok else f" ({step.detail})"
    spoke = f"{step.spoke or 'nobody'} spoke{went}"
    return client.quote(f"{', '.join(step.broken)} broken: {spoke}")
