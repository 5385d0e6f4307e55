"""A host that reaches the web only through a proxy with a password. The order matters."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from provision._docker import DOCKER_ADDRESS
from provision._proxy import BUILD_ARGUMENTS, DAEMON_PROXY_FILE, DROP_IN, PROXIES
from tests.integration.deploying import Outcome, deploy
from tests.integration.machines import Machine, machine
from tests.integration.proxying import PASSWORD, USER, Proxy, password_proxy

pytestmark = pytest.mark.integration

STAGES = """
from pyinfra import host
from provision import DeploySettings, check_host, install_docker
plan = check_host(DeploySettings.of(host))
if plan is not None:
    install_docker(plan)
"""

# Docker writes rules of its own before those of other tables.
CUT_OFF = """
for chain in OUTPUT FORWARD; do
  iptables -t mangle -A $chain -p tcp -m multiport --dports 80,443 -j DROP
done
"""

WATCH = """
import glob
password = open("/srv/password", "rb").read()
open("/run/watching", "w").close()
while True:
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            line = open(path, "rb").read()
        except OSError:
            continue
        if password in line:
            open("/srv/seen", "ab").write(line + b"\\n")
"""
"""Keeps every command line in which the password stands, for as long as the host is there."""

BASE = """
set -eu
mkdir -p /srv/image/bin && cd /srv/image
for file in /bin/sh /bin/sleep /usr/bin/curl; do
  cp $file bin/
  for library in $(ldd $file | grep -o '/[^ ]*'); do
    mkdir -p .$(dirname $library)
    cp $library .$library
  done
done
tar -c . | docker import --change 'CMD ["sleep", "infinity"]' - base
"""


@pytest.fixture(scope="module")
def host(key: Path) -> Iterator[Machine]:
    with machine("trixie", key) as host:
        yield host


@pytest.fixture(scope="module")
def proxy(host: Machine) -> Iterator[Proxy]:
    """The one way of the host to the web, named where a host's variables are."""
    gateway = host.run("ip -4 route show default | awk '{print $3}'").strip()
    with password_proxy(gateway) as proxy:
        host.write(
            "/etc/environment",
            f'http_proxy="{proxy.url}"\nhttps_proxy="{proxy.url}"\n'.encode(),
        )
        host.write("/srv/password", PASSWORD.encode(), 0o600)
        host.write("/srv/watch.py", WATCH.encode())
        host.run("setsid python3 /srv/watch.py >/dev/null 2>&1 &")
        host.run("until [ -e /run/watching ]; do sleep 0.1; done")
        host.run(CUT_OFF)
        yield proxy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proxy")


def run(folder: Path, host: Machine, **data: object) -> Outcome:
    path = folder / "program.py"
    path.write_text(STAGES, encoding="utf-8")
    return deploy(folder, {host: data}, "-vv", program=str(path))


@pytest.fixture(scope="module")
def index(host: Machine) -> str:
    """What tells which packages there are."""
    return host.run(
        "apt-get indextargets --format '$(REPO_URI)dists/$(RELEASE)/Release' "
        "'Created-By: Packages' | head -n 1"
    ).strip()


@pytest.fixture(scope="module")
def first(host: Machine, proxy: Proxy, folder: Path) -> Outcome:  # noqa: ARG001 (the host's way)
    """Sudo hands the variables of a login to nobody: they are found where the host keeps them."""
    return run(folder, host, _sudo=True)


def test_docker_comes_through_the_proxy(first: Outcome, proxy: Proxy, host: Machine) -> None:
    assert first.status == 0, first.said
    assert "sudo" in first.said
    assert f"CONNECT {DOCKER_ADDRESS}" in proxy.asked
    host.run("docker compose version && docker buildx version")


def test_the_daemon_goes_through_it(host: Machine, proxy: Proxy) -> None:
    address = proxy.url.rpartition("@")[2]
    shown = host.run("docker info --format '{{.HTTPProxy}} {{.HTTPSProxy}}'").split()
    assert shown == [f"http://xxxxx:xxxxx@{address}"] * 2
    environment = host.run("tr '\\0' '\\n' < /proc/$(cat /run/docker.pid)/environ")
    assert f"HTTPS_PROXY={proxy.url}\n" in environment


def test_a_login_with_the_variables_changes_nothing(host: Machine, folder: Path) -> None:
    outcome = run(folder, host)
    assert outcome.status == 0, outcome.said
    assert outcome.changes == 0, outcome.said


def test_a_build_reaches_the_web_through_it(host: Machine, proxy: Proxy, index: str) -> None:
    host.run(BASE)
    host.write(
        "/srv/context/Dockerfile",
        f"FROM base\nRUN curl --fail --silent --output /answer {index}\n".encode(),
    )
    asked = len(proxy.asked)
    lines = (*PROXIES, f"DOCKER_BUILDKIT=1 docker build {BUILD_ARGUMENTS} --tag built /srv/context")
    host.write("/srv/build.sh", "\n".join(("set -eu", *lines)).encode())
    host.run("sh /srv/build.sh")
    assert proxy.asked[asked:] == [f"GET {index.split('/')[2]}"]


def test_the_image_does_not_know_the_password(host: Machine) -> None:
    told = host.run("docker history --no-trunc built; docker image inspect built")
    assert "curl --fail" in told
    assert PASSWORD not in told
    assert USER not in told


def test_no_user_of_the_host_is_told_the_password(host: Machine) -> None:
    told = host.run(
        "setpriv --reuid 65534 --regid 65534 --clear-groups sh -c "
        f"'systemctl show docker; systemctl cat docker; cat {DAEMON_PROXY_FILE} {DROP_IN}; true' "
        "2>&1"
    )
    assert f"EnvironmentFiles={DAEMON_PROXY_FILE}" in told
    assert PASSWORD not in told


def test_no_command_line_and_no_log_holds_the_password(host: Machine, first: Outcome) -> None:
    assert PASSWORD not in first.said
    assert PASSWORD not in host.run("journalctl --no-pager --quiet")
    assert host.run("grep -rlF -f /srv/password /var/log || true").strip() == ""
    assert host.run("cat /srv/seen 2>/dev/null || true") == ""


def test_a_proxy_that_is_gone_is_forgotten_and_containers_run_on(
    host: Machine, folder: Path
) -> None:
    host.run("iptables -t mangle -F && docker run --detach --name somebodys built")
    before = host.run("docker inspect --format '{{.State.Pid}} {{.State.Running}}' somebodys")
    host.write("/etc/environment", b"")
    outcome = run(folder, host)
    assert outcome.status == 0, outcome.said
    assert outcome.changes == 1, outcome.said
    assert host.run("docker info --format '{{.HTTPProxy}}{{.HTTPSProxy}}'").strip() == ""
    assert host.run(f"ls {DAEMON_PROXY_FILE} {DROP_IN} 2>/dev/null || true") == ""
    assert (
        host.run("docker inspect --format '{{.State.Pid}} {{.State.Running}}' somebodys") == before
    )
