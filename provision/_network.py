"""Which addresses a deploy will need, and what to say when one of them does not answer.

Pure functions. Knows nothing of pyinfra or of how an address is asked.
"""

from collections.abc import Mapping

from provision._distribution import Distribution
from provision._docker import DOCKER_REPOSITORY, Refusal

REGISTRY_IMAGE = "debian:trixie-slim"
"""The base image where a registry answers."""

DEBOOTSTRAP = "debootstrap"
DEFAULT_REGISTRY = "https://registry-1.docker.io/v2/"


def docker_repository(distribution: Distribution) -> str:
    """Return an address that answers when the host can install from Docker's own repository."""
    return f"{DOCKER_REPOSITORY}/{distribution.identity}/dists/{distribution.codename}/InRelease"


def release_file(mirror: str, release: str) -> str:
    """Return an address that answers when a package mirror carries a release."""
    return f"{mirror.rstrip('/')}/dists/{release}/InRelease"


def registry_of(reference: str) -> str:
    """Return the address of the registry that an image reference names."""
    first, slash, _ = reference.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return f"https://{first}/v2/"
    return DEFAULT_REGISTRY


def candidate_bases(base_image: str) -> tuple[str, ...]:
    """Return the bases that the setting ``base_image`` allows, the preferred one first."""
    return (REGISTRY_IMAGE, DEBOOTSTRAP) if base_image == "auto" else (base_image,)


def choose_base(base_image: str, unreachable: Mapping[str, str]) -> str:
    """Return the first allowed base whose registry answers; debootstrap needs none."""
    candidates = candidate_bases(base_image)
    for base in candidates:
        if base == DEBOOTSTRAP or registry_of(base) not in unreachable:
            return base
    return candidates[-1]


def refuse_silence(
    needs: Mapping[str, tuple[str, str]], unreachable: Mapping[str, str]
) -> list[Refusal]:
    """Return a refusal for each needed address at which nobody answers.

    Args:
        needs: by address, what it is for and what to do without it.
        unreachable: by address, why it does not answer.

    """
    return [
        Refusal(f"{purpose}: {url} does not answer ({unreachable[url]})", remedy)
        for url, (purpose, remedy) in needs.items()
        if url in unreachable
    ]
