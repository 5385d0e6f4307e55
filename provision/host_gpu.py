"""Stage 1's look at the GPU: can the model run on it, and what does Docker lack to give it away?"""

from dataclasses import dataclass

from pyinfra import host
from pyinfra.facts.deb import DebPackages

from provision import facts
from provision._distribution import Distribution
from provision._docker import Refusal
from provision._gpu import (
    OLDER_CUDA_INDEX,
    NoGpu,
    Usable,
    choose_gpus,
    image_cuda,
    judge_gpu,
)
from provision._toolkit import (
    PREFERENCES_FILE,
    TOOLKIT_PACKAGES,
    Toolkit,
    choose_toolkit,
    has_toolkit_version,
    package_list,
    refuse_restart,
)
from provision.settings import DeploySettings


@dataclass(frozen=True, slots=True)
class GpuPlan:
    """Which GPUs, or instances of them, the container is given, and the toolkit that gives them."""

    gpus: tuple[str, ...]
    toolkit: Toolkit


def survey_gpu(
    settings: DeploySettings, distribution: Distribution, architecture: str
) -> GpuPlan | Refusal | None:
    """Settle how the model comes to the host's GPU; None: it runs on the processor.

    With ``accelerator=auto`` a GPU that cannot be used is told of in a line, with ``nvidia`` it is
    refused.
    """
    if settings.accelerator == "cpu":
        return None
    plan = _settle(settings, distribution, architecture)
    if isinstance(plan, GpuPlan):
        return plan
    if settings.accelerator == "nvidia":
        return Refusal(
            f"accelerator=nvidia: {plan.reason}", f"{plan.remedy}; or give accelerator=auto"
        )
    if isinstance(plan, NoGpu):
        host.log(f"{plan.reason}: the model runs on the processor")
    else:
        host.log(f"{plan.reason}: the model runs on the processor. For the GPU: {plan.remedy}")
    return None


def _settle(
    settings: DeploySettings, distribution: Distribution, architecture: str
) -> GpuPlan | Refusal | NoGpu:
    cuda = image_cuda(settings.torch_index)
    if cuda is None:
        return Refusal(
            f"torch_index={settings.torch_index} has torch without CUDA",
            f"give torch_index=auto, or {OLDER_CUDA_INDEX}",
        )
    sight = host.get_fact(facts.Nvidia)
    state = judge_gpu(sight, distribution, cuda)
    if isinstance(state, NoGpu):
        return state
    if not isinstance(state, Usable):
        return Refusal(state.reason, state.remedy)
    gpus = choose_gpus(settings.gpu_devices, state.gpus)
    if isinstance(gpus, Refusal):
        return gpus
    toolkit = _settle_toolkit(settings, architecture, answers=sight["toolkit"] is not None)
    if isinstance(toolkit, Refusal):
        return toolkit
    hook = host.get_fact(facts.NvidiaHook)
    return (None if hook["known"] else refuse_restart(hook)) or GpuPlan(gpus, toolkit)


def _settle_toolkit(
    settings: DeploySettings, architecture: str, *, answers: bool
) -> Toolkit | Refusal:
    """Ask the repository only when something is to come from it."""
    version, repository = settings.nvidia_toolkit_version, settings.nvidia_repository
    ours = PREFERENCES_FILE in host.get_fact(facts.FileStates, paths=[PREFERENCES_FILE])
    settled = has_toolkit_version(host.get_fact(DebPackages), version)
    open_question = settings.nvidia_toolkit == "auto" and not settled and (ours or not answers)
    offer = None
    if open_question:
        offer = host.get_fact(
            facts.PackageVersions,
            url=package_list(repository, architecture),
            package=TOOLKIT_PACKAGES[0],
        )
    source = choose_toolkit(
        settings.nvidia_toolkit, version, answers=answers, ours=ours, offer=offer
    )
    if isinstance(source, Refusal):
        return source
    return Toolkit(source, version, repository, settings.nvidia_key)
