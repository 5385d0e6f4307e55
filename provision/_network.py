"""Which addresses a deploy will need, and what to say when one of them does not answer.

Pure functions. Knows nothing of pyinfra or of how an address is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from provision._distribution import Distribution
from provision._docker import DOCKER_REPOSITORY, DockerSource, Refusal
from provision._gpu import Accelerator

REGISTRY_IMAGE = "debian:trixie-slim"
"""The base image where a registry answers."""

DEBOOTSTRAP = "debootstrap"

TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index of wheels without CUDA: 0.2 GB instead of the 4.7 GB of the default ones."""

PIP_INDEX = ""
"""The package index that pip is configured with."""

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


def torch_page(index: str) -> str:
    """Return an address that answers when torch can be had from an index."""
    return f"{index.rstrip('/')}/torch/"


def candidate_torch_indexes(torch_index: str, accelerator: Accelerator) -> tuple[str, ...]:
    """Return the indexes that the setting ``torch_index`` allows, the preferred one first."""
    if torch_index == "none":
        return (PIP_INDEX,)
    if torch_index != "auto":
        return (torch_index,)
    return (TORCH_CPU_INDEX, PIP_INDEX) if accelerator == "cpu" else (PIP_INDEX,)


def choose_torch_index(candidates: Sequence[str], unreachable: Mapping[str, str]) -> str:
    """Return the first index that answers, else the last; pip's own is asked for elsewhere."""
    for index in candidates:
        if index == PIP_INDEX or torch_page(index) not in unreachable:
            return index
    return candidates[-1]


@dataclass(frozen=True, slots=True)
class Network:
    """The addresses that one deploy may need, and which of them keep silent.

    ``docker`` is None when Docker is complete; ``mirror``, when apt knows none; ``silent`` holds by
    address why nobody answers there.
    """

    docker: str | None
    mirror: str | None
    release: str
    index: str
    silent: dict[str, str] = field(default_factory=dict)

    @property
    def package(self) -> str:
        """An address that answers when the package index does; small, unlike the index itself."""
        return f"{self.index.rstrip('/')}/pip/"

    def urls(
        self, remote_bases: Sequence[str], torch_indexes: Sequence[str], *, build: bool
    ) -> list[str]:
        """Return the addresses to ask.

        Args:
            remote_bases: base images that only a registry has.
            torch_indexes: where torch may come from.
            build: whether the image is yet to be built.
        """
        urls = [self.docker] if self.docker else []
        if self.mirror and (self.docker or build):
            urls.append(release_file(self.mirror, self.release))
        urls += [registry_of(base) for base in remote_bases]
        if build:
            urls.append(self.package)
        return urls + [torch_page(index) for index in torch_indexes if index != PIP_INDEX]

    def refusals(
        self, source: DockerSource, base: str | None, torch_index: str, *, remote: bool
    ) -> list[Refusal]:
        """Return a refusal for each address that turned out to be needed and keeps silent.

        Args:
            source: where Docker comes from.
            base: what the image is built on, or None when it is built.
            torch_index: where torch comes from, when it does not come from where the rest does.
            remote: whether only a registry has the base.
        """
        refusals = []
        if (self.docker and source == "distribution") or base == DEBOOTSTRAP:
            refusals.append(self._refuse_mirror())
        if self.docker and source == "docker":
            refusals.append(
                self._refuse(
                    self.docker,
                    "Docker comes from Docker's repository",
                    "open the way to it, or give docker_source=distribution",
                )
            )
        if base and remote:
            refusals.append(
                self._refuse(
                    registry_of(base),
                    f"the base image {base} comes from a registry",
                    "open the way to it, or give base_image=debootstrap",
                )
            )
        if base:
            refusals.append(
                self._refuse(
                    self.package,
                    "the image build installs Python packages",
                    "open the way to it, or name a mirror as index-url in the host's /etc/pip.conf",
                )
            )
        if base and torch_index != PIP_INDEX:
            refusals.append(
                self._refuse(
                    torch_page(torch_index),
                    f"torch comes from torch_index={torch_index}",
                    "open the way to it, or give torch_index=auto",
                )
            )
        return [refusal for refusal in refusals if refusal is not None]

    def _refuse_mirror(self) -> Refusal | None:
        if self.mirror is None:
            return Refusal(
                f"apt knows no package mirror for {self.release}",
                "add the distribution's own sources to /etc/apt/sources.list.d",
            )
        return self._refuse(
            release_file(self.mirror, self.release),
            "packages come from the host's mirror",
            "mend the host's network or its apt sources; apt-get update shows the fault",
        )

    def _refuse(self, url: str, purpose: str, remedy: str) -> Refusal | None:
        if url not in self.silent:
            return None
        return Refusal(f"{purpose}: {url} does not answer ({self.silent[url]})", remedy)
