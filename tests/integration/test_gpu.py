"""A host with a GPU that is none gets what a real one would get. The order matters.

The driver's tool, the bus, NVIDIA's repository and its packages are stand-ins that say what real
ones were recorded to say; apt, Docker, Compose and the runtime underneath are real.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from provision._checkpoint import read_model
from provision._model import CsmEngine, Model
from provision._release import COMPOSE_FILE, CONTAINER, HOME, render_release
from provision._toolkit import PREFERENCES_FILE, TOOLKIT_KEY, TOOLKIT_PACKAGES, TOOLKIT_VERSION
from provision.settings import DeploySettings
from service.csm import random_checkpoint
from tests.integration.deploying import Outcome, deploy
from tests.integration.machines import Machine, machine
from tests.integration.repository import Package, make_signing_key, served, write_repository
from tests.provision import gpus
from tests.provision.checkpoints import folder_of

pytestmark = pytest.mark.integration

STAGES = """
from pyinfra import host
from provision import DeploySettings, check_host, install_docker, prepare_gpu
plan = check_host(DeploySettings.of(host))
if plan is not None:
    install_docker(plan)
    prepare_gpu(plan)
"""
RESTORE = """
from provision import operations
operations.restore_gpu(name="Look after the container's GPU", timeout_seconds=30)
"""
NEWER = "1.20.0-1"

CTK = '#!/bin/sh\necho "NVIDIA Container Toolkit CLI version 1.19.0"\necho "commit: 0"\n'
HOOK = "#!/bin/sh\ncat > /run/nvidia-hook-was-called\n"
SMI = """#!/bin/sh
case "$*" in
*--query-gpu*) sed -n 's/^csv //p' /srv/sight; exit "$(sed -n 's/^status //p' /srv/sight)" ;;
-L) sed -n 's/^list //p' /srv/sight ;;
*) echo "| NVIDIA-SMI 580.65.06   Driver Version: 580.65.06   CUDA Version: 13.0     |" ;;
esac
"""
SMI_INSIDE = """#!/bin/sh
[ ! -e /lost ] || { echo "Failed to initialize NVML: Unknown Error"; exit 255; }
"""


def packages(version: str) -> list[Package]:
    contents: dict[str, dict[str, Any]] = {
        "nvidia-container-toolkit": {"files": {"usr/bin/nvidia-container-runtime-hook": HOOK}},
        "nvidia-container-toolkit-base": {
            "files": {"usr/bin/nvidia-ctk": CTK},
            "links": {"usr/bin/nvidia-container-runtime": "/usr/sbin/runc"},
        },
    }
    return [Package(name, version, **contents.get(name, {})) for name in TOOLKIT_PACKAGES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu")


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    random_checkpoint.write(folder / "tiny", random_checkpoint.SIZES["tiny"], clips=0.25)
    found = read_model(folder / "tiny")
    assert isinstance(found, Model)
    return found


@pytest.fixture(scope="module")
def host(key: Path) -> Iterator[Machine]:
    with machine("trixie", key) as host:
        yield host


@pytest.fixture(scope="module")
def repository(folder: Path, host: Machine) -> Iterator[dict[str, object]]:
    """NVIDIA's repository as a mirror of it would be: its address and its key, as settings."""
    signed = make_signing_key(folder / "gnupg")
    architecture = host.run("dpkg --print-architecture").strip()
    root = folder / "served"
    offered = [*packages(TOOLKIT_VERSION), *packages(NEWER)]
    write_repository(root, f"nvidia/stable/deb/{architecture}", offered, signed)
    (root / "gpgkey").rename(root / "nvidia/gpgkey")
    gateway = docker.from_env().networks.get("bridge").attrs["IPAM"]["Config"][0]["Gateway"]
    with served(root) as port:
        yield {
            "nvidia_repository": f"http://{gateway}:{port}/nvidia",
            "nvidia_key": signed.fingerprint,
        }


def show(host: Machine, lines: tuple[str, ...]) -> None:
    """Make the host show what a host with GPUs showed: on its bus, in its driver, by its tool."""
    cards = [line.removeprefix("card ") for line in lines if line.startswith("card")]
    host.run("umount /sys/bus/pci/devices /proc/driver 2>/dev/null; true")
    host.run("mount -t tmpfs cards /sys/bus/pci/devices && mount -t tmpfs driver /proc/driver")
    for number, driver in enumerate(cards):
        card = f"/sys/bus/pci/devices/0000:0{number}:00.0"
        host.run(f"mkdir {card}; echo 0x10de > {card}/vendor; echo 0x030200 > {card}/class")
        if driver:
            host.run(f"ln -s ../../../bus/pci/drivers/{driver} {card}/driver")
    version = next((line.split()[1] for line in lines if line.startswith("kernel")), None)
    if version:
        words = f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build"
        host.run(f"mkdir /proc/driver/nvidia; echo '{words}  (x)' > /proc/driver/nvidia/version")
    host.write("/srv/sight", "\n".join(lines).encode())
    if "status missing" in lines:
        host.run("rm -f /usr/bin/nvidia-smi")
    else:
        host.write("/usr/bin/nvidia-smi", SMI.encode(), 0o755)


def run(program: str, folder: Path, host: Machine, data: dict[str, object]) -> Outcome:
    """Run a deploy of only some stages: the images of a whole one would take minutes."""
    path = folder / "program.py"
    path.write_text(program, encoding="utf-8")
    return deploy(folder, {host: data}, program=str(path))


def deploy_gpu(folder: Path, host: Machine, model: Model, **data: object) -> Outcome:
    settings: dict[str, object] = {
        "docker_source": "distribution",
        "accelerator": "nvidia",
        "model_folder": str(folder_of(model)),
        **data,
    }
    return run(STAGES, folder, host, settings)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (gpus.NOUVEAU, "1 NVIDIA GPU without NVIDIA's driver, and nouveau holds it"),
        (gpus.MISMATCH, "the running driver is 550.127.08, the library 550.144"),
        (gpus.FOUR_GPUS_OLD_DRIVER, "NVIDIA's driver is 570.133.20, and the image's CUDA 13.0"),
        (gpus.WITHOUT_TOOL, "580.65.06 runs, but there is no nvidia-smi"),
        (gpus.NOTHING, "accelerator=nvidia: the host shows no NVIDIA GPU"),
    ],
)
def test_each_state_is_refused_on_a_real_host_with_its_own_words(
    lines: tuple[str, ...], words: str, host: Machine, folder: Path, model: Model
) -> None:
    show(host, lines)
    outcome = deploy_gpu(folder, host, model)
    assert outcome.status == 1
    assert words in " ".join(outcome.said.split())
    assert host.run("command -v docker", check=False) == ""


def test_a_version_that_does_not_exist_is_refused_with_those_that_do(
    host: Machine, folder: Path, model: Model, repository: dict[str, object]
) -> None:
    show(host, gpus.H100)
    outcome = deploy_gpu(folder, host, model, **repository, nvidia_toolkit_version="1.99.0-1")
    assert outcome.status == 1
    assert f"give one that is there: {NEWER}, {TOOLKIT_VERSION}" in " ".join(outcome.said.split())
    assert host.run("command -v docker", check=False) == ""


def test_a_repository_with_another_key_is_refused(
    host: Machine, folder: Path, model: Model, repository: dict[str, object]
) -> None:
    outcome = deploy_gpu(folder, host, model, **repository | {"nvidia_key": TOOLKIT_KEY})
    assert outcome.status == 1
    assert f"not by the pinned {TOOLKIT_KEY}: refused" in outcome.said
    assert host.run("command -v nvidia-ctk; ls /etc/apt/keyrings", check=False).strip() == ""


def test_docker_is_brought_to_give_the_gpu_away(
    host: Machine, folder: Path, model: Model, repository: dict[str, object]
) -> None:
    host.run("echo '{\"debug\": false}' > /etc/docker/daemon.json")
    stale = f"deb [signed-by=/usr/share/keyrings/old.gpg] {repository['nvidia_repository']}/old /"
    host.run(f"echo '{stale}' > /etc/apt/sources.list.d/nvidia-container-toolkit.list")
    outcome = deploy_gpu(folder, host, model, **repository)
    assert outcome.status == 0, outcome.said
    installed = host.run("dpkg-query -W -f '${Package} ${Version}\\n' '*nvidia-container*'")
    assert dict(line.split() for line in installed.splitlines()) == dict.fromkeys(
        TOOLKIT_PACKAGES, TOOLKIT_VERSION
    )
    assert "nvidia" in host.run("docker info --format '{{json .Runtimes}}'")
    kept: dict[str, object] = json.loads(host.run("cat /etc/docker/daemon.json"))
    assert kept["debug"] is False


def test_the_second_run_changes_nothing(
    host: Machine, folder: Path, model: Model, repository: dict[str, object]
) -> None:
    outcome = deploy_gpu(folder, host, model, **repository)
    assert outcome.status == 0, outcome.said
    assert outcome.changes == 0, outcome.said


def test_apt_is_held_to_the_version(host: Machine) -> None:
    policy = host.run(f"apt-cache policy {TOOLKIT_PACKAGES[0]}")
    assert NEWER in policy
    assert f"Candidate: {TOOLKIT_VERSION}" in policy
    assert "hold" not in host.run(f"dpkg --get-selections {TOOLKIT_PACKAGES[0]}")
    assert TOOLKIT_VERSION in host.run(f"cat {PREFERENCES_FILE}")


@pytest.fixture(scope="module")
def container(host: Machine, model: Model) -> str:
    """A container with what a release asks for of the GPU, on an image of nearly nothing."""
    host.write("/srv/image/usr/bin/nvidia-smi", SMI_INSIDE.encode(), 0o755)
    host.run(
        "cd /srv/image; mkdir -p bin; for file in /bin/sh /bin/sleep /bin/touch; do cp $file bin/; "
        "for library in $(ldd $file | grep -o '/[^ ]*'); do mkdir -p .$(dirname $library); "
        "cp $library .$library; done; done; tar -c . | docker import - probe"
    )
    engine = CsmEngine(model, "nvidia", (gpus.H100_UUID,))
    rendered = render_release(DeploySettings(model_folder=folder_of(model)), "probe", engine)
    asked = yaml.safe_load(rendered.files[0].content)["services"]["sesame-csm"]
    kept = {name: asked[name] for name in ("runtime", "deploy", "container_name")}
    service = {**kept, "image": "probe", "command": ["sleep", "infinity"], "init": False}
    composed = yaml.safe_dump({"services": {"probe": service}}).encode()
    host.write(f"{HOME}/{COMPOSE_FILE}", composed)
    host.run(f"docker compose --project-directory {HOME} --file {HOME}/{COMPOSE_FILE} up -d --wait")
    return CONTAINER


def test_a_container_is_given_the_gpu_that_was_chosen(host: Machine, container: str) -> None:
    process = host.run(f"docker inspect --format '{{{{.State.Pid}}}}' {container}").strip()
    variables = host.run(f"tr '\\0' '\\n' < /proc/{process}/environ").splitlines()
    assert f"NVIDIA_VISIBLE_DEVICES={gpus.H100_UUID}" in variables
    host.run("test -s /run/nvidia-hook-was-called")


def test_a_container_that_lost_its_gpu_is_made_anew_and_then_left_alone(
    host: Machine, container: str, folder: Path
) -> None:
    before = host.run(f"docker inspect --format '{{{{.Id}}}}' {container}")
    assert run(RESTORE, folder, host, {}).changes == 0
    host.run(f"docker exec {container} touch /lost")
    mended = run(RESTORE, folder, host, {})
    assert mended.changes == 1, mended.said
    assert "has lost its GPU (Failed to initialize NVML: Unknown Error)" in mended.said
    assert host.run(f"docker inspect --format '{{{{.Id}}}}' {container}") != before
    assert run(RESTORE, folder, host, {}).changes == 0
