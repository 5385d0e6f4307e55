"""What a deploy would do to each kind of host, without a host: pyinfra's ``@fake`` connector."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from provision._distribution import DISTRIBUTIONS
from provision.settings import DeploySettings
from tests.provision.hosts import COMPLETE_ENGINE, REPORT, bare, row, settled
from tests.provision.plan import run_deploy

PLANS = Path(__file__).parent / "plans"
SOURCES = ("docker", "distribution")
NAMES = [row.name for row in DISTRIBUTIONS]

# Unreachable answers by number: 0 Docker's repository, 1 the mirror, 2 the registry, 3 the index.
CLOSED_NETWORK = ("0 Could not resolve", "2 Could not resolve")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", NAMES)
def test_the_first_plan_of_a_bare_host_is_the_golden_one(name: str, source: str) -> None:
    distribution = row(name)
    closed = CLOSED_NETWORK if source == "distribution" else ()
    plan = run_deploy(bare(distribution, unreachable=closed))
    golden = PLANS / f"{distribution.codename}-{source}.txt"
    if os.environ.get("UPDATE_PLANS"):
        golden.write_text(plan.text(), encoding="utf-8")
    assert not plan.failed
    assert plan.text() == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", NAMES)
def test_the_plan_of_a_settled_host_is_empty(name: str, source: str) -> None:
    settings = DeploySettings()
    plan = run_deploy(settled(row(name), settings, source))
    assert not plan.failed
    assert plan.changes == []
    assert any("Basic Voice" in line for line in plan.said)


DEBIAN = row("Debian 13")
NGINX = "0: 00000000:1F40 00000000:0000 0A 0:0 00:0 0 0 0 4242 1 0 100 0 0 10 0"


@pytest.mark.parametrize(
    ("changes", "reason", "remedy"),
    [
        ({"architecture": "riscv64"}, "the processor is riscv64", "x86_64, aarch64"),
        ({"privilege": "none"}, "may not use sudo without a password", "--use-sudo-password"),
        ({"memory_mib": 256}, "256 MiB of memory, 512 MiB are needed", "more memory"),
        (
            {"disk_mib": 900},
            "/var/lib has 900 MiB free, 3000 MiB are needed",
            "docker system prune",
        ),
        ({"listeners": (NGINX,)}, "taken by nginx (process 812)", "--data port=8001"),
        ({"engine": ("snap yes",)}, "installed as a snap", "snap remove docker"),
        ({"engine": ("client /usr/bin/docker", "podman yes")}, "Podman", "podman-docker"),
        (
            {"unreachable": ("0 refused", "1 refused", "2 refused")},
            "packages come from the host's mirror",
            "apt-get update shows the fault",
        ),
        ({"unreachable": ("3 refused",)}, "installs Python packages", "/etc/pip.conf"),
        (
            {"engine": ("client /usr/local/bin/docker", "engine 27.0.1")},
            "an engine that no package owns is running, and there is no compose, no buildx",
            "install the missing parts",
        ),
    ],
)
def test_a_host_that_cannot_carry_the_voice_is_refused_before_anything_changes(
    changes: dict[str, object], reason: str, remedy: str
) -> None:
    plan = run_deploy(bare(DEBIAN, **changes))
    said = "\n".join(plan.said)
    assert plan.failed
    assert plan.operations == []
    assert reason in said
    assert remedy in said


def test_an_unknown_distribution_is_refused_by_name() -> None:
    plan = run_deploy(bare(replace(DEBIAN, name="Arch Linux", identity="arch", version="rolling")))
    assert plan.failed
    assert any("Arch Linux" in line and "Ubuntu 24.04" in line for line in plan.said)


def test_every_refusal_is_told_at_once() -> None:
    plan = run_deploy(bare(DEBIAN, memory_mib=100, disk_mib=100, listeners=(NGINX,)))
    said = "\n".join(plan.said)
    assert said.count("✗") == 3


def test_a_port_that_our_own_container_holds_is_free_for_us() -> None:
    host = settled(DEBIAN, DeploySettings(), "docker")
    plan = run_deploy(replace(host, listeners=(NGINX,)))
    assert not plan.failed


def test_a_settled_host_is_deployed_to_without_asking_the_network() -> None:
    host = settled(DEBIAN, DeploySettings(), "docker")
    dead = tuple(f"{number} no route" for number in range(4))
    plan = run_deploy(replace(host, unreachable=dead))
    assert not plan.failed
    assert plan.changes == []


def test_a_present_engine_is_left_alone() -> None:
    plan = run_deploy(bare(DEBIAN, engine=COMPLETE_ENGINE))
    assert not any("apt-get" in command for _, run in plan.operations[:2] for command in run)
    assert plan.operations[0] == ("Install Docker | Start the Docker daemon", [])


def test_docker_source_present_is_refused_where_no_engine_answers() -> None:
    plan = run_deploy(bare(DEBIAN), docker_source="present")
    assert plan.failed
    assert any("no engine, no compose, no buildx" in line for line in plan.said)


def test_a_user_with_sudo_deploys_with_sudo() -> None:
    assert run_deploy(bare(DEBIAN, privilege="sudo")).sudo
    assert not run_deploy(bare(DEBIAN, privilege="root")).sudo


def test_wrong_host_data_ends_the_run_with_the_value_and_the_way_out() -> None:
    plan = run_deploy(bare(DEBIAN), port="abc")
    assert plan.operations == []
    said = "\n".join(plan.said)
    assert "port=abc" in said
    assert "--data port=8000" in said


def test_a_voice_that_fails_its_checks_fails_the_host_with_what_was_seen() -> None:
    checks = [
        {
            "name": "speech",
            "verdict": "not_met",
            "detail": "the answer is silent",
            "next": "look at docker logs sesame-csm-offline",
        }
    ]
    host = replace(
        settled(DEBIAN, DeploySettings(), "docker"), report={"ok": False, "checks": checks}
    )
    plan = run_deploy(host)
    said = "\n".join(plan.said)
    assert plan.failed
    assert "speech: the answer is silent" in said
    assert "docker logs" in said


def test_a_check_program_that_cannot_run_fails_the_host_with_its_words() -> None:
    host = replace(
        settled(DEBIAN, DeploySettings(), "docker"), report={"error": "exec format error"}
    )
    plan = run_deploy(host)
    assert plan.failed
    assert any("exec format error" in line for line in plan.said)


def test_a_voice_that_is_switched_off_is_stopped_and_verified_stopped() -> None:
    off = {"SESAME_ENABLED": "false"}
    settings = DeploySettings(service_env=off)
    running = settled(DEBIAN, settings, "docker")
    stopped = replace(running, container={**running.container, "status": "exited"}, listeners=())
    plan = run_deploy(running, service_env=off)
    assert "docker stop" in dict(plan.operations)["Start the service | Stop the voice"][0]
    assert plan.failed
    assert run_deploy(stopped, service_env=off).changes == []


def test_a_secret_stands_in_no_command_and_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "a-key-that-must-not-be-seen-anywhere"
    monkeypatch.setenv("SESAME_SERVER_KEY", key)
    secrets = {"SESAME_SERVER_KEY": "env:SESAME_SERVER_KEY"}
    plan = run_deploy(bare(DEBIAN, report=REPORT), secrets=secrets, bind="0.0.0.0")
    assert not plan.failed
    assert "secrets/SESAME_SERVER_KEY" in plan.text()
    assert key not in plan.text() + "\n".join(plan.said)
