"""Stage 7: does the voice speak? The check program asks on the host; its report ends the deploy."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyinfra import host, logger, state
from pyinfra.api import FunctionCommand, Host, State, deploy, operation

from provision import facts
from provision._model import CsmEngine
from provision._plan import HostPlan
from provision._release import CONTAINER, Release, render_release
from provision._report import (
    device_failure_lines,
    draw_report,
    draw_stopped,
    failure_lines,
    warning_lines,
)
from provision.operations import Commands
from provision.settings import DeploySettings


@deploy("Verify the voice")
def verify_service(plan: HostPlan) -> None:
    """Verify that the host speaks, or that it is silent where silence was asked for."""
    if plan.settings.enabled:
        release = render_release(plan.settings, plan.image, plan.engine, plan.voices)
        verify_voice(
            name="Verify the voice", settings=plan.settings, release=release, engine=plan.engine
        )
    else:
        verify_silence(name="Verify that the voice is stopped")


@operation()
def verify_voice(settings: DeploySettings, release: Release, engine: CsmEngine | None) -> Commands:
    """Run the check program on the host; all met is no change, anything else fails the host.

    A fallback that was asked for and cannot work is only told of with ``fallback_failure=warn``.

    + settings: what the host is to be
    + release: what should be running
    + engine: the model that should speak, if there is one
    """
    report = host.get_fact(
        facts.VoiceReport, image=release.image, url=settings.local_url, key_file=release.key_file
    )
    lines = failure_lines(settings, report or {"error": "there is no Docker on the host"})
    proof = _prove_gpu(engine) if report is not None else {}
    lines += device_failure_lines(proof)
    if report is not None and not lines:
        _print([*draw_report(settings, report, engine, proof), *warning_lines(settings, report)])
        host.noop("every check is met")
        return
    yield FunctionCommand(_refuse, (lines,), {})


def _prove_gpu(engine: CsmEngine | None) -> Mapping[str, Any]:
    """Return what a tensor operation inside the running container proves; nothing without a GPU."""
    if engine is None or engine.accelerator != "nvidia":
        return {}
    return host.get_fact(facts.DeviceProof, container=CONTAINER) or facts.NO_PROOF


@operation()
def verify_silence() -> Commands:
    """Check that the container does not run."""
    container = host.get_fact(facts.Container, container=CONTAINER)
    if container is None or container["status"] != "running":
        _print(draw_stopped())
        host.noop("the voice is stopped")
        return
    yield FunctionCommand(_refuse, ([f"{CONTAINER} still runs: docker stop {CONTAINER}"],), {})


def _print(lines: Sequence[str]) -> None:
    """Show the table once: while the deploy runs, not while its changes are being foreseen."""
    if state.is_executing:
        for line in lines:
            host.log(line)


def _refuse(state: State, host: Host, lines: Sequence[str]) -> bool:  # noqa: ARG001 (pyinfra looks for both names)
    """Fail the host with what the checks saw; pyinfra takes False for a failed command."""
    host.log_styled("The voice does not pass its checks:", fg="red", log_func=logger.error)
    for line in lines:
        host.log(line, log_func=logger.error)
    return False
