"""Strict offline: out of a network whose every packet is seen, not one comes."""

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.integration.sealed import Sealed, can_seal, sealed_network

pytestmark = pytest.mark.integration

HERE = "127.0.0.1:8000"
COUNT = 3_000
SECONDS = 60
LEAST = 2_000  # requests; fewer would not mean much
CLOUD = "192.0.2.200"  # where the positive control's cloud would be
KEY = "sk_" + "0" * 48

OFFLINE = {"SESAME_MODE": "offline", "SESAME_MODEL": "", "SESAME_FALLBACK_ENABLED": "false"}
TEMPTATIONS = {
    "ELEVENLABS_API_KEY": KEY,
    "ELEVENLABS_BASE_URL": f"http://{CLOUD}",
    "HF_TOKEN": "hf_" + "A" * 34,
    "SESAME_URL": f"http://{CLOUD}/api/v1/generate",
    "SESAME_API_KEY": KEY,
    "HTTP_PROXY": f"http://{CLOUD}:3128",
    "HTTPS_PROXY": f"http://{CLOUD}:3128",
    "ALL_PROXY": f"http://{CLOUD}:3128",
}
"""What an environment may hold, and strict offline must not act on."""

WAIT = """
import sys, time, urllib.request
for _ in range(300):
    try:
        sys.exit(urllib.request.urlopen("http://%s/readyz").status != 200)
    except OSError:
        time.sleep(0.1)
sys.exit("it does not answer")
"""
ASK = """
import sys, urllib.request
body, kind = b'{"text":"Hello from Maya"}', {"Content-Type": "application/json"}
asked = urllib.request.Request("http://%s/api/v1/generate", body, kind)
sys.stdout.write(urllib.request.urlopen(asked).headers["X-Speech-Attempts"])
"""


@pytest.fixture(scope="session", autouse=True)
def _engine() -> None:
    """Nothing here needs the engine of the other tests."""


@pytest.fixture(scope="module")
def network() -> Iterator[Sealed]:
    if not can_seal():
        reason = "no network can be made: run as root, or where users may have namespaces, with ip"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sealed_network() as sealed:
        yield sealed


@contextmanager
def service(network: Sealed, **environment: str) -> Iterator[None]:
    """Run the real program inside, and see that it ends in peace."""
    with tempfile.TemporaryFile("w+") as log:
        running = network.start(sys.executable, "-m", "service", log=log, **OFFLINE | environment)
        try:
            network.run(sys.executable, "-c", WAIT % HERE)
            yield
        finally:
            running.terminate()
            running.communicate()
        log.seek(0)
        assert running.returncode in (0, -signal.SIGTERM), log.read()


def test_strict_offline_not_one_packet_leaves(network: Sealed) -> None:
    network.packets()
    with service(network, **TEMPTATIONS):
        asking = ("-m", "tests.integration.hostile", HERE, str(COUNT), str(SECONDS))
        told = network.run(sys.executable, *asking)
    answered = {int(status): count for status, count in json.loads(told).items()}
    assert network.packets() == []
    assert sum(answered.values()) >= LEAST
    assert answered[200] >= LEAST / 3
    assert {404, 405, 422} <= set(answered)
    assert max(answered) < 500


def test_with_the_fallback_on_the_same_capture_sees_it(network: Sealed) -> None:
    network.packets()
    cloud = {name: TEMPTATIONS[name] for name in ("ELEVENLABS_API_KEY", "ELEVENLABS_BASE_URL")}
    with service(
        network, SESAME_DEADLINE_SECONDS="2", **cloud | {"SESAME_FALLBACK_ENABLED": "true"}
    ):
        attempts = network.run(sys.executable, "-c", ASK % HERE)
    assert attempts.endswith(";basic=ok")
    assert "elevenlabs=" in attempts
    assert any(packet.startswith(f"{CLOUD} ") for packet in network.packets())


def test_the_capture_sees_a_name_that_is_looked_up(network: Sealed) -> None:
    network.packets()
    lookup = "import socket\ntry: socket.getaddrinfo('voice.example', 80)\nexcept OSError: pass"
    network.run("env", "RES_OPTIONS=attempts:1 timeout:1", sys.executable, "-c", lookup)
    assert any("voice.example" in packet for packet in network.packets())
