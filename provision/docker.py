"""Stage 2: a Docker engine that answers, with Compose v2 and BuildKit."""

from pyinfra.api import deploy

from provision import operations
from provision._docker import (
    DOCKER_KEY_FINGERPRINT,
    DOCKER_PACKAGES,
    DOCKER_REPOSITORY,
    docker_sources,
    plugin_preferences,
    plugin_sources,
)
from provision._plan import HostPlan
from provision._release import ReleaseFile

KEY_FILE = "/etc/apt/keyrings/docker.asc"


@deploy("Install Docker")
def install_docker(plan: HostPlan) -> None:
    """Bring Docker to the host from the source that its plan names; leave a present one alone."""
    if plan.docker_source == "docker":
        _prepare_docker_repository(plan)
        _install(plan, DOCKER_PACKAGES)
    elif plan.docker_source == "distribution":
        _prepare_plugin_release(plan)
        _install(plan, plan.distribution.engine_packages + plan.distribution.plugin_packages)
    operations.ensure_docker_answers(name="Start the Docker daemon", systemd=plan.systemd)


def _prepare_docker_repository(plan: HostPlan) -> None:
    identity = plan.distribution.identity
    operations.ensure_packages(
        name="Install what Docker's repository needs", packages=("ca-certificates", "curl", "gpg")
    )
    operations.ensure_signing_key(
        name="Pin the key of Docker's repository",
        url=f"{DOCKER_REPOSITORY}/{identity}/gpg",
        path=KEY_FILE,
        fingerprint=DOCKER_KEY_FINGERPRINT,
    )
    operations.ensure_files(
        name="Add Docker's repository",
        files=(
            ReleaseFile(
                "/etc/apt/sources.list.d/docker.sources",
                docker_sources(plan.distribution, plan.architecture),
            ),
        ),
    )


def _prepare_plugin_release(plan: HostPlan) -> None:
    distribution = plan.distribution
    if distribution.plugin_release == distribution.codename or plan.mirror is None:
        return
    operations.ensure_files(
        name="Add the release that Compose and BuildKit come from",
        files=(
            ReleaseFile(
                "/etc/apt/preferences.d/sesame-csm-docker", plugin_preferences(distribution)
            ),
            ReleaseFile(
                "/etc/apt/sources.list.d/sesame-csm-docker.sources",
                plugin_sources(distribution, plan.mirror),
            ),
        ),
    )


def _install(plan: HostPlan, packages: tuple[str, ...]) -> None:
    # With AppArmor on, the engine refuses to start containers unless its parser is there.
    wanted = (*packages, "apparmor") if plan.apparmor else packages
    operations.ensure_packages(name="Install Docker packages", packages=wanted)
