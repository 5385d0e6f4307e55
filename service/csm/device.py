"""Proves that a device computes: one matrix product, held against the processor's.

    python -m service.csm.device [--device auto|cuda|cpu]

Prints one line of JSON and ends with 0 when the product is right, with 1 when there is none. Knows
nothing of models or of the service; `nvidia-smi` may pass where this fails, never the other way.
"""

import argparse
import ctypes
import json
import platform
import sys
from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["DeviceError", "main", "prove"]

SIZE = 256
"""Rows and columns of the product: 0.5 MiB, so that a GPU that serves has room for it."""

TOLERANCE = 1e-3
"""Of float32 sums of 256 products, relative to their size: TF32 keeps 10 bits of each factor."""

CUDA_ERRORS = {
    2: "out of memory",
    3: "not initialised",
    100: "no device",
    101: "invalid device",
    802: "the system is not ready (NVSwitch needs nvidia-fabricmanager)",
    803: "the driver and its library differ",
    804: "forward compatibility is not supported on this GPU",
    999: "unknown error",
}
"""What the codes of `cuInit` mean (`CUresult`, CUDA driver API)."""

NVML_ERRORS = {
    9: "the driver is not loaded",
    15: "the GPU is lost",
    17: "the operating system does not let this container use the GPU",
    18: "the driver and its library differ",
    999: "unknown error: the container has lost its GPU, as after systemctl daemon-reload",
}
"""What the codes of `nvmlInit` mean (`nvmlReturn_t`, NVML API)."""

FIELDS = ("name", "driver", "cuda", "memory_mib", "compute_capability")
KERNEL_IMAGE = "no kernel image"
DRIVER_VERSION_LENGTH = 80


class DeviceError(Exception):
    """Why a device does not compute: a word for programs, and what was seen.

    The words: `no_cuda_build` `no_driver` `nvml_lost` `cuda_init_failed` `out_of_memory`
    `wrong_gpu` `wrong_result` `failed`.
    """

    def __init__(self, word: str, detail: str) -> None:
        super().__init__(detail)
        self.word = word


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m service.csm.device", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    wanted = parser.parse_args(arguments).device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        answer, status = prove(wanted), 0
    except DeviceError as error:
        answer = {"device": wanted, "proof": "failed", "error": error.word, "detail": str(error)}
        status = 1
    sys.stdout.write(json.dumps(answer) + "\n")
    return status


def prove(device: str) -> dict[str, Any]:
    """Compute on a device and describe it.

    Args:
        device: `cuda` (its first one), or `cpu`.

    Returns:
        `device, name, driver, cuda, memory_mib, compute_capability, proof`; what the processor does
        not have is None.

    Raises:
        DeviceError: it does not compute, or computes wrongly.
    """
    if device == "cpu":
        _multiply(torch.device("cpu"))
        return _describe("cpu", name=platform.processor() or platform.machine())
    driver = _ask_driver()
    try:
        _multiply(torch.device("cuda", 0))
        found = torch.cuda.get_device_properties(0)
    except torch.OutOfMemoryError as error:
        raise DeviceError("out_of_memory", _first_line(error)) from None
    except RuntimeError as error:
        raise _told(error) from None
    return _describe(
        "cuda:0",
        name=found.name,
        driver=driver,
        cuda=torch.version.cuda,
        memory_mib=found.total_memory // 2**20,
        compute_capability=f"{found.major}.{found.minor}",
    )


def _describe(device: str, **found: str | int | None) -> dict[str, Any]:
    unknown: dict[str, Any] = dict.fromkeys(FIELDS)
    return {"device": device, **unknown, **found, "proof": "ok"}


def _multiply(device: torch.device) -> None:
    """Multiply two matrices `[256, 256]` on a device and on the processor, and compare."""
    generator = torch.Generator().manual_seed(7)
    left, right = (torch.randn(SIZE, SIZE, generator=generator) for _ in range(2))
    expected = left.double() @ right.double()
    computed = (left.to(device) @ right.to(device)).cpu().double()
    error = float((computed - expected).abs().max() / expected.abs().max())
    if not error <= TOLERANCE:
        raise DeviceError("wrong_result", f"a product on {device} is off by {error:.2g}")


def _ask_driver() -> str | None:
    """Ask the driver's own libraries, which name a fault that torch only knows as unknown.

    Returns:
        The driver's version, where it tells.

    Raises:
        DeviceError: torch has no CUDA, or the driver gives none.
    """
    if torch.version.cuda is None:
        raise DeviceError("no_cuda_build", f"torch {torch.__version__} has no CUDA")
    version = _nvml_version()
    cuda = _library("libcuda.so.1")
    if code := cuda.cuInit(0):
        raise DeviceError("cuda_init_failed", f"cuInit: {code}, {_meaning(CUDA_ERRORS, code)}")
    return version


def _nvml_version() -> str | None:
    """Return the driver's version as NVML tells it, or None where it does not.

    Raises:
        DeviceError: NVML is lost.
    """
    nvml = _library("libnvidia-ml.so.1")
    if code := nvml.nvmlInit_v2():
        raise DeviceError("nvml_lost", f"NVML: {code}, {_meaning(NVML_ERRORS, code)}")
    version = ctypes.create_string_buffer(DRIVER_VERSION_LENGTH)
    failed = nvml.nvmlSystemGetDriverVersion(version, DRIVER_VERSION_LENGTH)
    nvml.nvmlShutdown()
    return None if failed else version.value.decode()


def _library(name: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError:
        raise DeviceError(
            "no_driver", f"{name} is not here: NVIDIA's toolkit gave this container no GPU"
        ) from None


def _meaning(errors: dict[int, str], code: int) -> str:
    return errors.get(code, "a code of no known meaning")


def _told(error: RuntimeError) -> DeviceError:
    """Return what torch's words mean."""
    word = "wrong_gpu" if KERNEL_IMAGE in str(error) else "failed"
    return DeviceError(word, _first_line(error))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


if __name__ == "__main__":
    raise SystemExit(main())
