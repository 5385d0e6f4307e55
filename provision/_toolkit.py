"""NVIDIA's container toolkit: where it comes from, in which version, and what tells apt so.

Pure functions over what a host shows. Knows nothing of pyinfra.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from provision._docker import Refusal

ToolkitSource = Literal["repository", "present"]

TOOLKIT_PACKAGES = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
"""They are built together, and only the same version of all four is known to work."""

TOOLKIT_REPOSITORY = "https://nvidia.github.io/libnvidia-container"
TOOLKIT_KEY = "C95B321B61E88C1809C4F759DDCAE044F796ECB0"
"""Of the key in ``TOOLKIT_REPOSITORY/gpgkey``: computed from the file that NVIDIA keeps in its
repository nvidia-docker, with which the ``InRelease`` of libnvidia-container verifies."""

TOOLKIT_VERSION = "1.19.0-1"
"""With 1.19.1 and 1.20.0 ``cuInit`` was reported to fail inside containers where it works with
1.19.0 (NVIDIA/nvidia-container-toolkit#1967)."""

KEY_FILE = "/etc/apt/keyrings/nvidia-container-toolkit.asc"
SOURCES_FILE = "/etc/apt/sources.list.d/sesame-csm-nvidia.sources"
PREFERENCES_FILE = "/etc/apt/preferences.d/sesame-csm-nvidia"

NVIDIA_RUNTIME = {"runtimes": {"nvidia": {"path": "nvidia-container-runtime", "args": []}}}
"""What Docker's ``daemon.json`` must hold for ``runtime: nvidia`` to mean something."""


@dataclass(frozen=True, slots=True)
class Toolkit:
    """Where the toolkit comes from, with what an installation needs."""

    source: ToolkitSource
    version: str
    repository: str
    key: str


def package_list(repository: str, architecture: str) -> str:
    """Return the address of the list of packages, which also tells whether anybody answers."""
    return f"{flat_repository(repository, architecture)}Packages"


def flat_repository(repository: str, architecture: str) -> str:
    """Return the address that apt takes the packages from: one list for every distribution."""
    return f"{repository.rstrip('/')}/stable/deb/{architecture}/"


def toolkit_sources(repository: str, architecture: str) -> str:
    """Return the deb822 source file of the toolkit's repository."""
    return (
        "Types: deb\n"
        f"URIs: {flat_repository(repository, architecture)}\n"
        "Suites: /\n"
        f"Architectures: {architecture}\n"
        f"Signed-By: {KEY_FILE}\n"
    )


def toolkit_preferences(version: str) -> str:
    """Return the apt preferences that hold the toolkit's packages at one version.

    Above 1000, so that apt goes back to it from a newer one too.
    """
    return (
        "Explanation: the setting nvidia_toolkit_version of Sesame CSM Deploy.\n"
        f"Package: {' '.join(TOOLKIT_PACKAGES)}\n"
        f"Pin: version {version}\n"
        "Pin-Priority: 1001\n"
    )


def has_toolkit_version(packages: Mapping[str, Collection[str]], version: str) -> bool:
    """Tell whether all four packages are installed in one version.

    Args:
        packages: versions by name of the installed packages.
        version: such as ``1.19.0-1``.
    """
    return all(version in packages.get(name, ()) for name in TOOLKIT_PACKAGES)


def choose_toolkit(
    wanted: str, version: str, *, answers: bool, ours: bool, offer: Mapping[str, Any] | None
) -> ToolkitSource | Refusal:
    """Choose where the toolkit comes from, or say why it cannot be had.

    Args:
        wanted: the setting ``nvidia_toolkit``.
        version: the setting ``nvidia_toolkit_version``.
        answers: whether a toolkit is on the host and answers.
        ours: whether a deploy has pinned it.
        offer: what the repository has, as the fact ``PackageVersions`` tells it; None when it need
            not be asked.
    """
    if wanted == "present":
        if answers:
            return "present"
        return Refusal(
            "nvidia_toolkit=present, but nvidia-ctk does not answer on the host",
            "install nvidia-container-toolkit, or give nvidia_toolkit=auto",
        )
    if answers and not ours:
        return "present"
    if offer is None or version in offer["versions"]:
        return "repository"
    if offer["error"]:
        return Refusal(
            f"NVIDIA's container toolkit comes from its repository: {offer['error']}",
            "open the way to it, name a mirror as nvidia_repository, or install the toolkit by "
            "hand and give nvidia_toolkit=present",
        )
    return Refusal(
        f"nvidia_toolkit_version={version} is not in NVIDIA's repository",
        f"give one that is there: {', '.join(_newest(offer['versions']))}",
    )


def _newest(versions: Sequence[str], count: int = 5) -> list[str]:
    """Return the newest versions, newest first; a list of packages is in no order."""

    def numbers(version: str) -> list[int]:
        return [int(part) for part in version.replace("-", ".").split(".") if part.isdigit()]

    return sorted(versions, key=numbers, reverse=True)[:count] or ["none"]


def refuse_restart(state: Mapping[str, Any]) -> Refusal | None:
    """Refuse to start a Docker daemon again that would take others' containers down with it.

    Docker looks for NVIDIA's hook only when it starts. With ``live-restore`` containers run on
    meanwhile.

    Args:
        state: the daemon, as the fact ``NvidiaHook`` tells it.
    """
    if not state["others"] or state["live_restore"]:
        return None
    return Refusal(
        f"Docker must be started again to find NVIDIA's hook, and that would stop "
        f"{state['others']} other containers",
        'put {"live-restore": true} into /etc/docker/daemon.json and run systemctl reload docker, '
        "so that they run on, then deploy again",
    )
