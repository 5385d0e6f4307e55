"""The configuration report for a person: `python -m service.rungs`, beside the running service.

It loads no model: of csm it tells what the running service says in `/health`.
"""

import argparse
import asyncio
import json
import logging
import sys
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.engines.absent import Absent
from service.engines.engine import Engine, EngineState, Finding, finding_of
from service.errors import SettingsError
from service.rungs.drill import Drill, DrillPlan, DrillReport, spending
from service.rungs.report import RungReport, RungsReport, RungState, describe, look_at
from service.settings import ServiceSettings, read_settings
from service.voices import Persona, load_personas
from service.wiring import build_engines

__all__ = ["main"]

READY, NOT_READY, REFUSED = 0, 1, 2  # exit codes
HEALTH_SECONDS = 5.0
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 (it is where a service listens; nothing is bound here)
STYLES = {
    "ready": "green",
    "narrow": "yellow",
    "invalid": "bold red",
    "unreachable": "red",
    "off": "dim",
}
NARROWEST_TABLE = 100
"""Columns; under that a table would break words."""

EPILOG = """\
exit status:
  0  every rung that was asked for is ready or narrow, and the drill went well
  1  one is invalid or unreachable, or the drill did not go well
  2  the settings are refused

Nothing is spent without --drill. In a container:
  docker exec sesame-csm-offline python -m service.rungs
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Report, drill if that is asked for, and return the exit code."""
    options = _parser().parse_args(arguments)
    # What a drill breaks on purpose is not news; a defect is.
    logging.getLogger("service").setLevel(logging.ERROR)
    try:
        settings = read_settings()
        return asyncio.run(_main(settings, drills=options.drill, as_json=options.json))
    except SettingsError as refused:
        sys.stderr.write(f"Sesame cannot be started with these settings:\n{refused}\n")
        return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service.rungs",
        description="Say how each rung is set, whether it would speak, and what to do.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--drill",
        action="store_true",
        help="break each rung in turn and hear the next one speak; what that spends is said first",
    )
    parser.add_argument("--json", action="store_true", help="write one JSON object to stdout")
    return parser


async def _main(settings: ServiceSettings, *, drills: bool, as_json: bool) -> int:
    states = await _states_of_running_service(settings)
    console = Console(highlight=False, markup=False, emoji=False)
    drilled: DrillReport | None = None
    async with _rungs(settings, states) as rungs:
        report = describe(settings, rungs, await look_at(rungs), states)
        if not as_json:
            _show(report, console)
        if drills:
            drill = Drill(
                rungs,
                next(iter(load_personas(settings.voices_dir).values())),
                deadline_seconds=settings.deadline_seconds,
                stall_seconds=settings.stall_seconds,
            )
            sys.stderr.write(_announcement(drill.plan()))
            drilled = await drill.run()
            if not as_json:
                _show_drill(drilled, console)
    if as_json:
        told = {"report": _plain(report), "drill": _plain(drilled) if drilled else None}
        sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
    return READY if report.ok and (drilled is None or drilled.ok) else NOT_READY


async def _states_of_running_service(settings: ServiceSettings) -> dict[str, RungState]:
    """Ask the running service where its rungs stand; nothing where none answers."""
    host = "127.0.0.1" if settings.host in EVERYWHERE else settings.host
    url = f"http://{f'[{host}]' if ':' in host else host}:{settings.port}/health"
    try:
        async with httpx.AsyncClient(timeout=HEALTH_SECONDS, trust_env=False) as client:
            told: dict[str, Any] = (await client.get(url)).json()
        return {
            rung["name"]: RungState(rung["state"], rung.get("reason")) for rung in told["engines"]
        }
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return {}


@asynccontextmanager
async def _rungs(
    settings: ServiceSettings, states: Mapping[str, RungState]
) -> AsyncGenerator[list[Engine]]:
    """Build and start the rungs; in the place of csm stands what the running service says of it."""
    without_csm = settings.model_copy(update={"model": ""})
    personas = load_personas(settings.voices_dir)
    rungs = build_engines(without_csm, personas, instance=uuid.uuid4().hex)
    if settings.enabled and settings.mode == "offline" and settings.model:
        rungs.insert(0, RunningCsm(states.get("csm"), settings.port))
    started: list[Engine] = []
    try:
        for rung in rungs:
            await rung.start()
            started.append(rung)
        yield rungs
    finally:
        for rung in reversed(started):
            await rung.stop()


class RunningCsm(Absent):
    """The csm of the running service: it can be told of and, in a drill, be broken.

    + told: where it stands; None where no service answers
    """

    def __init__(self, told: RungState | None, port: int) -> None:
        super().__init__("csm", f"no service answers at port {port}, so nobody knows")
        self._told = told
        if told is not None:
            self.state = _engine_state(told)

    def speaks_for(self, persona: Persona) -> bool:
        """Every persona has a clip for it."""
        del persona
        return True

    async def look(self) -> Finding:
        """Say what the running service says."""
        if self._told is None:
            return Finding("unreachable", self.state.reason or "", "docker ps; make deploy")
        return finding_of(self.state)


def _engine_state(told: RungState) -> EngineState:
    match told.name:
        case "ready" | "loading" | "off":
            return EngineState(told.name, told.reason)
        case _:
            return EngineState("open", told.reason)


def _plain(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json")


def _show(report: RungsReport, console: Console) -> None:
    hosts = ", ".join(report.fallback.hosts) or "nobody"
    fallback = "on" if report.fallback.enabled else "off"
    line = f"mode {report.mode} · fallback {fallback} · text may go to: {hosts}"
    if console.is_terminal and console.width >= NARROWEST_TABLE:
        console.print(_table(report))
    else:
        for rung in report.rungs:
            console.print(_line(rung), soft_wrap=True)
    console.print(line, soft_wrap=True)
    for warning in report.warnings:
        console.print(Text(f"warning: {warning}", style="yellow"), soft_wrap=True)


def _table(report: RungsReport) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("rung", "finding", "detail", "quota left", "next step"):
        table.add_column(column, overflow="fold")
    for rung in report.rungs:
        finding = Text(rung.finding, style=STYLES[rung.finding])
        table.add_row(rung.name, finding, _detail(rung), _left(rung), rung.next_step)
    return table


def _line(rung: RungReport) -> Text:
    line = Text(f"{rung.name:12}")
    line.append(f"{rung.finding:12}", style=STYLES[rung.finding])
    line.append(_detail(rung))
    if left := _left(rung):
        line.append(f"; {left} characters left")
    if rung.next_step:
        line.append(f" → {rung.next_step}", style="bold")
    return line


def _detail(rung: RungReport) -> str:
    """Say what was found, and what keeps the running service from asking a rung that is well."""
    if rung.state == "open" and rung.finding in ("ready", "narrow"):
        return f"{rung.detail}; not asked at present: {rung.reason}"
    return rung.detail


def _left(rung: RungReport) -> str:
    return "" if rung.quota is None or rung.quota.left is None else f"{rung.quota.left:,}"


def _announcement(plan: DrillPlan) -> str:
    """Say what a drill will do and spend, before it does."""
    lines = [
        f"drill: {', '.join(step.broken)} broken, {step.speaks} speaks; {spending(step.spends)}"
        for step in plan.plan
    ]
    lines.append(f"drill: {plan.detail or f'in all it {spending(plan.spends)}'}")
    return "".join(f"{line}\n" for line in lines)


def _show_drill(drilled: DrillReport, console: Console) -> None:
    for step in drilled.steps:
        word = Text("met     ", style="green") if step.ok else Text("not met ", style="bold red")
        took = "" if step.switch_ms is None else f", the switch took {step.switch_ms:g} ms"
        spoke = f"{step.spoke or 'nobody'} spoke"
        word.append(f"{', '.join(step.broken)} broken: {spoke}{took}; {step.detail}")
        console.print(word, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
