"""Whether a device computes, and what is said when it does not.

Where there is no GPU, the driver's libraries are stand-ins that answer with the real ones' codes.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from service.csm.device import CUDA_ERRORS, NVML_ERRORS, DeviceError, _meaning, _told, main, prove

COMPILER = shutil.which("cc")
NVML = """
#include <string.h>
int nvmlInit_v2(void) {{ return {nvml}; }}
int nvmlShutdown(void) {{ return 0; }}
int nvmlSystemGetDriverVersion(char *version, unsigned length) {{
    strncpy(version, "580.65.06", length);
    return 0;
}}
"""
CUDA = "int cuInit(unsigned flags) {{ (void)flags; return {cuda}; }}"


def library(folder: Path, name: str, source: str) -> None:
    """Compile a stand-in for one of the driver's libraries."""
    assert COMPILER is not None
    subprocess.run(
        [COMPILER, "-shared", "-fPIC", "-x", "c", "-o", str(folder / name), "-"],
        input=source,
        text=True,
        check=True,
    )


def ask(libraries: Path) -> tuple[int, dict[str, Any]]:
    """Run the program as a deploy does, and return its exit status and its answer."""
    finished = subprocess.run(
        [sys.executable, "-m", "service.csm.device", "--device", "cuda"],
        env=dict(os.environ, LD_LIBRARY_PATH=str(libraries)),
        capture_output=True,
        text=True,
        check=False,
    )
    answer: dict[str, Any] = json.loads(finished.stdout)
    return finished.returncode, answer


def test_a_processor_that_computes_is_proven(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--device", "cpu"])
    answer = json.loads(capsys.readouterr().out)
    assert status == 0
    assert (answer["device"], answer["proof"]) == ("cpu", "ok")
    assert set(answer) == {
        *("device", "name", "driver", "cuda", "memory_mib", "compute_capability", "proof")
    }


def test_a_product_that_is_wrong_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    product = torch.Tensor.__matmul__

    def off(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return product(left, right) * (1.01 if left.dtype == torch.float32 else 1)

    monkeypatch.setattr(torch.Tensor, "__matmul__", off)
    with pytest.raises(DeviceError, match="a product on cpu is off by") as wrong:
        prove("cpu")
    assert wrong.value.word == "wrong_result"


def test_torch_without_cuda_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceError, match="has no CUDA") as without:
        prove("cuda")
    assert without.value.word == "no_cuda_build"


needs_cuda_build = pytest.mark.skipif(torch.version.cuda is None, reason="torch has no CUDA here")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@needs_cuda_build
@without_gpu
def test_a_container_that_was_given_no_gpu_is_told_apart() -> None:
    with pytest.raises(DeviceError, match="gave this container no GPU") as without:
        prove("cuda")
    assert without.value.word == "no_driver"


@needs_cuda_build
@without_gpu
@pytest.mark.skipif(COMPILER is None, reason="no C compiler makes the stand-ins")
@pytest.mark.parametrize(
    ("nvml", "cuda", "word", "detail"),
    [
        (999, 0, "nvml_lost", "NVML: 999, unknown error: the container has lost its GPU"),
        (0, 999, "cuda_init_failed", "cuInit: 999, unknown error"),
    ],
)
def test_the_drivers_own_codes_are_told_apart(
    nvml: int, cuda: int, word: str, detail: str, tmp_path: Path
) -> None:
    library(tmp_path, "libnvidia-ml.so.1", NVML.format(nvml=nvml))
    library(tmp_path, "libcuda.so.1", CUDA.format(cuda=cuda))
    status, answer = ask(tmp_path)
    assert status == 1
    assert (answer["proof"], answer["error"]) == ("failed", word)
    assert detail in answer["detail"]


@pytest.mark.parametrize(
    ("errors", "code", "meaning"),
    [
        (NVML_ERRORS, 18, "the driver and its library differ"),
        (CUDA_ERRORS, 802, "nvidia-fabricmanager"),
        (CUDA_ERRORS, 31, "a code of no known meaning"),
    ],
)
def test_a_code_is_told_with_its_meaning(errors: dict[int, str], code: int, meaning: str) -> None:
    assert meaning in _meaning(errors, code)


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ("CUDA error: no kernel image is available for execution on the device\n…", "wrong_gpu"),
        ("CUDA error: an illegal memory access was encountered", "failed"),
    ],
)
def test_torchs_own_words_are_told_apart(said: str, word: str) -> None:
    told = _told(RuntimeError(said))
    assert (told.word, str(told)) == (word, said.partition("\n")[0])
