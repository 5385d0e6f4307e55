"""What the model runs on: the choice between the host's GPU and its processor.

Pure functions over what a host shows. Knows nothing of pyinfra.
"""

from collections.abc import Sequence
from typing import Literal

from provision._docker import Refusal

Accelerator = Literal["nvidia", "cpu"]

DEVICES: dict[Accelerator, str] = {"nvidia": "cuda", "cpu": "cpu"}
"""What the service calls each (``SESAME_DEVICE``)."""

ADD_RUNTIME = (
    "install nvidia-container-toolkit, run nvidia-ctk runtime configure --runtime=docker and "
    "restart Docker"
)


def choose_accelerator(wanted: str, gpus: Sequence[str], *, runtime: bool) -> Accelerator | Refusal:
    """Choose what the model runs on, or say why it cannot run where it is wanted.

    Args:
        wanted: the setting ``accelerator``.
        gpus: the GPUs that the driver shows; none where there is no driver that works.
        runtime: whether the Docker engine has NVIDIA's runtime.
    """
    if wanted == "cpu":
        return "cpu"
    if gpus and runtime:
        return "nvidia"
    if wanted == "auto":
        return "cpu"
    if not gpus:
        return Refusal(
            "accelerator=nvidia, but nvidia-smi shows no GPU on the host",
            "install the distribution's NVIDIA driver and start the host again, or give "
            "accelerator=auto",
        )
    return Refusal(
        "accelerator=nvidia, but the host's Docker engine has no NVIDIA runtime",
        f"{ADD_RUNTIME}, or give accelerator=auto",
    )


def unused_gpu(accelerator: Accelerator, wanted: str, gpus: Sequence[str]) -> str | None:
    """Return what to say of a GPU that the model could use and does not, or None."""
    if accelerator == "nvidia" or wanted == "cpu" or not gpus:
        return None
    return f"{gpus[0]} is left idle, as Docker has no NVIDIA runtime; to use it: {ADD_RUNTIME}"
