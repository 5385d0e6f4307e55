"""The checks against the service itself, over HTTP as after a deploy."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import checks
from checks.report import Verdict
from checks.run import run

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"),
]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def real_service(tmp_path: Path) -> Iterator[str]:
    """Start the service on a free port, with its basic voice."""
    port = _free_port()
    environment = {name: value for name, value in os.environ.items() if "SESAME" not in name}
    environment["SESAME_PORT"] = str(port)
    with (
        (tmp_path / "service.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "service"],
            cwd=Path(checks.__file__).parents[1],
            env=environment,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        url = f"http://127.0.0.1:{port}"
        try:
            if not _answers(url, process):
                pytest.fail((tmp_path / "service.log").read_text())
            yield url
        finally:
            process.terminate()


def _answers(url: str, process: "subprocess.Popen[bytes]") -> bool:
    """Ask until the port is open: from outside, a server that starts gives no event to wait for."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.ConnectError):
            return httpx.get(f"{url}/livez", trust_env=False).is_success
        time.sleep(0.05)
    return False


async def test_the_service_meets_every_check(real_service: str) -> None:
    report = await run(real_service)
    assert [result for result in report.results if result.verdict is not Verdict.MET] == []
