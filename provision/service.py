"""Stage 6: the rendered files in place and the service running."""

from pyinfra.api import deploy

from provision import operations
from provision._plan import HostPlan
from provision._release import render_release, voices_home


@deploy("Start the service")
def start_service(plan: HostPlan) -> None:
    """Render the release, let the new image judge its settings, switch over, wait until healthy."""
    release = render_release(plan.settings, plan.image, plan.engine, plan.voices)
    if plan.voices is not None:
        operations.place_voices(
            name="Place the personas", voices=plan.voices, folder=voices_home(plan.voices)
        )
    operations.install_release(name="Render the release", release=release)
    if plan.settings.enabled:
        operations.start_release(
            name="Start the release",
            release=release,
            timeout_seconds=plan.settings.start_timeout_seconds,
        )
        if plan.toolkit is not None:
            operations.restore_gpu(
                name="Look after the container's GPU",
                timeout_seconds=plan.settings.start_timeout_seconds,
            )
    else:
        operations.stop_service(name="Stop the voice")
    operations.prune_voices(
        name="Remove the personas of earlier deploys",
        kept=plan.voices.digest if plan.voices else None,
    )
