"""Where a host's Docker comes from: the choice, and the files that describe a source to apt.

Pure functions over what a host shows. Knows nothing of pyinfra.
"""

import re
from collections.abc import Collection, Mapping, Sequence
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
DOCKER_ADDRESS = "download.docker.com"
"""What every entry of that repository names, whoever wrote it."""

DOCKER_KEY_FINGERPRINT = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
"""Of the key that signs Docker's Debian and Ubuntu repositories; Docker's own guide prints it."""


CONFLICTING: Mapping[DockerSource, tuple[str, ...]] = {
    "docker": (
        "docker.io",
        "docker-cli",
        "docker-doc",
        "docker-compose",
        "docker-compose-v2",
        "docker-buildx",
        "podman-docker",
        "containerd",
        "runc",
    ),
    "distribution": (
        "docker-ce",
        "docker-ce-cli",
        "docker-ce-rootless-extras",
        "containerd.io",
        "docker-buildx-plugin",
        "docker-compose-plugin",
        "podman-docker",
    ),
    "present": (),
}
"""Packages that share files with those of a source, and cannot be beside them."""


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
    if installed is not None and installed != wanted and "engine" in engine:
        return Refusal(
            f"docker_source={wanted}, but Docker from source '{installed}' is installed",
            "give docker_source=auto to keep it, or remove it, which stops its containers",
        )
    return "docker" if wanted == "docker" else "distribution"


def conflicting_packages(source: DockerSource, packages: Collection[str]) -> tuple[str, ...]:
    """Return the installed packages beside which those of a source cannot be."""
    return tuple(name for name in CONFLICTING[source] if name in packages)


def refuse_removal(
    source: DockerSource, conflicting: Sequence[str], occupants: Sequence[str]
) -> Refusal | None:
    """Refuse to remove packages that somebody uses.

    Args:
        source: where Docker is to come from.
        conflicting: installed packages that would have to go.
        occupants: who uses them, each in words.
    """
    if not conflicting or not occupants:
        return None
    fits = source == "docker" and not set(conflicting) & set(CONFLICTING["distribution"])
    return Refusal(
        f"Docker from source '{source}' cannot be beside {', '.join(conflicting)}, and they are in "
        f"use: {'; '.join(occupants)}",
        ("give docker_source=distribution, which goes along with them, or " if fits else "")
        + f"move what runs there and run apt-get remove {' '.join(conflicting)}",
    )


def versioned_packages(source: DockerSource) -> tuple[str, ...]:
    """Return the packages that have the engine's version; Debian 13 has the client of its own."""
    return {
        "docker": ("docker-ce", "docker-ce-cli"),
        "distribution": ("docker.io", "docker-cli"),
        "present": (),
    }[source]


def version_pattern(version: str) -> str:
    """Return the extended regular expression of a package's version, for one of the engine.

    Args:
        version: such as ``29.1.3``, of which ``5:29.1.3-1~debian.13~trixie`` is a package.
    """
    return f"^([0-9]+:)?{re.escape(version)}[-+~]"


def refuse_version(version: str, versions: Sequence[str]) -> Refusal | None:
    """Refuse a version of the engine that is not among those which a source has.

    Args:
        version: the setting ``docker_version``.
        versions: versions of the package that holds the engine, the newest first.
    """
    if any(re.match(version_pattern(version), known) for known in versions):
        return None
    named = dict.fromkeys(
        match[0] for known in versions if (match := re.search(r"\d+\.\d+\.\d+", known))
    )
    return Refusal(
        f"docker_version={version} is not where Docker comes from",
        f"give one that is there: {', '.join(list(named)[:5])}; or docker_version=auto",
    )


def version_preferences(source: DockerSource, version: str) -> str:
    """Return the apt preferences that hold the engine at one version, newer or older."""
    return (
        "Explanation: the setting docker_version of Sesame CSM Deploy.\n"
        f"Package: {' '.join(versioned_packages(source))}\n"
        f"Pin: version /{version_pattern(version)}/\n"
        "Pin-Priority: 1001\n"
    )


def package_list(distribution: Distribution, architecture: str) -> str:
    """Return the address of the list of packages in Docker's own repository."""
    return (
        f"{DOCKER_REPOSITORY}/{distribution.identity}/dists/{distribution.codename}/stable/"
        f"binary-{architecture}/Packages"
    )


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
