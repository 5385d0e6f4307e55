"""A stranger on a fresh machine follows the README: no Docker, no registry, no systemd."""

import base64
import io
import json
import shlex
import subprocess
import tarfile

import pytest

from tests.integration.deploying import PROJECT
from tests.integration.machines import Machine
from tests.listening import PERSONAS, SAMPLE_RATE, UNDERSTOOD, Recogniser

pytestmark = pytest.mark.integration

CLONE = "/srv/sesame-csm-deploy"
GENERATE = "-X POST http://localhost:8000/api/v1/generate -H 'Content-Type: application/json'"


@pytest.fixture(scope="module")
def stranger(small_cloud: Machine) -> Machine:
    """The host with what a clone of the project would hold."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in filter(None, listed.split("\0")):
            if (PROJECT / name).exists():
                archive.add(PROJECT / name, arcname=name)
    small_cloud.run(f"mkdir -p {CLONE}")
    small_cloud.container.get_wrapped_container().put_archive(CLONE, packed.getvalue())
    return small_cloud


def test_make_deploy_ends_with_a_verified_voice(stranger: Machine) -> None:
    assert stranger.run("command -v docker dockerd", check=False) == ""
    said = stranger.run(f"make -C {CLONE} deploy 2>&1")
    assert "🟠 Basic Voice" in said


def test_the_guides_commands_then_work(stranger: Machine) -> None:
    assert "sesame-csm" in stranger.run("docker ps | grep sesame-csm")
    health = json.loads(stranger.run("curl -sSf http://localhost:8000/health"))
    assert (health["status"], health["engine"]) == ("degraded", "basic")
    stranger.run(f'curl -sSf {GENERATE} -d \'{{"text": "Hello from Maya"}}\' -o /tmp/hello.wav')
    assert stranger.run("head -c 4 /tmp/hello.wav") == "RIFF"


@pytest.mark.parametrize("persona", PERSONAS)
def test_the_deployed_voice_is_understood(stranger: Machine, persona: str) -> None:
    def speak(phrase: str) -> bytes:
        wanted = json.dumps({"text": phrase, "voice": persona, "sample_rate": SAMPLE_RATE})
        return base64.b64decode(
            stranger.run(f"curl -sSf {GENERATE} -d {shlex.quote(wanted)} | base64 -w0")
        )

    assert Recogniser().share_understood(speak, count=4) >= UNDERSTOOD


def test_a_daemon_that_was_killed_is_started_again(stranger: Machine) -> None:
    stranger.run("pkill -9 dockerd; pkill -9 containerd; sleep 1; echo 1 > /run/docker.pid")
    said = stranger.run(f"make -C {CLONE} deploy 2>&1")
    assert "🟠 Basic Voice" in said


def test_make_deploy_again_changes_nothing(stranger: Machine) -> None:
    said = stranger.run(f"make -s -C {CLONE} deploy ARGS=--json 2>/dev/null")
    assert json.loads(said)["results"]["totals"]["success"] == 0
