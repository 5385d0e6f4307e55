"""The deploy's last table, drawn from the report of the check program.

Pure functions over its JSON. Knows nothing of pyinfra or of how the checks were made.
"""

import io
import shlex
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from provision._release import CONTAINER, HOME
from provision.settings import DeploySettings

WIDTH = 160
MARKS = {"met": "✓", "not_met": "✗", "unknown": "?"}


def failure_lines(report: Mapping[str, Any]) -> list[str]:
    """Return what a failed report has to say, a line each: what was seen and what to do."""
    if "error" in report:
        return [f"the check program could not run: {report['error']}"]
    lines: list[str] = []
    for check in report.get("checks", []):
        if check["verdict"] != "met":
            lines.append(f"{MARKS[check['verdict']]} {check['name']}: {check['detail']}")
            step = f"    → {check['next']}"
            if check["next"] and step not in lines:
                lines.append(step)
    return lines or ["the check program reported no reason"]


def draw_report(settings: DeploySettings, report: Mapping[str, Any]) -> list[str]:
    """Return the lines of the table: what runs, where, who speaks, how to try it."""
    service = report.get("service") or {}
    badge = service.get("badge") or {}
    met = sum(check["verdict"] == "met" for check in report.get("checks", []))
    rows = {
        "Voice": f"{badge.get('icon', '')} {badge.get('label', 'unknown')}".strip(),
        "URL": f"{settings.public_url}/api/v1/generate",
        "Container": f"{CONTAINER}, health {service.get('status')}, engine {service.get('engine')}",
        "Personas": ", ".join(service.get("voices") or []),
        "Checks": f"{met} of {len(report.get('checks', []))} met",
        "Try it": _try_it(settings),
        "For Maya": f"{HOME}/maya.env",
    }
    if not service.get("model_loaded"):
        rows["Better"] = (
            "the basic voice speaks; Maya's own voice needs the CSM-1B model, which this version "
            "does not serve yet"
        )
    return _draw(rows)


def draw_stopped() -> list[str]:
    """Return the table of a host whose voice is switched off."""
    enable = 'service_env={"SESAME_ENABLED": "true"}'
    return _draw({"Voice": "🔴 Voice Offline", "Why": "SESAME_ENABLED=false", "Start it": enable})


def _try_it(settings: DeploySettings) -> str:
    words = ["curl", "-o", "hello.wav", "-H", "Content-Type: application/json"]
    words += ["-d", '{"text":"Hello from Maya"}', f"{settings.public_url}/api/v1/generate"]
    if "SESAME_SERVER_KEY" not in settings.secrets:
        return shlex.join(words)
    # On standard input: a key in an argument can be read by every user of the machine.
    header = "printf 'Authorization: Bearer %s' \"$SESAME_SERVER_KEY\""
    return f"{header} | {shlex.join([*words, '-H', '@-'])}"


def _draw(rows: Mapping[str, str]) -> list[str]:
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    drawn = io.StringIO()
    Console(file=drawn, width=WIDTH, force_terminal=False).print(table)
    return [line.rstrip() for line in drawn.getvalue().splitlines() if line.strip()]
