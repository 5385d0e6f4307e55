"""Stage 2: a Docker engine that answers, with Compose v2 and BuildKit."""

from pyinfra.api import deploy

from provision import operations
from provision._distribution import Distribution
from provision._docker import (
    DOCKER_ADDRESS,
    DOCKER_KEY_FINGERPRINT,
    DOCKER_PACKAGES,
    DOCKER_REPOSITORY,
    docker_sources,
    plugin_preferences,
    plugin_sources,
    version_preferences,
    versioned_packages,
)
from provision._plan import DockerPlan, HostPlan
from provision._release import ReleaseFile
from provision.host_docker import OWN_ENGINE_FILE, OWN_ENGINE_NOTE, PREFERENCES_FILE

KEY_FILE = "/etc/apt/keyrings/docker.asc"
SOURCES_FILE = "/etc/apt/sources.list.d/docker.sources"


@deploy("Install Docker")
def install_docker(plan: HostPlan) -> None:
    """Bring Docker to the host from the source that its plan names; leave a present one alone."""
    engine = plan.docker
    if engine.unpins:
        operations.remove_file(name="Hold Docker's version no longer", path=PREFERENCES_FILE)
    if engine.installs:
        _make_way(engine)
    if engine.daemon:
        # Before an engine is there, so that its first start reads it.
        operations.configure_daemon(
            name="Let containers outlive the daemon, and logs stay small",
            wanted=engine.daemon,
            systemd=plan.systemd,
        )
    if engine.ours and plan.systemd and plan.settings.docker_daemon != "leave":
        operations.ensure_daemon_proxy(name="Give the daemon the host's proxies")
    if engine.installs and engine.source == "docker":
        _prepare_docker_repository(plan)
    elif engine.installs:
        _prepare_plugin_release(plan)
    if engine.version is not None:
        _install_version(engine, engine.version, plan.distribution)
    if engine.installs:
        _install(plan)
    operations.ensure_docker_answers(name="Start the Docker daemon", systemd=plan.systemd)


def _make_way(docker: DockerPlan) -> None:
    """Settle what an earlier life of the host has left."""
    if docker.disables_sources:
        operations.disable_other_sources(
            name="Take other entries of Docker's repository out of force",
            address=DOCKER_ADDRESS,
            keep=SOURCES_FILE,
        )
    operations.mend_packages(name="Finish packages that are half installed")
    if docker.removed:
        operations.remove_packages(
            name="Remove packages that stand in Docker's way", packages=docker.removed
        )
    if docker.ours:
        operations.ensure_files(
            name="Note that a deploy brings the engine",
            files=(ReleaseFile(OWN_ENGINE_FILE, OWN_ENGINE_NOTE),),
        )


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
                SOURCES_FILE,
                docker_sources(plan.distribution, plan.architecture),
            ),
        ),
    )


def _prepare_plugin_release(plan: HostPlan) -> None:
    distribution = plan.distribution
    if not distribution.foreign_release or plan.mirror is None:
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


def _install_version(engine: DockerPlan, version: str, distribution: Distribution) -> None:
    """Hold the engine at the version that was asked for; otherwise apt's newest one comes."""
    operations.ensure_files(
        name="Hold Docker's version",
        files=(ReleaseFile(PREFERENCES_FILE, version_preferences(engine.source, version)),),
    )
    operations.ensure_engine_version(
        name="Install the version of Docker that was asked for",
        packages=versioned_packages(engine.source),
        version=version,
        foreign_release=distribution.foreign_release,
    )


def _install(plan: HostPlan) -> None:
    packages: tuple[str, ...] = DOCKER_PACKAGES
    if plan.docker.source == "distribution":
        packages = plan.distribution.engine_packages + plan.distribution.plugin_packages
    # With AppArmor on, the engine refuses to start containers unless its parser is there.
    wanted = (*packages, "apparmor") if plan.apparmor else packages
    operations.ensure_packages(name="Install Docker packages", packages=wanted)
