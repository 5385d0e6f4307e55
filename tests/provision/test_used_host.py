"""What a deploy would do to a host that already has a life: what it mends, and what it leaves."""

from dataclasses import replace
from pathlib import Path

import pytest

from provision.host_docker import PREFERENCES_FILE
from provision.settings import DeploySettings
from tests.provision import gpus
from tests.provision.checkpoints import write_checkpoint
from tests.provision.hosts import COMPLETE_ENGINE, bare, row, settled
from tests.provision.plan import Plan, run_deploy

DEBIAN = row("Debian 13")
CONFIGURE = "Install Docker | Let containers outlive the daemon, and logs stay small"
DISABLE = "Install Docker | Take other entries of Docker's repository out of force"
MEND = "Install Docker | Finish packages that are half installed"
NOTE = "Install Docker | Note that a deploy brings the engine"
REMOVE = "Install Docker | Remove packages that stand in Docker's way"
NO_DOCKER_REPOSITORY = ("0 Could not resolve", "2 Could not resolve")
CONTRADICTION = "Conflicting values set for option Signed-By regarding source https://"


def changes(plan: Plan) -> list[str]:
    assert not plan.failed, plan.said
    return plan.changes


def refused(plan: Plan) -> str:
    assert plan.failed
    assert plan.operations == []
    return "\n".join(plan.said)


def test_a_foreign_engine_is_not_configured() -> None:
    plan = run_deploy(bare(DEBIAN, engine=COMPLETE_ENGINE, packages=("docker-ce",)))
    assert not {CONFIGURE, NOTE, MEND} & set(changes(plan))


def test_a_foreign_engine_is_configured_where_that_is_asked_for() -> None:
    foreign = bare(DEBIAN, engine=COMPLETE_ENGINE, daemon='{"mtu": 1400}')
    assert CONFIGURE in changes(run_deploy(foreign, docker_daemon="merge"))


def test_nothing_is_configured_where_that_is_asked_for() -> None:
    assert CONFIGURE not in changes(run_deploy(bare(DEBIAN), docker_daemon="leave"))


def test_an_engine_of_ours_gets_its_configuration_back() -> None:
    host = replace(settled(DEBIAN, DeploySettings(), "docker"), daemon='{"mtu": 1400}')
    assert changes(run_deploy(host)) == [CONFIGURE]


def test_a_value_of_somebody_else_stays_and_is_told_of() -> None:
    plan = run_deploy(bare(DEBIAN, daemon='{"live-restore": false}'))
    assert any("live-restore stays false" in line for line in plan.said)


def test_a_swarm_is_not_given_live_restore() -> None:
    swarm = bare(DEBIAN, engine=COMPLETE_ENGINE, swarm="active", daemon='{"log-driver": "local"}')
    plan = run_deploy(swarm, docker_daemon="merge")
    assert CONFIGURE not in changes(plan)
    assert any("part of a swarm" in line for line in plan.said)


def test_a_configuration_that_cannot_be_read_is_refused_with_its_line() -> None:
    said = refused(run_deploy(bare(DEBIAN, daemon="{\n  mtu: 1400\n}")))
    assert "/etc/docker/daemon.json, line 2: the file is not JSON" in said


def test_a_broken_configuration_that_is_not_ours_to_write_stands_in_nobodys_way() -> None:
    assert not run_deploy(bare(DEBIAN, engine=COMPLETE_ENGINE, daemon="{")).failed


def test_a_gpu_is_refused_where_docker_may_not_be_told_of_it(tmp_path: Path) -> None:
    model = str(write_checkpoint(tmp_path / "csm"))
    host = bare(DEBIAN, nvidia=gpus.H100, engine=COMPLETE_ENGINE)
    said = refused(run_deploy(host, docker_daemon="leave", model_folder=model))
    assert "docker_daemon=leave, and /etc/docker/daemon.json lacks runtimes" in said
    assert "nvidia-ctk runtime configure" in said


def test_half_installed_packages_are_finished_and_told_of_before() -> None:
    plan = run_deploy(bare(DEBIAN, half_installed=("libc-bin",)))
    assert MEND in changes(plan)
    assert any("Half installed, to be finished: libc-bin" in line for line in plan.said)


def test_packages_in_nobodys_use_make_way() -> None:
    host = bare(DEBIAN, packages=("containerd", "runc", "docker-doc"))
    plan = run_deploy(host)
    assert "remove -q -y docker-doc containerd runc" in dict(plan.operations)[REMOVE][0]
    assert any("to be removed: docker-doc, containerd, runc" in line for line in plan.said)


def test_an_idle_engine_gives_way_to_the_one_that_is_asked_for() -> None:
    plan = run_deploy(bare(DEBIAN, packages=("docker.io",)), docker_source="docker")
    assert {REMOVE, NOTE, CONFIGURE} < set(changes(plan))


@pytest.mark.parametrize(
    ("packages", "data", "remedy"),
    [
        (("containerd", "runc"), {}, "give docker_source=distribution"),
        (("docker-ce",), {"docker_source": "distribution"}, "apt-get remove docker-ce"),
    ],
)
def test_packages_in_use_are_not_removed(
    packages: tuple[str, ...], data: dict[str, str], remedy: str
) -> None:
    host = bare(DEBIAN, packages=packages, occupants=("3 running tasks of containerd",))
    said = refused(run_deploy(host, **data))
    assert f"{', '.join(packages)}, and they are in use: 3 running tasks of containerd" in said
    assert remedy in said


def test_what_runs_on_containerd_stays_beside_the_distributions_docker() -> None:
    host = bare(DEBIAN, packages=("containerd", "runc"), occupants=("/usr/bin/kubelet",))
    assert REMOVE not in changes(run_deploy(host, docker_source="distribution"))


def test_entries_of_dockers_repository_that_contradict_are_taken_out_of_force() -> None:
    host = bare(
        DEBIAN,
        unreachable=NO_DOCKER_REPOSITORY,
        docker_entries=("/etc/apt/sources.list.d/docker.list",),
        apt_fault=(f"E: {CONTRADICTION}download.docker.com/linux/debian/ trixie",),
    )
    assert DISABLE in changes(run_deploy(host))


def test_other_entries_that_contradict_are_refused_in_apts_words() -> None:
    fault = f"{CONTRADICTION}dl.example/deb/ stable"
    said = refused(run_deploy(bare(DEBIAN, apt_fault=(f"E: {fault}",))))
    assert f"apt cannot read its sources: {fault}" in said


def test_what_apt_cannot_read_is_of_no_interest_where_docker_is_complete() -> None:
    host = replace(settled(DEBIAN, DeploySettings(), "docker"), apt_fault=("E: anything",))
    assert changes(run_deploy(host)) == []


PIN = "Install Docker | Hold Docker's version"
VERSION = "Install Docker | Install the version of Docker that was asked for"
UNPIN = "Install Docker | Hold Docker's version no longer"
OFFERED = ("version 5:29.1.2-1~debian.13~trixie", "version 5:29.1.3-1~debian.13~trixie")


def test_the_version_that_is_asked_for_comes_before_the_rest() -> None:
    host = bare(DEBIAN, toolkits=OFFERED)
    done = changes(run_deploy(host, docker_version="29.1.2"))
    rest = done.index("Install Docker | Install Docker packages")
    assert done.index(PIN) < done.index(VERSION) < rest


def test_a_version_that_is_not_there_is_refused_with_those_that_are() -> None:
    said = refused(run_deploy(bare(DEBIAN, toolkits=OFFERED), docker_version="29.1.9"))
    assert "docker_version=29.1.9 is not where Docker comes from" in said
    assert "give one that is there: 29.1.3, 29.1.2" in said


def test_a_distribution_whose_lists_are_not_known_yet_is_asked_when_it_installs() -> None:
    host = bare(DEBIAN, unreachable=NO_DOCKER_REPOSITORY)
    assert VERSION in changes(run_deploy(host, docker_version="26.1.5"))


def test_a_version_that_the_distribution_does_not_have_is_refused_where_its_lists_are_known() -> (
    None
):
    host = bare(DEBIAN, unreachable=NO_DOCKER_REPOSITORY, known_versions=("26.1.5+dfsg1-9+b9",))
    said = refused(run_deploy(host, docker_version="29.1.3"))
    assert "give one that is there: 26.1.5" in said


def test_an_engine_of_ours_changes_its_version_when_another_one_is_asked_for() -> None:
    host = replace(settled(DEBIAN, DeploySettings(), "docker"), toolkits=OFFERED)
    plan = run_deploy(host, docker_version="29.1.3")
    assert {PIN, VERSION} <= set(changes(plan))
    assert any("Docker 26.1.5 becomes 29.1.3" in line for line in plan.said)


def test_an_engine_of_ours_is_held_at_the_version_that_it_has() -> None:
    host = settled(DEBIAN, DeploySettings(), "docker")
    held = replace(host, packages=(*host.packages[:3], "docker-ce=5:26.1.5-1~debian.13~trixie"))
    assert changes(run_deploy(held, docker_version="26.1.5")) == [PIN]


def test_somebody_elses_engine_keeps_its_version() -> None:
    host = bare(DEBIAN, engine=COMPLETE_ENGINE, packages=("docker-ce",))
    said = refused(run_deploy(host, docker_version="29.1.3"))
    assert "Docker 26.1.5 is on the host, which no deploy has brought" in said


def test_a_version_that_is_no_longer_asked_for_is_no_longer_held() -> None:
    host = settled(DEBIAN, DeploySettings(), "docker")
    pinned = (*host.own_engine, f"644 0 {'0' * 64} {PREFERENCES_FILE}")
    assert changes(run_deploy(replace(host, own_engine=pinned))) == [UNPIN]
