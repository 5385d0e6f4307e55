"""Runs ``deploy.py`` against a host that exists only as its answers, and records the commands."""

import logging
import re
import runpy
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pyinfra
from pyinfra import logger
from pyinfra.api import Config, Inventory, State
from pyinfra.api.connect import connect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operations import run_ops
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_host, ctx_state

from provision._proxy import PROXIES
from tests.provision.hosts import FakeHost

PROJECT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Plan:
    """What a deploy would do to a host, and what it said.

    ``run`` names the operations of all hosts of the run, in the order in which they run.
    """

    operations: list[tuple[str, list[str]]]
    run: list[str]
    said: list[str]
    failed: bool
    sudo: bool

    @property
    def changes(self) -> list[str]:
        """Names of the operations that would change anything."""
        return [name for name, commands in self.operations if commands]

    def text(self) -> str:
        """Return the plan for people, without what differs from one content to the next.

        ``PROXIES`` stands for the lines of that name, which stand before all that asks the web.
        """
        lines = []
        for name, commands in self.operations:
            lines.append(f"# {name}" if commands else f"# {name}: no changes")
            lines += [command.rstrip() for command in commands]
            lines.append("")
        text = re.sub(r"sesame-csm:[0-9a-f]{12}", "sesame-csm:TAG", "\n".join(lines))
        text = re.sub(r"<_io\.BytesIO object at 0x[0-9a-f]+>", "CONTEXT", text)
        text = text.replace("\n".join(PROXIES), "PROXIES")
        return text.rstrip() + "\n"


class _Recorder(logging.Handler):
    """Keeps what pyinfra says, without its colours."""

    def __init__(self, said: list[str]) -> None:
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(re.sub(r"\x1b\[[0-9;]*m", "", str(record.msg)))


@contextmanager
def _recorded() -> Iterator[list[str]]:
    said: list[str] = []
    handler = _Recorder(said)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def run_deploy(fake: FakeHost, **data: Any) -> Plan:
    """Run ``deploy.py`` for one fake host with the given host data."""
    return run_fleet({"host": (fake, data)})["host"]


def run_fleet(
    fakes: Mapping[str, tuple[FakeHost, Mapping[str, Any]]], limit: Collection[str] | None = None
) -> dict[str, Plan]:
    """Run ``deploy.py`` for several fake hosts, each with its own host data.

    Args:
        fakes: what each answers, and its host data, by name without ``@fake/``.
        limit: names of those that are deployed to; None: all.
    """
    rows = [
        (
            f"@fake/{name}",
            {
                "fake_responses": fake.responses(),
                "fake_delay": 0,
                "fake_delay_jitter": 0,
                **data,
            },
        )
        for name, (fake, data) in fakes.items()
    ]
    inventory = Inventory((rows, {}))
    limited = None if limit is None else [inventory.get_host(f"@fake/{name}") for name in limit]
    state = State(inventory, Config(), initial_limit=limited)
    with _recorded() as said, ctx_state.use(state):
        state.set_stage(StateStage.Connect)
        connect_all(state)
        state.set_stage(StateStage.Prepare)
        state.current_deploy_filename = str(PROJECT / "deploy.py")
        try:
            # The order of operations over several hosts is settled as on the command line, which
            # takes its time.
            with mock.patch.object(pyinfra, "is_cli", new=len(fakes) > 1):
                for host in list(state.inventory.get_active_hosts()):
                    with ctx_host.use(host):
                        runpy.run_path(state.current_deploy_filename)
            state.set_stage(StateStage.Execute)
            run_ops(state)
        except PyinfraError as error:
            said.append(str(error))
        return {name: _plan(state, f"@fake/{name}", said) for name in fakes}


def _plan(state: State, name: str, said: list[str]) -> Plan:
    host = state.inventory.get_host(name)
    run = [(next(iter(state.op_meta[order].names)), order) for order in state.get_op_order()]
    own = [(words, state.ops[host][order]) for words, order in run if order in state.ops[host]]
    operations = [
        (words, [str(command) for command in data.operation_meta._commands or []])
        for words, data in own
    ]
    sudo = [data.global_arguments["_sudo"] for _, data in own]
    failed = host in state.failed_hosts
    everybodys = [words for words, _ in run]
    return Plan(operations, everybodys, said, failed=failed, sudo=bool(sudo) and all(sudo))
