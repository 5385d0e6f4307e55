"""Strict offline, from inside: no connection is asked of the system, nothing is there to ask."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.service.clouds import ELEVENLABS_KEY, HF_TOKEN, clouds, unheard_port
from tests.service.held import TIMEOUT

TRAPPED = """
import json, os, sys
EVENTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto",
          "socket.sendmsg")
asked = []
def trap(event, arguments):
    if event in EVENTS:
        asked.append([event, repr(arguments[1:] if event == "socket.connect" else arguments[:2])])
sys.addaudithook(trap)
from service.__main__ import main
try:
    main([])
except KeyboardInterrupt:
    pass
with open(sys.argv[1], "w") as report:
    closed = os.environ.get("HF_HUB_OFFLINE")
    json.dump({"asked": asked, "modules": sorted(sys.modules), "hub_closed": closed}, report)
"""
"""The real program, with every request for a connection or a name written down as Python makes it
(docs.python.org/3/library/audit_events.html)."""

OFFLINE = {"SESAME_MODE": "offline", "SESAME_MODEL": "", "SESAME_FALLBACK_ENABLED": "false"}
SDKS = ("elevenlabs", "httpx", "httpx2", "huggingface_hub", "requests", "urllib3")


@dataclass
class Report:
    """What the program did while it ran.

    + asked: each connection or name that it asked for, as [event, arguments]
    """

    asked: list[list[str]]
    modules: set[str]
    hub_closed: str | None

    @property
    def sdks(self) -> set[str]:
        return {module.partition(".")[0] for module in self.modules} & set(SDKS)


def watched(folder: Path, use: Callable[[httpx.Client], object], **environment: str) -> Report:
    """Run the program, use it, and report."""
    report = folder / "report.json"
    port = unheard_port()
    running = subprocess.Popen(
        [sys.executable, "-c", TRAPPED, str(report)],
        env={"PATH": os.environ["PATH"], "SESAME_PORT": str(port), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT, trust_env=False
        ) as client:
            wait_for(client)
            use(client)
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(TIMEOUT)
    told = json.loads(report.read_text())
    # Where it listens it asks for by its number: that leaves nothing.
    asked = [one for one in told["asked"] if one[1] != f"('127.0.0.1', {port})"]
    return Report(asked, set(told["modules"]), told["hub_closed"])


def wait_for(client: httpx.Client) -> None:
    ends = time.monotonic() + TIMEOUT
    while True:
        try:
            client.get("/livez")
        except httpx.TransportError:
            assert time.monotonic() < ends, "it does not answer"
            time.sleep(0.05)
        else:
            return


def use_everything(client: httpx.Client) -> None:
    for path in ("/health", "/readyz", "/metrics", "/rungs", "/docs", "/openapi.json", "/nothing"):
        client.get(path)
    for fields in (
        {},
        {"stream": True, "voice": "warm", "sample_rate": 8_000},
        {"voice": "nobody"},
        {"context": [{"text": "a", "audio": "I0VYVE0zVQpodHRwOi8vMTkyLjAuMi4xL2EudHMK"}]},
    ):
        client.post("/api/v1/generate", json={"text": "http://voice.example/ says hello", **fields})


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Use a strict-offline program that is tempted by every credential."""
    with clouds() as cloud:
        report = watched(
            tmp_path_factory.mktemp("strict"),
            use_everything,
            **OFFLINE,
            SESAME_URL=cloud.url,
            SESAME_API_KEY=ELEVENLABS_KEY,
            ELEVENLABS_API_KEY=ELEVENLABS_KEY,
            ELEVENLABS_BASE_URL=cloud.url,
            HF_TOKEN=HF_TOKEN,
        )
        assert cloud.seen == []
    return report


def test_strict_offline_no_connection_is_asked_for(strict: Report) -> None:
    assert strict.asked == []


def test_strict_offline_nothing_is_loaded_that_could_connect(strict: Report) -> None:
    assert strict.sdks == set()
    engines = {module for module in strict.modules if module.startswith("service.engines.")}
    assert not engines & {
        f"service.engines.{name}" for name in ("remote", "huggingface", "elevenlabs", "wire")
    }


def test_strict_offline_hugging_faces_library_is_told_to_stay_offline(strict: Report) -> None:
    assert strict.hub_closed == "1"


def test_with_a_fallback_the_same_trap_sees_it(tmp_path: Path) -> None:
    def use(client: httpx.Client) -> None:
        answer = client.post("/api/v1/generate", json={"text": "Hello"})
        assert answer.headers["X-Speech-Engine"] == "elevenlabs"

    with clouds() as cloud:
        report = watched(
            tmp_path,
            use,
            **OFFLINE | {"SESAME_FALLBACK_ENABLED": "true"},
            ELEVENLABS_API_KEY=ELEVENLABS_KEY,
            ELEVENLABS_BASE_URL=cloud.url,
        )
        place = cloud.url.rpartition(":")[2]
    assert any(event == "socket.connect" and place in where for event, where in report.asked)
    assert {"elevenlabs", "httpx"} <= report.sdks
    assert report.hub_closed == "1"
