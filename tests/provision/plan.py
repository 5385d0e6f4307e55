"""Runs ``deploy.py`` against a host that exists only as its answers, and records the commands."""

import logging
import re
import runpy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyinfra import logger
from pyinfra.api import Config, Inventory, State
from pyinfra.api.connect import connect_all
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.operations import run_ops
from pyinfra.api.state import StateStage
from pyinfra.context import ctx_host, ctx_state

from tests.provision.hosts import FakeHost

PROJECT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Plan:
    """What a deploy would do to a host, and what it said."""

    operations: list[tuple[str, list[str]]]
    said: list[str]
    failed: bool
    sudo: bool

    @property
    def changes(self) -> list[str]:
        """Names of the operations that would change anything."""
        return [name for name, commands in self.operations if commands]

    def text(self) -> str:
        """Return the plan for people, without what differs from one content to the next."""
        lines = []
        for name, commands in self.operations:
            lines.append(f"# {name}" if commands else f"# {name}: no changes")
            lines += [command.rstrip() for command in commands]
            lines.append("")
        text = re.sub(r"sesame-csm:[0-9a-f]{12}", "sesame-csm:TAG", "\n".join(lines))
        text = re.sub(r"<_io\.BytesIO object at 0x[0-9a-f]+>", "CONTEXT", text)
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
    responses = {"fake_responses": fake.responses(), "fake_delay": 0, "fake_delay_jitter": 0}
    state = State(Inventory((["@fake/host"], {**responses, **data})), Config())
    with _recorded() as said, ctx_state.use(state):
        state.set_stage(StateStage.Connect)
        connect_all(state)
        state.set_stage(StateStage.Prepare)
        host = state.inventory.get_host("@fake/host")
        try:
            with ctx_host.use(host):
                runpy.run_path(str(PROJECT / "deploy.py"))
            state.set_stage(StateStage.Execute)
            run_ops(state)
        except PyinfraError as error:
            said.append(str(error))
        operations = []
        for order in state.get_op_order():
            meta = state.ops[host][order].operation_meta
            name = next(iter(state.op_meta[order].names))
            operations.append((name, [str(command) for command in meta._commands or []]))
        sudo = [state.ops[host][order].global_arguments["_sudo"] for order in state.get_op_order()]
        failed = host in state.failed_hosts
        return Plan(operations, said, failed=failed, sudo=bool(sudo) and all(sudo))
