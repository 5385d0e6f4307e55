"""Which GPU a host can give the model, told from what the host shows; else why not, and what to do.

Pure functions. Knows nothing of pyinfra, and never installs a driver.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from provision._distribution import Distribution
from provision._docker import Refusal

Accelerator = Literal["nvidia", "cpu"]

DEVICES: dict[Accelerator, str] = {"nvidia": "cuda", "cpu": "cpu"}
"""What the service calls each (``SESAME_DEVICE``)."""

TORCH_CUDA = ("2.11.0", "13.0")
"""The torch of ``service/csm/requirements.txt``, and the CUDA of its wheel on the default index."""

OLDEST_DRIVER = {13: 580, 12: 525, 11: 450}
"""Branch of the driver that a CUDA release needs at the least, by major version: NVIDIA's table of
minor version compatibility, docs.nvidia.com/deploy/cuda-compatibility."""

OLDEST_CAPABILITY = {13: (7, 5), 12: (5, 0), 11: (3, 5)}
"""Compute capability that torch's wheels for a CUDA release are built for at the least; for 13 as
the wheel itself lists it (``sm_75`` and later)."""

OLDER_CUDA_INDEX = "https://download.pytorch.org/whl/cu126"
"""PyTorch's own index of wheels with CUDA 12.6, for older drivers and older GPUs."""

HUNG = 124
ABSENT = "missing"
"""``nvidia-smi`` as the fact ``Nvidia`` tells it: the exit status of ``timeout``, or no such."""


@dataclass(frozen=True, slots=True)
class Slice:
    """An instance of a GPU that is cut up with MIG."""

    uuid: str
    profile: str


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as the driver shows it.

    ``memory_mib`` is None where the driver does not tell. ``slices`` is empty unless ``mig`` is on,
    and may be even then.
    """

    index: int
    uuid: str
    name: str
    memory_mib: int | None
    capability: tuple[int, int] | None
    mig: bool = False
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True, slots=True)
class Usable:
    """A driver that answers, and is new enough for the image's CUDA, with its GPUs.

    ``cuda`` is the newest CUDA that the driver supports, where it tells.
    """

    gpus: tuple[Gpu, ...]
    driver: str
    cuda: str | None


@dataclass(frozen=True, slots=True)
class NoGpu:
    """No card of NVIDIA's on the bus."""

    remedy: str

    @property
    def reason(self) -> str:
        """What was found."""
        return "the host shows no NVIDIA GPU"


@dataclass(frozen=True, slots=True)
class WithoutDriver:
    """Cards on the bus that NVIDIA's driver does not run.

    ``held_by`` names the driver that holds them instead, such as ``nouveau``.
    """

    cards: int
    held_by: str | None
    remedy: str

    @property
    def reason(self) -> str:
        """What was found."""
        cards = "1 NVIDIA GPU" if self.cards == 1 else f"{self.cards} NVIDIA GPUs"
        held = f", and {self.held_by} holds it" if self.held_by else ""
        return f"the host has {cards} without NVIDIA's driver{held}"


@dataclass(frozen=True, slots=True)
class DriverMismatch:
    """The running driver and its library have different versions, as after an upgrade."""

    kernel: str | None
    library: str | None
    remedy: str

    @property
    def reason(self) -> str:
        """What was found."""
        return (
            f"NVIDIA's driver and its library differ: the running driver is "
            f"{self.kernel or 'not told'}, the library {self.library or 'not told'}"
        )


@dataclass(frozen=True, slots=True)
class DriverTooOld:
    """A driver that works, and is older than the image's CUDA needs."""

    driver: str
    cuda: str
    needed: int
    remedy: str

    @property
    def reason(self) -> str:
        """What was found."""
        return (
            f"NVIDIA's driver is {self.driver}, and the image's CUDA {self.cuda} needs "
            f"{self.needed} or later"
        )


@dataclass(frozen=True, slots=True)
class Unfit:
    """A GPU, or a platform, that the image has no code for."""

    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Faulty:
    """A driver that is there and shows no GPU that works."""

    reason: str
    remedy: str


Unusable = NoGpu | WithoutDriver | DriverMismatch | DriverTooOld | Unfit | Faulty
GpuState = Usable | Unusable


def image_cuda(torch_index: str) -> str | None:
    """Return the CUDA release of the image's torch, told by the setting ``torch_index``.

    PyTorch's own indexes end in it (``cu126``); None where the index has none.
    """
    last = torch_index.rstrip("/").rpartition("/")[2]
    if last == "cpu":
        return None
    release = re.fullmatch(r"cu(\d+)(\d)", last)
    return f"{release[1]}.{release[2]}" if release else TORCH_CUDA[1]


def judge_gpu(sight: dict[str, Any], distribution: Distribution, cuda: str) -> GpuState:
    """Tell in which state a host's GPU is.

    Args:
        sight: what the host shows, as the fact ``Nvidia`` tells it.
        distribution: whose commands the next step names.
        cuda: CUDA release of the image.
    """
    return (
        _without_tool(sight, distribution)
        or _platform(sight)
        or _mismatch(sight)
        or _too_old(sight, distribution, cuda)
        or _words(sight, distribution)
        or _answer(sight, cuda)
    )


def _without_tool(sight: dict[str, Any], distribution: Distribution) -> Unusable | None:
    """Judge a host on which there is no ``nvidia-smi``."""
    if sight["status"] != ABSENT:
        return None
    if sight["wsl"]:
        return NoGpu("install NVIDIA's driver in Windows, never in WSL, then: wsl --shutdown")
    if sight["jetson"]:
        return _jetson(sight["jetson"])
    if sight["kernel"]:
        return Faulty(
            f"NVIDIA's driver {sight['kernel']} runs, but there is no nvidia-smi",
            distribution.driver_tool.format(branch=_major(sight["kernel"])),
        )
    return _judge_cards(sight, distribution)


def _judge_cards(sight: dict[str, Any], distribution: Distribution) -> Unusable:
    cards = sight["cards"]
    if not cards:
        return NoGpu("use a host with one, or give accelerator=cpu")
    held_by = _holder(cards)
    if held_by == "vfio-pci":
        remedy = "vfio-pci keeps it for virtual machines: deploy inside the one that has it"
    else:
        remedy = f"{distribution.driver_install}, then reboot"
    return WithoutDriver(len(cards), held_by, remedy)


def _holder(cards: Sequence[str]) -> str | None:
    """Return which driver but NVIDIA's holds a card, if one does."""
    return next((card for card in cards if card not in {"", "nvidia"}), None)


def _jetson(model: str) -> Unfit:
    return Unfit(
        f"{model} is a Jetson, and the image's torch has no code for its GPU",
        "give accelerator=cpu, or torch_index=ADDRESS of an index with torch for it",
    )


def _platform(sight: dict[str, Any]) -> Unfit | None:
    if any("(nvgpu)" in line for line in sight["csv"]):
        return _jetson(sight["jetson"] or "the host")
    return None


def _mismatch(sight: dict[str, Any]) -> DriverMismatch | None:
    """Judge before the driver's age: the one that was installed runs after the next start."""
    said = "\n".join(sight["csv"])
    if "version mismatch" not in said:
        return None
    library = re.search(r"NVML library version: ([\d.]+)", said)
    return DriverMismatch(
        sight["kernel"], library[1] if library else None, "reboot the host, then deploy again"
    )


def _too_old(sight: dict[str, Any], distribution: Distribution, cuda: str) -> Unusable | None:
    driver = sight["kernel"] or _driver_of(sight["csv"])
    needed = OLDEST_DRIVER.get(_major(cuda))
    if driver is None or needed is None or _major(driver) >= needed:
        return None
    older = f", or give torch_index={OLDER_CUDA_INDEX}"
    fits = _major(driver) >= OLDEST_DRIVER[12]
    remedy = "update NVIDIA's driver in Windows" if sight["wsl"] else distribution.driver_install
    return DriverTooOld(driver, cuda, needed, f"{remedy}, then reboot{older if fits else ''}")


SILENT = "couldn't communicate with the NVIDIA driver"

WORDS = (
    (
        SILENT,
        "NVIDIA's driver is installed, and the kernel does not run it",
        "modprobe nvidia says why: no module for this kernel, or Secure Boot (mokutil --sb-state)",
    ),
    (
        "No devices were found",
        "NVIDIA's driver runs and finds no GPU that works",
        "dmesg | grep -i nvrm says why: a module not made for this GPU, or power that is missing",
    ),
    (
        "Unable to determine the device handle",
        "a GPU does not answer its driver",
        "power the host off and on; when it comes back, look at its power and its slot",
    ),
    (
        "is lost",
        "a GPU has fallen off the bus",
        "power the host off and on; when it comes back, look at its power and its slot",
    ),
)
"""What ``nvidia-smi`` says, what it means and the next step."""


def _words(sight: dict[str, Any], distribution: Distribution) -> Unusable | None:
    """Judge what ``nvidia-smi`` says in words."""
    if sight["status"] == str(HUNG):
        return Faulty(
            f"nvidia-smi does not answer{_last_word(sight)}",
            "reboot the host: its driver hangs; dmesg | grep -i xid says on what",
        )
    said = "\n".join(sight["csv"])
    for words, reason, remedy in WORDS:
        if words in said:
            if words == SILENT and not sight["wsl"] and not sight["cards"]:
                return _judge_cards(sight, distribution)
            if words == SILENT and (held_by := _holder(sight["cards"])):
                return Faulty(f"{reason}, as {held_by} holds the GPU", "reboot the host")
            return Faulty(f"{reason}{_last_word(sight)}", remedy)
    return None


def _last_word(sight: dict[str, Any]) -> str:
    return f"; the kernel says: {sight['xid']}" if sight["xid"] else ""


def _answer(sight: dict[str, Any], cuda: str) -> GpuState:
    """Judge the table that ``nvidia-smi`` printed."""
    gpus = parse_gpus(sight["csv"], sight["list"])
    driver = _driver_of(sight["csv"])
    if not gpus or driver is None:
        said = next(iter(sight["csv"]), "nothing")
        return Faulty(
            f"nvidia-smi ends with {sight['status']} and says: {said}",
            "run it on the host and mend what it says",
        )
    oldest = OLDEST_CAPABILITY.get(_major(cuda), (0, 0))
    able = tuple(gpu for gpu in gpus if gpu.capability is None or gpu.capability >= oldest)
    if not able:
        best = max(gpus, key=lambda gpu: gpu.capability or (0, 0))
        return Unfit(
            f"{best.name} has compute capability {_dotted(best.capability)}, and the image's CUDA "
            f"{cuda} begins at {_dotted(oldest)}",
            f"give torch_index={OLDER_CUDA_INDEX}, or accelerator=cpu",
        )
    return Usable(able, driver, sight["cuda"])


def _dotted(capability: tuple[int, int] | None) -> str:
    return ".".join(str(part) for part in capability) if capability else "not told"


def _major(version: str) -> int:
    return int(version.partition(".")[0])


ROW = re.compile(
    r"(?P<index>\d+), (?P<uuid>GPU-[0-9a-fA-F-]+), (?P<name>.+), (?P<memory>[^,]+), "
    r"(?P<driver>\d+\.[\d.]+), (?P<capability>[^,]+), (?P<mig>[^,]+)"
)
"""A line of ``nvidia-smi --query-gpu``, with the fields that the fact ``Nvidia`` asks for."""

MIG_ROW = re.compile(r"MIG (?P<profile>\S+)\s+Device\s+\d+: \(UUID: (?P<uuid>MIG-[^)]+)\)")
GPU_ROW = re.compile(r"GPU \d+: .*\(UUID: (?P<uuid>GPU-[^)]+)\)")


def _driver_of(csv: Sequence[str]) -> str | None:
    return next((row["driver"] for line in csv if (row := ROW.fullmatch(line))), None)


def parse_gpus(csv: Sequence[str], listed: Sequence[str]) -> tuple[Gpu, ...]:
    """Return the GPUs of ``nvidia-smi --query-gpu``, with the MIG instances of ``nvidia-smi -L``.

    Args:
        csv: lines of index, UUID, name, memory in MiB, driver, compute capability and MIG mode.
        listed: lines of GPUs, each followed by its instances.
    """
    slices = _slices(listed)
    return tuple(
        Gpu(
            index=int(row["index"]),
            uuid=row["uuid"],
            name=row["name"],
            memory_mib=int(row["memory"]) if row["memory"].isdigit() else None,
            capability=_capability(row["capability"]),
            mig=row["mig"] == "Enabled",
            slices=tuple(slices.get(row["uuid"], ())),
        )
        for line in csv
        if (row := ROW.fullmatch(line))
    )


def _capability(told: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else None


def _slices(listed: Sequence[str]) -> dict[str, list[Slice]]:
    slices: dict[str, list[Slice]] = {}
    card = ""
    for line in listed:
        if gpu := GPU_ROW.search(line):
            card = gpu["uuid"]
        elif instance := MIG_ROW.search(line):
            slices.setdefault(card, []).append(Slice(instance["uuid"], instance["profile"]))
    return slices


def choose_gpus(wanted: str | Sequence[str], gpus: Sequence[Gpu]) -> tuple[str, ...] | Refusal:
    """Return the identifiers of what the container is given, or say why it cannot be.

    Always UUIDs: an index may mean another card after the next reboot, an UUID never does.

    Args:
        wanted: the setting ``gpu_devices``: ``auto``, ``all``, or indexes and UUIDs.
        gpus: what the driver shows.
    """
    whole = [uuid for gpu in gpus for uuid in _offers(gpu)]
    if not whole:
        return Refusal(
            "MIG is on, and no GPU has an instance",
            "nvidia-smi mig -cgi PROFILE -C makes one, nvidia-smi -mig 0 turns MIG off",
        )
    if wanted == "auto":
        return (whole[0],)
    if wanted == "all":
        return tuple(whole)
    return _resolve(wanted, gpus)


def _offers(gpu: Gpu) -> list[str]:
    """Return what can be given of a GPU: itself, or its instances when it is cut up."""
    return [instance.uuid for instance in gpu.slices] if gpu.mig else [gpu.uuid]


def _resolve(wanted: Sequence[str], gpus: Sequence[Gpu]) -> tuple[str, ...] | Refusal:
    chosen: list[str] = []
    cards: dict[str, str] = {}
    for name in wanted:
        gpu = _find(name, gpus)
        if gpu is None:
            return Refusal(
                f"gpu_devices: {name} is not on the host",
                f"give some of what is there: {describe_gpus(gpus)}",
            )
        if gpu.mig and not name.startswith("MIG-"):
            return Refusal(
                f"gpu_devices: {name} is cut up with MIG and cannot be given whole",
                f"give instances of it: {describe_gpus([gpu])}",
            )
        uuid = name if name.startswith("MIG-") else gpu.uuid
        if uuid in cards:
            return Refusal(
                f"gpu_devices: {name} and {cards[uuid]} are the same", "name each GPU once"
            )
        cards[uuid] = name
        chosen.append(uuid)
    return tuple(chosen)


def _find(name: str, gpus: Sequence[Gpu]) -> Gpu | None:
    for gpu in gpus:
        if name in {str(gpu.index), gpu.uuid} or name in {one.uuid for one in gpu.slices}:
            return gpu
    return None


def describe_gpus(gpus: Sequence[Gpu]) -> str:
    """Return what is there, in a line: index, name and identifiers."""
    told = []
    for gpu in gpus:
        parts = [f"{gpu.index} ({gpu.name}, {gpu.uuid})"] if not gpu.mig else []
        parts += [f"{one.uuid} ({one.profile} of {gpu.name})" for one in gpu.slices]
        told += parts or [f"nothing of {gpu.index} ({gpu.name}): MIG is on, without instances"]
    return ", ".join(told)
