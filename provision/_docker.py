"""Where a host's Docker comes from: the choice, and the files that describe a source to apt.

Pure functions over what a host shows. Knows nothing of pyinfra.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from provision._distribution import Distribution

DockerSource = Literal["docker", "distribution", "present"]

PARTS = ("engine", "compose", "buildx")
"""What a deploy needs of Docker: the daemon, Compose v2 and BuildKit's client."""

OLDEST = {"engine": (20, 10), "compose": (2, 0), "buildx": (0, 8)}
"""Oldest versions that have been seen to work, or that have what is used."""

DOCKER_PACKAGES = (
    "docker-ce",
    "docker-ce-cli",
    "containerd.io",
    "docker-buildx-plugin",
    "docker-compose-plugin",
)
DOCKER_REPOSITORY = "https://download.docker.com/linux"
DOCKER_KEY_FINGERPRINT = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
"""Of the key that signs Docker's Debian and Ubuntu repositories; Docker's own guide prints it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What stands in the way of a deploy, and the next step."""

    reason: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.reason}\n      → {self.remedy}"


def missing_parts(engine: Mapping[str, str]) -> list[str]:
    """Return the parts of Docker that do not answer or are too old, each said in words."""
    missing = []
    for part in PARTS:
        version = engine.get(part)
        if version is None:
            missing.append(f"no {part}")
        elif tuple(int(number) for number in version.split(".")[:2]) < OLDEST[part]:
            missing.append(f"{part} {version} (too old)")
    return missing


def installed_source(packages: Collection[str]) -> DockerSource | None:
    """Return which source the installed engine came from, or None when none is installed."""
    if "docker-ce" in packages:
        return "docker"
    if "docker.io" in packages:
        return "distribution"
    return None


def refuse_engine(engine: Mapping[str, str]) -> Refusal | None:
    """Refuse an engine that cannot carry the voice."""
    if "snap" in engine:
        return Refusal(
            "Docker is installed as a snap, which is confined and cannot use GPUs or /opt",
            "snap remove docker, then deploy again",
        )
    if "podman" in engine:
        return Refusal(
            f"{engine.get('client', 'docker')} is Podman under Docker's name",
            "remove the podman-docker package, then deploy again",
        )
    return None


def choose_docker_source(
    wanted: str, engine: Mapping[str, str], packages: Collection[str], *, repository_answers: bool
) -> DockerSource | Refusal:
    """Choose where Docker comes from, or say why it cannot come from where it is wanted from.

    Args:
        wanted: the setting ``docker_source``.
        engine: the parts of Docker that answer on the host, with their versions.
        packages: names of the installed packages.
        repository_answers: whether the host reaches Docker's own repository.
    """
    installed = installed_source(packages)
    missing = missing_parts(engine)
    if wanted == "present":
        if missing:
            return Refusal(
                f"docker_source=present, but on the host there is {', '.join(missing)}",
                "give docker_source=auto, or install what is missing",
            )
        return "present"
    if wanted == "auto":
        if not missing:
            return "present"
        if "engine" in engine and installed is None:
            return Refusal(
                f"an engine that no package owns is running, and there is {', '.join(missing)}",
                "install the missing parts beside it, or stop it and deploy again",
            )
        return installed or ("docker" if repository_answers else "distribution")
    if installed is not None and installed != wanted:
        return Refusal(
            f"docker_source={wanted}, but Docker from source '{installed}' is installed",
            "give docker_source=auto to keep it, or remove it, which stops its containers",
        )
    return "docker" if wanted == "docker" else "distribution"


def docker_sources(distribution: Distribution, architecture: str) -> str:
    """Return the deb822 source file of Docker's own repository."""
    return (
        "Types: deb\n"
        f"URIs: {DOCKER_REPOSITORY}/{distribution.identity}\n"
        f"Suites: {distribution.codename}\n"
        "Components: stable\n"
        f"Architectures: {architecture}\n"
        "Signed-By: /etc/apt/keyrings/docker.asc\n"
    )


def plugin_sources(distribution: Distribution, mirror: str) -> str:
    """Return the deb822 source file of the release that the plugins come from."""
    return (
        "Types: deb\n"
        f"URIs: {mirror}\n"
        f"Suites: {distribution.plugin_release}\n"
        "Components: main\n"
        f"Signed-By: /usr/share/keyrings/{distribution.identity}-archive-keyring.gpg\n"
    )


def plugin_preferences(distribution: Distribution) -> str:
    """Return the apt preferences that let only the plugins come from that release."""
    return (
        "Explanation: Compose v2 and BuildKit for Docker, from the next release; nothing else.\n"
        "Package: *\n"
        f"Pin: release n={distribution.plugin_release}\n"
        "Pin-Priority: -1\n"
        "\n"
        f"Package: {' '.join(distribution.plugin_packages)}\n"
        f"Pin: release n={distribution.plugin_release}\n"
        "Pin-Priority: 990\n"
    )


def find_mirror(repositories: Collection[tuple[str, str]], release: str) -> str | None:
    """Return the address of the package mirror that the host takes a release from, or None."""
    for uri, listed in repositories:
        if listed == release and uri.startswith(("http://", "https://")):
            return uri
    return None
