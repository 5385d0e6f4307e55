"""A stranger on a fresh machine follows the README: no Docker, no registry, no systemd."""

import io
import json
import subprocess
import tarfile

import pytest

from tests.integration.deploying import PROJECT
from tests.integration.machines import Machine

pytestmark = pytest.mark.integration

CLONE = "/root/sesame-csm-deploy"


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
    stranger.run(
        "curl -sSf -X POST http://localhost:8000/api/v1/generate "
        "-H 'Content-Type: application/json' -d '{\"text\": \"Hello from Maya\"}' -o /tmp/hello.wav"
    )
    assert stranger.run("head -c 4 /tmp/hello.wav") == "RIFF"


def test_make_deploy_again_changes_nothing(stranger: Machine) -> None:
    said = stranger.run(f"make -s -C {CLONE} deploy ARGS=--json 2>/dev/null")
    assert json.loads(said)["results"]["totals"]["success"] == 0
