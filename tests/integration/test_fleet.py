"""One run, several hosts over SSH: first, again, and with something broken. The order matters."""

import hashlib
import json
import posixpath
from pathlib import Path

import pytest

from provision._image import image_tag
from tests.integration.deploying import deploy
from tests.integration.machines import CERTIFICATES, PIP_MARK, Machine

pytestmark = pytest.mark.integration

Fleet = tuple[Machine, Machine]
KEY = "integration-tests-server-key-0123456789"
BROKEN_START = "/etc/systemd/system/docker.service.d/broken.conf"
REQUEST = "-H 'Content-Type: application/json' -d '{\"text\": \"Hello from Maya\"}'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fleet")


def health(host: Machine, port: int = 8000) -> dict[str, object]:
    answer: dict[str, object] = json.loads(host.run(f"curl -sS http://localhost:{port}/health"))
    return answer


def leftovers(host: Machine) -> set[str]:
    """Return what lies in the deploy's folder beside a release and the note on Docker."""
    release = {"docker-compose.sesame-offline.yml", "maya.env", "secrets", "service.env"}
    return set(host.run("ls -A /opt/sesame-csm").split()) - release - {".docker"}


def test_one_run_deploys_to_two_bare_hosts(fleet: Fleet, folder: Path) -> None:
    outcome = deploy(folder, {host: {} for host in fleet})
    assert outcome.status == 0, outcome.said
    assert outcome.said.count("🟠 Basic Voice") == 2
    for host in fleet:
        assert health(host)["status"] == "degraded"


def test_the_second_run_changes_nothing(fleet: Fleet, folder: Path) -> None:
    outcome = deploy(folder, {host: {} for host in fleet})
    assert outcome.status == 0, outcome.said
    assert outcome.changes == 0, outcome.said
    assert outcome.said.count("🟠 Basic Voice") == 2


def test_a_limit_leaves_the_other_hosts_alone(fleet: Fleet, folder: Path) -> None:
    outcome = deploy(folder, {host: {} for host in fleet}, "--limit", fleet[0].address)
    assert outcome.status == 0, outcome.said
    assert outcome.said.count("🟠 Basic Voice") == 1


def test_the_guides_commands_work_on_the_host(fleet: Fleet) -> None:
    host = fleet[0]
    assert "sesame-csm" in host.run("docker ps | grep sesame-csm")
    url = "http://localhost:8000/api/v1/generate"
    host.run(f"curl -sSf -X POST {url} {REQUEST} -o /tmp/hello.wav")
    assert host.run("head -c 4 /tmp/hello.wav") == "RIFF"
    before = host.run("docker inspect --format '{{.Id}}' sesame-csm-offline")
    compose = "docker compose -f docker-compose.sesame-offline.yml up -d"
    host.run(f"cd /opt/sesame-csm && {compose}")
    assert host.run("docker inspect --format '{{.Id}}' sesame-csm-offline") == before


def test_the_container_is_confined(fleet: Fleet) -> None:
    host = fleet[0]
    run = "docker exec sesame-csm-offline"
    assert host.run(f"{run} id -u").strip() == "10001"
    assert "Read-only file system" in host.run(f"{run} touch /app/x", check=False)
    assert "not found" in host.run(f"{run} pip --version 2>&1", check=False)
    assert "127.0.0.1:8000" in host.run("docker port sesame-csm-offline")


def test_no_layer_of_the_image_holds_the_hosts_pip_configuration(fleet: Fleet) -> None:
    host = fleet[0]
    image = host.run("docker inspect --format '{{.Config.Image}}' sesame-csm-offline").strip()
    assert PIP_MARK in host.run("cat /etc/pip.conf")
    host.run(f"docker save {image} > /srv/image.tar")
    assert host.run("grep -a -c pydantic_settings /srv/image.tar").strip() != "0"
    assert host.run(f"grep -a -c {PIP_MARK} /srv/image.tar", check=False).strip() == "0"
    host.run("rm /srv/image.tar")


def test_a_dry_run_says_so_and_changes_nothing(fleet: Fleet, folder: Path) -> None:
    host = fleet[0]
    before = host.run("docker ps --no-trunc --format '{{.ID}} {{.Image}}'")
    outcome = deploy(folder, {host: {"port": 8100}}, "--dry")
    assert outcome.status == 0, outcome.said
    assert host.run("docker ps --no-trunc --format '{{.ID}} {{.Image}}'") == before


def test_a_host_whose_port_is_taken_fails_alone(fleet: Fleet, folder: Path) -> None:
    broken, sound = fleet
    broken.run("/usr/sbin/sshd -p 8100")
    outcome = deploy(folder, {host: {"port": 8100} for host in fleet})
    assert outcome.status == 1
    assert "port 8100 on 0.0.0.0 is taken by sshd (process" in outcome.said
    assert health(broken)["status"] == "degraded", "the voice that ran before still speaks"
    assert health(sound, port=8100)["status"] == "degraded"

    broken.run("pkill -f 'sshd -p 8100' || kill $(pgrep -f 'sshd.*8100')", check=False)
    again = deploy(folder, {host: {"port": 8000} for host in fleet})
    assert again.status == 0, again.said
    assert health(sound)["status"] == "degraded"


def test_a_daemon_that_does_not_start_fails_alone_with_its_last_words(
    fleet: Fleet, folder: Path
) -> None:
    broken, sound = fleet
    broken.run("systemctl stop docker.socket docker.service")
    broken.run(f"mkdir -p {posixpath.dirname(BROKEN_START)}")
    broken.write(
        BROKEN_START, b"[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd --no-such-option\n"
    )
    broken.run("systemctl daemon-reload")
    outcome = deploy(folder, {host: {} for host in fleet})
    assert outcome.status == 1
    assert "The Docker daemon did not answer within" in outcome.said
    assert "no-such-option" in outcome.said
    assert health(sound)["status"] == "degraded"

    broken.run(
        f"rm {BROKEN_START} && systemctl daemon-reload && systemctl reset-failed docker.service"
    )
    again = deploy(folder, {host: {} for host in fleet})
    assert again.status == 0, again.said
    assert health(broken)["status"] == "degraded"


def test_an_image_that_cannot_be_built_fails_with_the_builds_last_words(
    fleet: Fleet, folder: Path
) -> None:
    host = fleet[0]
    host.run("tar -c -T /dev/null | docker import - nothing:at-all")
    outcome = deploy(folder, {host: {"base_image": "nothing:at-all"}})
    assert outcome.status == 1
    assert "/bin/sh" in outcome.said
    assert "The image could not be built" in outcome.said
    assert not leftovers(host)
    assert deploy(folder, {host: {}}).changes == 0


def test_settings_that_the_service_refuses_are_not_switched_over(
    fleet: Fleet, folder: Path
) -> None:
    host = fleet[0]
    outcome = deploy(folder, {host: {"service_env": {"SESAME_DEADLINE_SECONDS": "soon"}}})
    assert outcome.status == 1
    assert "SESAME_DEADLINE_SECONDS" in outcome.said
    assert "nothing was switched over" in outcome.said
    assert not leftovers(host)
    assert health(host)["status"] == "degraded"
    assert "soon" not in host.run("cat /opt/sesame-csm/service.env")
    assert deploy(folder, {host: {}}).changes == 0


def test_a_release_that_never_becomes_healthy_is_rolled_back(fleet: Fleet, folder: Path) -> None:
    host = fleet[0]
    running = host.run("docker inspect --format '{{.Config.Image}}' sesame-csm-offline").strip()
    base = "sesame-csm-base:trixie"
    authorities = [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in CERTIFICATES.glob("*.crt")
    ]
    mute = f'FROM {running}\nCMD ["sh", "-c", "echo I cannot speak; exec sleep infinity"]\n'
    host.write("/srv/mute/Dockerfile", mute.encode())
    host.run(f"docker build -q -t {image_tag(base, sorted(authorities))} /srv/mute")

    outcome = deploy(folder, {host: {"base_image": base, "start_timeout_seconds": 10}})
    assert outcome.status == 1
    assert "I cannot speak" in outcome.said
    assert "did not become healthy within 10 s" in outcome.said
    assert "the release that ran before speaks again" in outcome.said
    assert not leftovers(host)
    assert health(host)["status"] == "degraded"
    assert running in host.run("docker ps --format '{{.Image}}'")
    assert deploy(folder, {host: {}}).changes == 0, "the rollback restored every file"


def test_a_public_voice_demands_its_key_and_shows_it_nowhere(fleet: Fleet, folder: Path) -> None:
    host = fleet[0]
    data = {"bind": "0.0.0.0", "secrets": {"SESAME_SERVER_KEY": "env:SERVER_KEY"}}
    outcome = deploy(folder, {host: data}, "-vvv", "--diff", environment={"SERVER_KEY": KEY})
    assert outcome.status == 0, outcome.said
    assert KEY not in outcome.said
    assert KEY not in host.run("docker inspect sesame-csm-offline")
    assert KEY not in host.run("docker logs sesame-csm-offline 2>&1")
    assert KEY not in host.run("cat /opt/sesame-csm/docker-compose.sesame-offline.yml")
    assert host.run("stat -c '%a %u' /opt/sesame-csm/secrets/*").split() == ["400", "10001"]
    assert host.run("stat -c '%a %u' /opt/sesame-csm/maya.env").split() == ["600", "0"]

    url = f"http://{host.address}:8000/api/v1/generate"
    answered = "curl -s -o /dev/null -w '%{http_code}'"
    assert host.run(f"{answered} {REQUEST} {url}") == "401"
    assert host.run(f"{answered} -H 'Authorization: Bearer {KEY}' {REQUEST} {url}") == "200"

    settled = deploy(folder, {host: data}, environment={"SERVER_KEY": KEY})
    assert settled.changes == 0, settled.said
    private = deploy(folder, {host: {}})
    assert private.status == 0, private.said
    assert host.run("ls /opt/sesame-csm/secrets") == ""


def test_a_user_with_sudo_may_deploy(fleet: Fleet, folder: Path) -> None:
    host = fleet[0]
    public = host.key.with_suffix(".pub").read_bytes()
    host.run("useradd --create-home --shell /bin/sh maya")
    host.write("/home/maya/.ssh/authorized_keys", public, 0o600)
    host.run("chown -R maya /home/maya/.ssh")
    refused = deploy(folder, {host: {"ssh_user": "maya"}})
    assert refused.status == 1
    assert "may not use sudo without a password" in refused.said

    host.write("/etc/sudoers.d/maya", b"maya ALL=(ALL) NOPASSWD: ALL\n", 0o440)
    allowed = deploy(folder, {host: {"ssh_user": "maya"}})
    assert allowed.status == 0, allowed.said
    assert allowed.changes == 0, allowed.said


def test_a_voice_that_is_switched_off_is_stopped(fleet: Fleet, folder: Path) -> None:
    host = fleet[0]
    off = {"service_env": {"SESAME_ENABLED": "false"}}
    outcome = deploy(folder, {host: off})
    assert outcome.status == 0, outcome.said
    assert "🔴 Voice Offline" in outcome.said
    assert "sesame-csm" not in host.run("docker ps")
    assert deploy(folder, {host: off}).changes == 0
