"""What a deploy would do to hosts with GPUs, without a host: pyinfra's ``@fake`` connector."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provision._checkpoint import read_model
from provision._image import Variant
from provision._model import CsmEngine, Model
from provision._release import render_release
from provision._toolkit import TOOLKIT_PACKAGES, TOOLKIT_VERSION
from provision.settings import DeploySettings
from tests.provision import gpus
from tests.provision.checkpoints import folder_of, write_checkpoint
from tests.provision.hosts import COMPLETE_ENGINE, FakeHost, bare, row, settled, with_gpu
from tests.provision.plan import Plan, run_deploy

DEBIAN = row("Debian 13")
INSTALL = "Prepare the GPU | Install NVIDIA's container toolkit"
RUNTIME = "Prepare the GPU | Give Docker the NVIDIA runtime"
HOOK = "Prepare the GPU | Let Docker find NVIDIA's hook"
LOOK = "Start the service | Look after the container's GPU"


@pytest.fixture
def model(tmp_path: Path) -> Model:
    found = read_model(write_checkpoint(tmp_path / "csm"))
    assert isinstance(found, Model)
    return found


@pytest.fixture
def host(model: Model) -> FakeHost:
    """A host as a deploy with a GPU leaves it."""
    engine = CsmEngine(model, "nvidia", (gpus.H100_UUID,))
    settings = DeploySettings(model_folder=folder_of(model))
    return with_gpu(settled(DEBIAN, settings, "docker", engine=engine, variant=Variant("engine")))


def deploy(fake: FakeHost, model: Model, **data: Any) -> Plan:
    return run_deploy(fake, model_folder=str(folder_of(model)), **data)


def commands(plan: Plan, name: str) -> str:
    return "\n".join(dict(plan.operations)[name])


UNUSABLE = [
    (gpus.BARE_CARD, "without NVIDIA's driver", "cuda-keyring"),
    (gpus.MISMATCH, "library differ", "reboot the host"),
    (gpus.FOUR_GPUS_OLD_DRIVER, "570.133.20", "torch_index=https://download.pytorch.org/whl/cu126"),
    (gpus.NO_DEVICES, "finds no GPU", "dmesg"),
]


@pytest.mark.parametrize(("lines", "reason", "remedy"), UNUSABLE)
def test_a_gpu_that_was_asked_for_and_cannot_be_used_is_refused_before_anything_changes(
    lines: Sequence[str], reason: str, remedy: str, model: Model
) -> None:
    plan = deploy(bare(DEBIAN, nvidia=lines), model, accelerator="nvidia")
    said = "\n".join(plan.said)
    assert plan.failed
    assert plan.operations == []
    assert "accelerator=nvidia: " in said
    assert reason in said
    assert remedy in said
    assert "accelerator=auto" in said


@pytest.mark.parametrize(("lines", "reason", "remedy"), UNUSABLE)
def test_a_gpu_that_cannot_be_used_is_told_of_in_a_line_and_the_processor_taken(
    lines: Sequence[str], reason: str, remedy: str, model: Model
) -> None:
    plan = deploy(bare(DEBIAN, nvidia=lines), model)
    (line,) = [line for line in plan.said if "runs on the processor" in line]
    assert not plan.failed
    assert reason in line
    assert remedy in line
    assert not any(name.startswith("Prepare the GPU") for name, _ in plan.operations)


def test_a_host_without_a_gpu_is_told_of_without_advice(model: Model) -> None:
    plan = deploy(bare(DEBIAN), model)
    (line,) = [line for line in plan.said if "runs on the processor" in line]
    assert line.endswith("the host shows no NVIDIA GPU: the model runs on the processor")


def test_a_processor_that_was_asked_for_leaves_the_gpu_unasked(model: Model) -> None:
    plan = deploy(bare(DEBIAN, nvidia=gpus.H100), model, accelerator="cpu")
    assert not any("GPU" in line for line in plan.said)
    assert not any("GPU" in name for name, _ in plan.operations)


def test_torch_without_cuda_and_a_gpu_do_not_go_together(model: Model) -> None:
    plan = deploy(
        bare(DEBIAN, nvidia=gpus.H100),
        model,
        accelerator="nvidia",
        torch_index="https://download.pytorch.org/whl/cpu",
    )
    assert plan.failed
    assert any("has torch without CUDA" in line for line in plan.said)


def test_a_toolkit_that_is_there_is_left_alone_and_docker_told_of_it(model: Model) -> None:
    fake = bare(DEBIAN, nvidia=(*gpus.H100, *gpus.TOOLKIT), proof=gpus.PROOF)
    plan = deploy(fake, model)
    names = [name for name, _ in plan.operations if name.startswith("Prepare the GPU")]
    assert names == [RUNTIME, HOOK]


def test_a_toolkit_of_ours_is_brought_to_another_version(host: FakeHost, model: Model) -> None:
    fake = replace(host, toolkits=("version 1.19.0-1", "version 1.20.1-1"))
    plan = deploy(fake, model, nvidia_toolkit_version="1.20.1-1")
    assert all(f"{package}=1.20.1-1" in commands(plan, INSTALL) for package in TOOLKIT_PACKAGES)


@pytest.mark.parametrize(
    ("data", "changes", "reason", "remedy"),
    [
        ({"nvidia_toolkit_version": "1.99.0-1"}, {}, "1.99.0-1 is not in", "1.19.0-1"),
        ({"nvidia_toolkit": "present"}, {}, "nvidia-ctk does not answer", "nvidia_toolkit=auto"),
        (
            {},
            {"toolkits": ("error https://x Could not resolve",)},
            "Could not",
            "nvidia_repository",
        ),
        ({"gpu_devices": [1]}, {}, "1 is not on the host", "0 (NVIDIA H100 80GB HBM3, "),
        (
            {},
            {"engine": COMPLETE_ENGINE, "hook": ("live-restore false", "other shop", "other mail")},
            "stop 2 other containers",
            "live-restore",
        ),
    ],
)
def test_what_stands_between_docker_and_the_gpu_is_refused_before_anything_changes(
    data: dict[str, Any], changes: dict[str, Any], reason: str, remedy: str, model: Model
) -> None:
    fake = bare(DEBIAN, nvidia=gpus.H100, **changes)
    plan = deploy(fake, model, accelerator="nvidia", **data)
    said = "\n".join(plan.said)
    assert plan.failed
    assert plan.operations == []
    assert reason in said
    assert remedy in said


def test_docker_keeps_what_its_configuration_held(model: Model) -> None:
    fake = bare(DEBIAN, nvidia=gpus.H100, proof=gpus.PROOF, daemon='{"mtu": 1400}')
    plan = deploy(fake, model)
    assert "/etc/docker/daemon.json" in commands(plan, RUNTIME)


def test_docker_is_started_again_only_when_the_hook_came_after_it(
    host: FakeHost, model: Model
) -> None:
    assert "systemctl restart docker" in commands(deploy(replace(host, hook=()), model), HOOK)
    assert commands(deploy(host, model), HOOK) == ""


def test_a_settled_host_is_not_asked_for_the_repository(host: FakeHost, model: Model) -> None:
    plan = deploy(replace(host, toolkits=("error no route",)), model)
    assert not plan.failed
    assert plan.changes == []


def test_the_last_table_says_what_computes(host: FakeHost, model: Model) -> None:
    (line,) = [line for line in deploy(host, model).said if line.endswith(": computes")]
    assert "NVIDIA H100 80GB HBM3, 81079 MiB" in line
    assert "driver 580.65.06, CUDA 13.0" in line


def test_a_container_that_lost_its_gpu_is_made_anew(host: FakeHost, model: Model) -> None:
    plan = deploy(replace(host, inside=(gpus.LOST_INSIDE,)), model)
    assert plan.changes == [LOOK]
    assert "--force-recreate" in commands(plan, LOOK)
    assert any("has lost its GPU (Failed to initialize NVML" in line for line in plan.said)


@pytest.mark.parametrize(
    ("proof", "words"),
    [(gpus.LOST, "nvml_lost: NVML: 999"), ({}, "no_answer: it ended without a word")],
)
def test_a_gpu_that_does_not_compute_fails_the_host(
    proof: dict[str, Any], words: str, host: FakeHost, model: Model
) -> None:
    plan = deploy(replace(host, proof=proof), model)
    assert plan.failed
    assert any(words in line for line in plan.said)


@pytest.mark.parametrize(
    ("wanted", "devices"),
    [
        (0, f'["{gpus.H100_UUID}"]'),
        ([gpus.MIG_UUIDS[0]], f'["{gpus.MIG_UUIDS[0]}"]'),
        ("all", '", "'.join((*gpus.MIG_UUIDS, *gpus.A100_UUIDS[1:]))),
    ],
)
def test_the_container_is_given_what_was_chosen(wanted: object, devices: str, model: Model) -> None:
    lines = gpus.H100 if wanted == 0 else gpus.A100_WITH_MIG
    fake = bare(DEBIAN, nvidia=lines, proof=gpus.PROOF)
    assert not deploy(fake, model, gpu_devices=wanted).failed
    chosen = tuple(devices.strip('[]"').split('", "'))
    release = render_release(
        DeploySettings(model_folder=folder_of(model)), "image", CsmEngine(model, "nvidia", chosen)
    )
    assert devices in release.files[0].content
    assert "runtime: nvidia" in release.files[0].content


def test_nothing_of_a_gpu_is_done_for_the_processor(model: Model) -> None:
    plan = deploy(bare(DEBIAN), model)
    assert "nvidia" not in plan.text()
    assert TOOLKIT_VERSION not in plan.text()
