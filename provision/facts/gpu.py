"""Which GPUs a host has, and what can use them."""

from typing import Any

from pyinfra.api import FactBase


class Nvidia(FactBase[dict[str, Any]]):
    """Returns the GPUs that NVIDIA's driver shows, and whether the Docker engine has its runtime.

    A driver that does not fit its library shows none.

    .. code:: python

        {"gpus": ["NVIDIA H100 80GB HBM3, driver 580.65.06"], "runtime": True}
    """

    def command(self) -> str:
        return (
            "timeout 30 nvidia-smi --query-gpu=name,driver_version --format=csv,noheader "
            "2>/dev/null | sed -n 's/^\\(.*\\), \\([0-9.]*\\)$/gpu \\1, driver \\2/p'; "
            "timeout 10 docker info --format '{{json .Runtimes}}' 2>/dev/null "
            "| grep -q '\"nvidia\"' && echo runtime; true"
        )

    @staticmethod
    def default() -> dict[str, Any]:
        return {"gpus": [], "runtime": False}

    def process(self, output: list[str]) -> dict[str, Any]:
        lines = [line.strip() for line in output]
        gpus = [line.removeprefix("gpu ") for line in lines if line.startswith("gpu ")]
        return {"gpus": gpus, "runtime": "runtime" in lines}
