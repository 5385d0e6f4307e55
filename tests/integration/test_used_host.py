"""A host with a past: what it has of apt and of Docker is mended or left alone. The order matters.

Everything is real but Docker's own repository, which is only named.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision._apt import SET_ASIDE
from provision._daemon import BACKUP_FILE, DAEMON_FILE, OUR_DAEMON
from provision.host_docker import OWN_ENGINE_FILE
from tests.integration.deploying import Outcome, deploy
from tests.integration.machines import Machine, machine

pytestmark = pytest.mark.integration

STAGES = """
from pyinfra import host
from provision import DeploySettings, check_host, install_docker
plan = check_host(DeploySettings.of(host))
if plan is not None:
    install_docker(plan)
"""
CONFIGURE = """
from provision import operations
operations.configure_daemon(name="Configure", wanted={wanted!r}, systemd=True)
"""
STALE = "/etc/apt/sources.list.d/docker.list"
MIXED = "/etc/apt/sources.list.d/mixed.sources"
FOREIGN = '{"mtu": 1400}'

PARAGRAPHS = """\
# Other than download.docker.com
Types: deb
URIs: {mirror}
Suites: {release}
Components: main

Types: deb
URIs: https://download.docker.com/linux/debian
Suites: {release}
Components: stable
Signed-By: /etc/apt/third.gpg
"""
HALF = """
set -eu
mkdir -p /srv/half/DEBIAN && cd /srv
printf '%s\\n' 'Package: half' 'Version: 1' 'Architecture: all' 'Maintainer: A <a@b.c>' \
  'Description: x' > half/DEBIAN/control
printf '%s\\n' '#!/bin/sh' 'test -e /srv/well' > half/DEBIAN/postinst
chmod 755 half/DEBIAN/postinst
dpkg-deb --build half half.deb
dpkg -i half.deb || touch /srv/well
"""
HOLD = """
import fcntl, glob, time

def asked():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            words = open(path).read().split("\\0")
        except OSError:
            continue
        if words[0] == "apt-get" and "update" in words:
            return True
    return False

lock = open("/var/lib/apt/lists/lock", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
open("/run/held", "w").close()
while not asked():
    time.sleep(0.02)
time.sleep(3)
"""
"""Holds apt's lists, as an unattended upgrade does, until a while after somebody has asked."""


@pytest.fixture(scope="module", params=["trixie", "bookworm"])
def host(request: pytest.FixtureRequest, key: Path) -> Iterator[Machine]:
    with machine(request.param, key) as host:
        yield host


@pytest.fixture(scope="module")
def folder(host: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for each host: its key must not be taken for that of the one before."""
    return tmp_path_factory.mktemp(f"used-{host.address}")


def run(program: str, folder: Path, host: Machine, **data: object) -> Outcome:
    """Run a deploy of only some stages: the images of a whole one would take minutes."""
    path = folder / "program.py"
    path.write_text(program, encoding="utf-8")
    return deploy(folder, {host: {"docker_source": "auto", **data}}, program=str(path))


def said(outcome: Outcome) -> str:
    return " ".join(outcome.said.split())


def configuration(host: Machine) -> dict[str, object]:
    read: dict[str, object] = json.loads(host.run(f"cat {DAEMON_FILE}"))
    return read


def write_configuration(host: Machine, text: str) -> None:
    host.write(DAEMON_FILE, text.encode())


def daemon(host: Machine) -> str:
    return host.run("cat /run/docker.pid")


def test_a_host_that_apt_has_given_up_is_deployed_to(host: Machine, folder: Path) -> None:
    mirror, release = host.run(
        "apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | head -n 1"
    ).split()
    host.run(HALF)
    docker = f"https://download.docker.com/linux/debian {release} stable"
    host.run(f"echo 'deb [signed-by=/usr/share/keyrings/old.gpg] {docker}' > {STALE}")
    host.run(f"echo 'deb [signed-by=/etc/apt/other.gpg] {docker}' >> /etc/apt/sources.list")
    host.write(MIXED, PARAGRAPHS.format(release=release, mirror=mirror).encode())
    host.run(f"echo 'deb {mirror} nowhere main' > /etc/apt/sources.list.d/dead.list")
    write_configuration(host, FOREIGN)
    host.write("/srv/hold.py", HOLD.encode())
    host.run("setsid python3 /srv/hold.py >/dev/null 2>&1 &")
    host.run("until [ -e /run/held ]; do sleep 0.1; done")

    outcome = run(STAGES, folder, host)

    assert outcome.status == 0, outcome.said
    assert "It is held by process" in said(outcome)
    assert "Half installed, to be finished: half" in said(outcome)
    assert host.run("dpkg --audit").strip() == ""
    assert "# deb [signed-by" in host.run(f"cat {STALE}")
    assert "# deb" not in host.run(f"cat {STALE}{SET_ASIDE}")
    assert host.run(f"grep -c '^# ' {MIXED}").strip() == "6"
    assert "nowhere" in host.run("cat /etc/apt/sources.list.d/dead.list")
    host.run("docker compose version && docker buildx version")


def test_an_engine_that_a_deploy_brings_keeps_what_was_configured(host: Machine) -> None:
    assert configuration(host) == {"mtu": 1400, **OUR_DAEMON}
    assert host.run(f"cat {BACKUP_FILE}") == FOREIGN
    assert host.run("docker info --format '{{.LiveRestoreEnabled}}'").strip() == "true"


def test_the_second_run_changes_nothing(host: Machine, folder: Path) -> None:
    outcome = run(STAGES, folder, host)
    assert outcome.status == 0, outcome.said
    assert outcome.changes == 0, outcome.said


def test_apt_is_held_to_the_version_that_is_asked_for(host: Machine, folder: Path) -> None:
    version = host.run("docker version --format '{{.Server.Version}}'").partition("+")[0].strip()
    outcome = run(STAGES, folder, host, docker_version=version)
    assert outcome.status == 0, outcome.said
    policy = host.run("apt-cache policy docker.io")
    assert f"Candidate: {version}" in policy
    assert " 1001\n" in policy
    assert run(STAGES, folder, host, docker_version=version).changes == 0
    assert run(STAGES, folder, host).changes == 1
    assert " 1001\n" not in host.run("apt-cache policy docker.io")


def test_a_version_that_does_not_exist_is_refused_with_those_that_do(
    host: Machine, folder: Path
) -> None:
    version = host.run("docker version --format '{{.Server.Version}}'").partition("+")[0].strip()
    outcome = run(STAGES, folder, host, docker_version="1.99.0")
    assert outcome.status == 1
    assert f"give one that is there: {version}" in said(outcome)


@pytest.fixture(scope="module")
def container(host: Machine) -> str:
    """Somebody's container, on an image of nearly nothing."""
    host.run(
        "mkdir -p /srv/image/bin && cd /srv/image && for file in /bin/sleep; do cp $file bin/; "
        "for library in $(ldd $file | grep -o '/[^ ]*'); do mkdir -p .$(dirname $library); "
        "cp $library .$library; done; done; tar -c . | docker import - somebodys"
    )
    host.run("docker run --detach --stop-timeout 1 --name somebodys somebodys sleep infinity")
    return "somebodys"


def life(host: Machine, container: str) -> str:
    """Return what a container does not survive a new start with."""
    return host.run(
        "docker inspect --format '{{.Id}} {{.State.StartedAt}} {{.State.Running}} {{.State.Pid}}' "
        + container
    )


def test_logs_stay_small(host: Machine, container: str) -> None:
    kept = host.run(f"docker inspect --format '{{{{json .HostConfig.LogConfig}}}}' {container}")
    assert json.loads(kept) == {"Type": "json-file", "Config": OUR_DAEMON["log-opts"]}


def test_containers_outlive_a_new_start_of_the_daemon(
    host: Machine, container: str, folder: Path
) -> None:
    write_configuration(host, FOREIGN)
    host.run("systemctl restart docker && docker start somebodys")
    before, first = life(host, container), daemon(host)
    outcome = run(STAGES, folder, host)
    assert outcome.status == 0, outcome.said
    assert configuration(host) == {"mtu": 1400, **OUR_DAEMON}
    assert daemon(host) != first
    assert life(host, container) == before


def test_a_signal_is_enough_for_a_runtime(host: Machine, container: str, folder: Path) -> None:
    before, first = life(host, container), daemon(host)
    wanted = {"runtimes": {"other": {"path": "runc"}}}
    assert run(CONFIGURE.format(wanted=wanted), folder, host).changes == 1
    host.run("until docker info --format '{{json .Runtimes}}' | grep -q other; do sleep 0.1; done")
    assert (life(host, container), daemon(host)) == (before, first)


def test_what_the_daemon_cannot_live_with_is_taken_back(
    host: Machine, container: str, folder: Path
) -> None:
    before, first = life(host, container), host.run(f"cat {DAEMON_FILE}")
    outcome = run(CONFIGURE.format(wanted={"data-root": "/proc/nowhere"}), folder, host)
    assert outcome.status == 1
    assert "what was there before is back" in said(outcome)
    assert host.run(f"cat {DAEMON_FILE}") == first
    assert life(host, container) == before


def test_what_docker_does_not_know_is_not_left_there(
    host: Machine, container: str, folder: Path
) -> None:
    before, first = life(host, container), host.run(f"cat {DAEMON_FILE}")
    outcome = run(CONFIGURE.format(wanted={"no-such-setting": True}), folder, host)
    assert outcome.status == 1
    assert "don't match any configuration option: no-such-setting" in said(outcome)
    assert host.run(f"cat {DAEMON_FILE}") == first
    assert life(host, container) == before


def test_an_engine_that_is_stopped_is_not_replaced_under_its_containers(
    host: Machine, container: str, folder: Path
) -> None:
    before = life(host, container)
    host.run("systemctl stop docker.socket docker.service")
    outcome = run(STAGES, folder, host, docker_source="docker")
    host.run("systemctl start docker.socket docker.service")
    assert outcome.status == 1
    assert "in use: 1 containers of Docker; 1 running tasks of containerd" in said(outcome)
    assert life(host, container) == before


def test_a_foreign_engine_and_its_containers_are_left_alone(
    host: Machine, container: str, folder: Path
) -> None:
    host.run(f"rm {OWN_ENGINE_FILE}")
    write_configuration(host, FOREIGN)
    before, first = life(host, container), daemon(host)
    outcome = run(STAGES, folder, host)
    assert outcome.status == 0, outcome.said
    assert outcome.changes == 0
    assert host.run(f"cat {DAEMON_FILE}") == FOREIGN
    assert (life(host, container), daemon(host)) == (before, first)


def test_a_broken_configuration_is_refused_with_its_line(host: Machine, folder: Path) -> None:
    write_configuration(host, '{\n  "mtu": 1400,\n}\n')
    outcome = run(STAGES, folder, host, docker_daemon="merge")
    assert outcome.status == 1
    assert f"{DAEMON_FILE}, line 3: the file is not JSON" in said(outcome)
