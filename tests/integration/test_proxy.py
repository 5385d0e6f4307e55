"""A host whose only way out is a proxy with a password: Docker comes through it, and is told."""

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from provision._proxy import BUILD_ARGUMENTS, DROP_IN, PROXIES
from tests.integration.machines import Machine, machine
from tests.integration.proxy import PASSWORD, Proxy, proxy
from tests.integration.test_used_host import STAGES, run

pytestmark = pytest.mark.integration

BUILD = "\n".join(
    [
        "set -eu",
        "cd /srv/build",
        *PROXIES,
        f"DOCKER_BUILDKIT=1 docker build {BUILD_ARGUMENTS} --progress plain -t told . 2>&1",
    ]
)
DOCKERFILE = b"""FROM empty
COPY busybox /bin/sh
RUN echo "asks through ${http_proxy##*@}"
"""


@pytest.fixture(scope="module")
def way_out() -> Iterator[Proxy]:
    """A proxy at this machine's address on Docker's bridge."""
    bridge = docker.from_env().networks.get("bridge").attrs["IPAM"]["Config"][0]
    with proxy(bridge.get("Gateway", "172.17.0.1")) as running:
        yield running


@pytest.fixture(scope="module")
def host(key: Path, way_out: Proxy) -> Iterator[Machine]:
    """A host that reaches nobody but the proxy by itself."""
    gateway = way_out.url.rpartition("@")[2].partition(":")[0]
    with machine("trixie", key) as host:
        host.run(
            f"printf 'http_proxy=%s\\nhttps_proxy=%s\\n' {way_out.url} {way_out.url} "
            ">> /etc/environment"
        )
        host.run(f"iptables -A OUTPUT ! -o lo ! -d {gateway} -m conntrack --ctstate NEW -j REJECT")
        yield host


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("proxy")


def test_docker_comes_through_the_proxy(host: Machine, folder: Path, way_out: Proxy) -> None:
    outcome = run(STAGES, folder, host)
    assert outcome.status == 0, outcome.said
    assert way_out.asked
    assert PASSWORD not in outcome.said
    assert "server" in host.run("docker version --format 'server {{.Server.Version}}'")


def test_the_daemon_is_told_where_only_root_reads_it(host: Machine, way_out: Proxy) -> None:
    assert host.run(f"stat -c %a {DROP_IN}").strip() == "600"
    address = way_out.url.rpartition("@")[2]
    told = host.run("docker info --format '{{.HTTPProxy}} {{.HTTPSProxy}} {{.NoProxy}}'")
    assert told.count(address) == 2
    assert "localhost" in told
    assert PASSWORD not in told


def test_a_build_is_told_and_its_image_is_not(host: Machine, way_out: Proxy) -> None:
    host.run("env $(xargs < /etc/environment) apt-get install -q -y busybox-static")
    host.run("mkdir -p /srv/build && cp /usr/bin/busybox /srv/build/busybox")
    host.run("tar -c -T /dev/null | docker import - empty")
    host.write("/srv/build/Dockerfile", DOCKERFILE)
    said = host.run(BUILD)
    assert f"asks through {way_out.url.rpartition('@')[2]}" in said
    kept = host.run("docker history --no-trunc told; docker image inspect told")
    assert PASSWORD not in said + kept


def test_a_second_run_changes_nothing(host: Machine, folder: Path) -> None:
    outcome = run(STAGES, folder, host)
    assert outcome.status == 0, outcome.said
    assert "executed" not in outcome.said


def test_a_proxy_that_is_gone_is_forgotten(host: Machine, folder: Path) -> None:
    host.run("sed -i '/_proxy=/d' /etc/environment; iptables -F OUTPUT")
    outcome = run(STAGES, folder, host)
    assert outcome.status == 0, outcome.said
    assert host.run("docker info --format '[{{.HTTPProxy}}]'").strip() == "[]"
    assert host.run(f"ls {DROP_IN}", check=False).startswith("ls: cannot access")
