"""A report as a person reads it: a table on a terminal, one line a check elsewhere."""

import shlex
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from checks.generate import GENERATE
from checks.report import Report, Result, Verdict

_WORDS = {Verdict.MET: "met", Verdict.NOT_MET: "not met", Verdict.UNKNOWN: "unknown"}
_STYLES = {Verdict.MET: "green", Verdict.NOT_MET: "bold red", Verdict.UNKNOWN: "yellow"}

_TABLE_WIDTH = 72
"""Under this many columns a table would break words; lines wrap better."""


def show(report: Report, console: Console, *, with_key: bool) -> None:
    """Print the results, a summary line, and how to try the voice when it spoke."""
    if console.is_terminal and console.width >= _TABLE_WIDTH:
        console.print(_table(report))
    else:
        for result, next_step in _with_new_steps(report):
            line = _line(result, next_step, _name_width(report))
            console.print(line, soft_wrap=not console.is_terminal)
    console.print(_summary(report), soft_wrap=True)
    if any(r.name.startswith("speech.") and r.verdict is Verdict.MET for r in report.results):
        console.print(Text(f"Try it: {_curl(report.url, with_key=with_key)}"), soft_wrap=True)


def _table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column("check", min_width=_name_width(report), overflow="fold")
    table.add_column("verdict", min_width=len("not met"))
    table.add_column("seen", overflow="fold", ratio=1)
    for result, next_step in _with_new_steps(report):
        seen = Text(result.seen)
        if next_step:
            seen.append(f"\n→ {next_step}", style="bold")
        verdict = Text(_WORDS[result.verdict], style=_STYLES[result.verdict])
        table.add_row(Text(result.name), verdict, seen)
    return table


def _with_new_steps(report: Report) -> Iterator[tuple[Result, str]]:
    """Yield each result with its next step, or with none when a result above already said it."""
    said: set[str] = set()
    for result in report.results:
        yield result, "" if result.next_step in said else result.next_step
        said.add(result.next_step)


def _line(result: Result, next_step: str, name_width: int) -> Text:
    line = Text(overflow="fold")
    line.append(f"{_WORDS[result.verdict]:7}", style=_STYLES[result.verdict])
    line.append(f"  {result.name:{name_width}}  {result.seen}")
    if next_step:
        line.append(f" → {next_step}", style="bold")
    return line


def _summary(report: Report) -> Text:
    counts = [
        (sum(result.verdict is verdict for result in report.results), verdict)
        for verdict in (Verdict.NOT_MET, Verdict.UNKNOWN, Verdict.MET)
    ]
    counted = ", ".join(
        f"{count} {'could not tell' if verdict is Verdict.UNKNOWN else _WORDS[verdict]}"
        for count, verdict in counts
        if count
    )
    said = [*_said_of_itself(report), report.url, f"checks: {counted}"]
    return Text(" · ".join(said), style=_STYLES[report.verdict])


def _said_of_itself(report: Report) -> list[str]:
    service = report.service
    if service is None:
        return ["no speech service found"]
    badge = service.get("badge")
    shown = f"{badge.get('icon')} {badge.get('label')}" if isinstance(badge, dict) else "no badge"
    return [shown, f"engine {service.get('engine') or 'none'}"]


def _curl(url: str, *, with_key: bool) -> str:
    """Return a command for a shell; a key goes in through a pipe, not through the process list."""
    key = """printf 'Authorization: Bearer %s' "$SESAME_SERVER_KEY" | """ if with_key else ""
    header = "-H @- " if with_key else ""
    body = shlex.quote('{"text":"Hello from Maya"}')
    return (
        f"{key}curl -o voice.wav {header}-H 'Content-Type: application/json' "
        f"-d {body} {shlex.quote(url + GENERATE)}"
    )


def _name_width(report: Report) -> int:
    return max(len(result.name) for result in report.results)
