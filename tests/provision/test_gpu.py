"""Which state a host's GPU is in, and what is done about each."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from provision._distribution import DISTRIBUTIONS
from provision._docker import Refusal
from provision._gpu import (
    TORCH_CUDA,
    DriverMismatch,
    DriverTooOld,
    Faulty,
    GpuState,
    NoGpu,
    Unfit,
    Usable,
    WithoutDriver,
    choose_gpus,
    image_cuda,
    judge_gpu,
)
from provision._toolkit import (
    TOOLKIT_PACKAGES,
    choose_toolkit,
    has_toolkit_version,
    refuse_restart,
    toolkit_preferences,
    toolkit_sources,
)
from provision.facts import Nvidia
from tests.provision import gpus
from tests.provision.hosts import row

PROJECT = Path(__file__).resolve().parent.parent.parent
DEBIAN = row("Debian 13")


def judged(lines: Sequence[str], name: str = "Debian 13", cuda: str = "13.0") -> GpuState:
    return judge_gpu(Nvidia().process(list(lines)), row(name), cuda)


def usable(lines: Sequence[str]) -> Usable:
    state = judged(lines)
    assert isinstance(state, Usable)
    return state


def test_a_gpu_with_a_new_driver_can_be_used() -> None:
    state = usable(gpus.H100)
    (gpu,) = state.gpus
    assert (state.driver, state.cuda) == ("580.65.06", "13.0")
    assert (gpu.index, gpu.uuid, gpu.name) == (0, gpus.H100_UUID, "NVIDIA H100 80GB HBM3")
    assert (gpu.memory_mib, gpu.capability, gpu.mig) == (81559, (9, 0), False)


def test_the_instances_of_a_gpu_belong_to_it() -> None:
    first, second, _ = usable(gpus.A100_WITH_MIG).gpus
    assert [one.uuid for one in first.slices] == list(gpus.MIG_UUIDS)
    assert first.slices[0].profile == "1g.20gb"
    assert (first.mig, second.mig, second.slices) == (True, False, ())


@pytest.mark.parametrize(
    ("lines", "kind", "reason", "remedy"),
    [
        (gpus.NOTHING, NoGpu, "shows no NVIDIA GPU", "accelerator=cpu"),
        (gpus.BARE_CARD, WithoutDriver, "has 1 NVIDIA GPU without", "then reboot"),
        (gpus.NOUVEAU, WithoutDriver, "and nouveau holds it", "then reboot"),
        (gpus.PASSED_ON, WithoutDriver, "2 NVIDIA GPUs", "deploy inside the one that has it"),
        (gpus.MISMATCH, DriverMismatch, "550.127.08, the library 550.144", "reboot"),
        (gpus.FOUR_GPUS_OLD_DRIVER, DriverTooOld, "is 570.133.20, and the image's", "whl/cu126"),
        (("card nvidia", *gpus.COULD_NOT_COMMUNICATE), Faulty, "does not run it", "modprobe"),
        (("card nouveau", *gpus.COULD_NOT_COMMUNICATE), Faulty, "nouveau holds", "reboot"),
        (gpus.COULD_NOT_COMMUNICATE, NoGpu, "no NVIDIA GPU", "accelerator=cpu"),
        (gpus.NO_DEVICES, Faulty, "finds no GPU that works", "dmesg"),
        (gpus.FALLEN, Faulty, "does not answer its driver; the kernel says: NVRM: Xid", "power"),
        (gpus.HUNG, Faulty, "nvidia-smi does not answer", "reboot"),
        (gpus.WITHOUT_TOOL, Faulty, "580.65.06 runs, but there is no nvidia-smi", "nvidia-smi"),
        (gpus.JETSON, Unfit, "Jetson AGX Orin", "torch_index="),
        (gpus.WSL_WITHOUT_DRIVER, NoGpu, "no NVIDIA GPU", "in Windows"),
        (gpus.MAXWELL, Unfit, "GTX 970 has compute capability 5.2", "whl/cu126"),
        (("status 2", "csv Invalid combination"), Faulty, "says: Invalid combination", "run it"),
    ],
)
def test_each_state_is_told_apart_with_its_next_step(
    lines: Sequence[str], kind: type, reason: str, remedy: str
) -> None:
    state = judged(lines)
    assert isinstance(state, kind)
    assert not isinstance(state, Usable)
    assert reason in state.reason
    assert remedy in state.remedy


@pytest.mark.parametrize("name", [row.name for row in DISTRIBUTIONS])
@pytest.mark.parametrize("lines", [gpus.BARE_CARD, gpus.FOUR_GPUS_OLD_DRIVER])
def test_the_command_for_a_driver_is_that_of_the_distribution(
    lines: Sequence[str], name: str
) -> None:
    state = judged(lines, name)
    assert not isinstance(state, Usable)
    assert row(name).driver_install in state.remedy


def test_an_older_driver_is_enough_for_an_older_cuda() -> None:
    assert isinstance(judged(gpus.FOUR_GPUS_OLD_DRIVER, cuda="12.6"), Usable)
    assert isinstance(judged(gpus.MAXWELL, cuda="12.6"), Usable)


def test_a_driver_too_old_for_every_index_is_not_sent_to_one() -> None:
    state = judged(("kernel 470.256.02", "status 2", "csv Field is not valid"))
    assert isinstance(state, DriverTooOld)
    assert "torch_index" not in state.remedy


@pytest.mark.parametrize(
    ("index", "cuda"),
    [
        ("auto", "13.0"),
        ("none", "13.0"),
        ("https://download.pytorch.org/whl/cu126", "12.6"),
        ("https://mirror.example/cu130/", "13.0"),
        ("https://download.pytorch.org/whl/cpu", None),
        ("https://mirror.example/simple", "13.0"),
    ],
)
def test_the_cuda_of_the_image_follows_from_the_index(index: str, cuda: str | None) -> None:
    assert image_cuda(index) == cuda


def test_the_cuda_of_the_image_is_that_of_the_torch_that_it_installs() -> None:
    requirements = (PROJECT / "service/csm/requirements.txt").read_text(encoding="utf-8")
    pinned = re.search(r"^torch==(\S+)$", requirements, re.MULTILINE)
    assert pinned
    assert pinned[1] == TORCH_CUDA[0]
    if torch.version.cuda is not None:
        assert (torch.__version__.partition("+")[0], torch.version.cuda) == TORCH_CUDA


@pytest.mark.parametrize(
    ("lines", "wanted", "chosen"),
    [
        (gpus.H100, "auto", (gpus.H100_UUID,)),
        (gpus.H100, ("0",), (gpus.H100_UUID,)),
        (gpus.A100_WITH_MIG, "auto", gpus.MIG_UUIDS[:1]),
        (gpus.A100_WITH_MIG, "all", (*gpus.MIG_UUIDS, *gpus.A100_UUIDS[1:])),
        (gpus.A100_WITH_MIG, ("2", gpus.A100_UUIDS[1]), gpus.A100_UUIDS[:0:-1]),
        (gpus.A100_WITH_MIG, (gpus.MIG_UUIDS[1],), gpus.MIG_UUIDS[1:]),
    ],
)
def test_gpus_are_given_by_identifiers_that_outlive_a_reboot(
    lines: Sequence[str], wanted: str | tuple[str, ...], chosen: tuple[str, ...]
) -> None:
    assert choose_gpus(wanted, usable(lines).gpus) == chosen


@pytest.mark.parametrize(
    ("wanted", "reason", "remedy"),
    [
        (("3",), "3 is not on the host", f"1 (NVIDIA A100-SXM4-80GB, {gpus.A100_UUIDS[1]})"),
        ((gpus.H100_UUID,), f"{gpus.H100_UUID} is not on the host", gpus.MIG_UUIDS[0]),
        (("MIG-0",), "MIG-0 is not on the host", "1g.20gb of NVIDIA A100"),
        (("0",), "0 is cut up with MIG", gpus.MIG_UUIDS[1]),
        ((gpus.MIG_UUIDS[0], "0"), "0 is cut up with MIG", "give instances of it"),
        (("1", gpus.A100_UUIDS[1]), f"{gpus.A100_UUIDS[1]} and 1 are the same", "once"),
    ],
)
def test_gpus_that_cannot_be_given_are_refused_with_what_is_there(
    wanted: tuple[str, ...], reason: str, remedy: str
) -> None:
    refusal = choose_gpus(wanted, usable(gpus.A100_WITH_MIG).gpus)
    assert isinstance(refusal, Refusal)
    assert reason in refusal.reason
    assert remedy in refusal.remedy


def test_a_gpu_that_was_to_be_cut_up_and_was_not_is_refused() -> None:
    uncut = tuple(line.replace("Disabled", "Enabled") for line in gpus.H100)
    refusal = choose_gpus("auto", usable(uncut).gpus)
    assert isinstance(refusal, Refusal)
    assert "nvidia-smi mig -cgi" in refusal.remedy


OFFER = {"versions": ["1.20.0-1", "1.9.0-1", "1.19.0-1"], "error": None}


@pytest.mark.parametrize(
    ("wanted", "answers", "ours", "offer", "source"),
    [
        ("auto", False, False, OFFER, "repository"),
        ("auto", True, True, OFFER, "repository"),
        ("auto", True, True, None, "repository"),
        ("auto", True, False, None, "present"),
        ("present", True, True, None, "present"),
    ],
)
def test_a_toolkit_that_somebody_else_installed_is_left_alone(
    wanted: str, answers: bool, ours: bool, offer: dict[str, object] | None, source: str
) -> None:
    chosen = choose_toolkit(wanted, "1.19.0-1", answers=answers, ours=ours, offer=offer)
    assert chosen == source


@pytest.mark.parametrize(
    ("wanted", "offer", "reason", "remedy"),
    [
        ("present", None, "nvidia-ctk does not answer", "nvidia_toolkit=auto"),
        ("auto", OFFER, "=1.18.9-1 is not in", "is there: 1.20.0-1, 1.19.0-1, 1.9.0-1"),
        ("auto", {"versions": [], "error": "no route"}, "no route", "nvidia_repository"),
    ],
)
def test_a_toolkit_that_cannot_be_had_is_refused(
    wanted: str, offer: dict[str, object] | None, reason: str, remedy: str
) -> None:
    refusal = choose_toolkit(wanted, "1.18.9-1", answers=False, ours=False, offer=offer)
    assert isinstance(refusal, Refusal)
    assert reason in refusal.reason
    assert remedy in refusal.remedy


def test_the_four_packages_count_only_in_one_version() -> None:
    there = {name: {"1.19.0-1"} for name in TOOLKIT_PACKAGES}
    assert has_toolkit_version(there, "1.19.0-1")
    assert not has_toolkit_version(there | {TOOLKIT_PACKAGES[3]: {"1.20.0-1"}}, "1.19.0-1")


def test_apt_is_told_of_the_repository_its_key_and_the_version() -> None:
    assert "URIs: http://mirror.example/nvidia/stable/deb/arm64/\nSuites: /\n" in toolkit_sources(
        "http://mirror.example/nvidia/", "arm64"
    )
    assert "Pin: version 1.19.0-1\nPin-Priority: 1001\n" in toolkit_preferences("1.19.0-1")


@pytest.mark.parametrize(
    ("live_restore", "others", "refused"),
    [(False, 3, True), (True, 3, False), (False, 0, False)],
)
def test_others_containers_are_never_stopped_for_the_gpu(
    live_restore: bool, others: int, refused: bool
) -> None:
    refusal = refuse_restart({"known": False, "live_restore": live_restore, "others": others})
    assert (refusal is not None) is refused
    assert refusal is None or "3 other containers" in refusal.reason
