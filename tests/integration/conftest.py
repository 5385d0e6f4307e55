"""Hosts that live as long as the tests need them."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.machines import Machine, engine_is_there, machine, make_key


@pytest.fixture(scope="session", autouse=True)
def _engine() -> None:
    """Skip only where no engine can run at all; where one is promised, its absence is a failure."""
    if engine_is_there():
        return
    reason = "no Docker engine answers, or debootstrap is missing: tests/prerequisites says more"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("ssh"))


@pytest.fixture(scope="module")
def fleet(key: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two bare Debian 13 hosts."""
    with ExitStack() as stack:
        first, second = (stack.enter_context(machine("trixie", key)) for _ in range(2))
        yield first, second


@pytest.fixture(scope="module")
def small_cloud(key: Path) -> Iterator[Machine]:
    """A bare Debian 12 host without systemd as process 1."""
    with machine("bookworm", key, systemd=False) as host:
        yield host
