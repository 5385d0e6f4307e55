"""Runs pyinfra as a person does, in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.machines import Machine

PROJECT = Path(__file__).resolve().parent.parent.parent
PYINFRA = Path(sys.executable).parent / "pyinfra"
DEPLOY_TIMEOUT_SECONDS = 1200


@dataclass(frozen=True)
class Outcome:
    """How a run of pyinfra ended."""

    status: int
    said: str
    results: dict[str, Any] | None

    @property
    def changes(self) -> int:
        """Operations that changed anything, over all hosts."""
        assert self.results is not None, self.said
        return int(self.results["totals"]["success"])


def deploy(
    folder: Path,
    machines: Mapping[Machine, Mapping[str, object]],
    *options: str,
    environment: Mapping[str, str] | None = None,
    program: str = "deploy.py",
) -> Outcome:
    """Deploy to machines, each with its own host data, in one run.

    Args:
        folder: where the inventory and the known hosts are kept.
        machines: host data by machine.
        options: further options of pyinfra.
        environment: variables of the deploying process.
        program: what is deployed, below the project or anywhere.
    """
    with start_deploy(
        folder, machines, *options, environment=environment, program=program
    ) as running:
        try:
            results, said = running.communicate(timeout=DEPLOY_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            running.kill()
            raise
    return Outcome(
        running.returncode, said, json.loads(results)["results"] if results[:1] == "{" else None
    )


def start_deploy(
    folder: Path,
    machines: Mapping[Machine, Mapping[str, object]],
    *options: str,
    environment: Mapping[str, str] | None = None,
    program: str = "deploy.py",
) -> subprocess.Popen[str]:
    """Start what ``deploy`` waits for."""
    known_hosts = str(folder / "known_hosts")
    rows = [
        machine.inventory_row(ssh_known_hosts_file=known_hosts, **data)
        for machine, data in machines.items()
    ]
    inventory = folder / "inventory.py"
    inventory.write_text(f"hosts = {rows!r}\n", encoding="utf-8")
    return subprocess.Popen(
        [str(PYINFRA), "-y", "--json", *options, str(inventory), program],
        cwd=PROJECT,
        env=dict(environment or {}, PATH="/usr/bin:/bin:/usr/sbin:/sbin", HOME=str(folder)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
