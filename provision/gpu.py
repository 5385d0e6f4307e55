"""Stage 3: Docker can give the host's GPU to a container."""

from pyinfra.api import deploy

from provision import operations
from provision._plan import HostPlan
from provision._release import ReleaseFile
from provision._toolkit import (
    KEY_FILE,
    NVIDIA_RUNTIME,
    PREFERENCES_FILE,
    SOURCES_FILE,
    TOOLKIT_PACKAGES,
    Toolkit,
    toolkit_preferences,
    toolkit_sources,
)


@deploy("Prepare the GPU")
def prepare_gpu(plan: HostPlan) -> None:
    """Install NVIDIA's toolkit and tell Docker of it; where the model runs on none, do nothing."""
    if plan.toolkit is None:
        return
    if plan.toolkit.source == "repository":
        _install_toolkit(plan.toolkit, plan.architecture)
    operations.configure_daemon(
        name="Give Docker the NVIDIA runtime", wanted=NVIDIA_RUNTIME, systemd=plan.systemd
    )
    operations.adopt_nvidia_hook(name="Let Docker find NVIDIA's hook", systemd=plan.systemd)


def _install_toolkit(toolkit: Toolkit, architecture: str) -> None:
    operations.ensure_packages(
        name="Install what NVIDIA's repository needs", packages=("ca-certificates", "curl", "gpg")
    )
    operations.ensure_signing_key(
        name="Pin the key of NVIDIA's repository",
        url=f"{toolkit.repository.rstrip('/')}/gpgkey",
        path=KEY_FILE,
        fingerprint=toolkit.key,
    )
    operations.disable_other_sources(
        name="Set other files of NVIDIA's repository aside",
        address=toolkit.repository.partition("://")[2].rstrip("/"),
        keep=SOURCES_FILE,
    )
    operations.ensure_files(
        name="Add NVIDIA's repository and hold its version",
        files=(
            ReleaseFile(PREFERENCES_FILE, toolkit_preferences(toolkit.version)),
            ReleaseFile(SOURCES_FILE, toolkit_sources(toolkit.repository, architecture)),
        ),
    )
    operations.ensure_package_versions(
        name="Install NVIDIA's container toolkit",
        packages=TOOLKIT_PACKAGES,
        version=toolkit.version,
    )
