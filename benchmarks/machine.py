"""What a measurement was taken on: named in every results file, so that none is quoted bare."""

import os
import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["MEBIBYTE", "bandwidth", "describe", "held_memory", "synchronise"]

MEBIBYTE = 2**20
READ_BYTES = 2**29  # far beyond any cache
READS = 5


def describe(device: str) -> dict[str, Any]:
    """Name processor, memory, GPU and versions."""
    machine: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "gpu": None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    if device == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
        machine["gpu_memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30)
        machine["cuda"] = torch.version.cuda
    return machine


def bandwidth(device: str) -> float:
    """Measure how many bytes a second can be read: the best of a few sums over a large tensor."""
    block = torch.zeros(READ_BYTES // 4, device=device)
    return max(READ_BYTES / _seconds(block, device) for _ in range(READS))


def _seconds(block: Tensor, device: str) -> float:
    synchronise(device)
    started = time.perf_counter()
    block.sum()
    synchronise(device)
    return time.perf_counter() - started


def synchronise(device: str) -> None:
    """Wait until the device has done what it was asked for."""
    if device == "cuda":
        torch.cuda.synchronize()


def held_memory(device: str) -> float:
    """Give the memory that is held now, in MiB: the GPU's, or the process's own without files."""
    if device == "cuda":
        return torch.cuda.memory_allocated() / MEBIBYTE
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
