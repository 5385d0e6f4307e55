"""Stage 5: the rendered files in place and the service running."""

from pyinfra.api import deploy

from provision import operations
from provision._release import render_release
from provision.host import HostPlan


@deploy("Start the service")
def start_service(plan: HostPlan) -> None:
    """Render the release, let the new image judge its settings, switch over, wait until healthy."""
    release = render_release(plan.settings, plan.image, plan.engine)
    operations.install_release(name="Render the release", release=release)
    if plan.settings.enabled:
        operations.start_release(
            name="Start the release",
            release=release,
            timeout_seconds=plan.settings.start_timeout_seconds,
        )
    else:
        operations.stop_service(name="Stop the voice")
