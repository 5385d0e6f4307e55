"""Stage 1: can the voice be brought to this host? All is read before anything is changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyinfra import host, logger, state
from pyinfra.facts.deb import DebPackages
from pyinfra.facts.server import Arch, OsRelease

from provision import _network, facts
from provision._distribution import ARCHITECTURES, DISTRIBUTIONS, Distribution, find_distribution
from provision._docker import (
    DockerSource,
    Refusal,
    choose_docker_source,
    find_mirror,
    missing_parts,
    refuse_engine,
)
from provision._image import image_tag
from provision._package_index import default_package_index
from provision._release import CONTAINER, CONTAINER_PORT
from provision.settings import DeploySettings

NEEDED_MEMORY_MIB = 512
NEEDED_DISK_MIB = 300
NEEDED_DISK_TO_BUILD_MIB = 3000
"""A build holds the base, the package archives and both stages at once."""


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What has been settled about a host that passed its check. The later stages follow it."""

    settings: DeploySettings
    distribution: Distribution
    architecture: str
    docker_source: DockerSource
    mirror: str | None
    security_mirror: str | None
    systemd: bool
    apparmor: bool
    base_image: str
    image: str


def check_host(settings: DeploySettings) -> HostPlan | None:
    """Settle how the host is deployed to, or name every reason why it cannot be.

    A refused host is failed while the deploy is being prepared: nothing on it changes, and the
    other hosts go on.

    Returns:
        The plan, or None when the host was refused.

    Raises:
        PyinfraError: no host is left.
    """
    survey = _Survey(settings)
    plan = survey.settle()
    if plan is not None:
        return plan
    for refusal in survey.refusals:
        host.log_styled(f"✗ {refusal}", fg="red", log_func=logger.error)
    state.fail_hosts({state.inventory.get_host(host.name)})
    return None


class _Survey:
    """Reads a host step by step and collects what stands in the way."""

    def __init__(self, settings: DeploySettings) -> None:
        self.settings = settings
        self.refusals: list[Refusal] = []

    def settle(self) -> HostPlan | None:
        """Return the plan, or None when ``refusals`` holds anything."""
        distribution = self._find_distribution()
        architecture = self._find_architecture()
        resources = host.get_fact(facts.Resources)
        self._judge_memory(resources)
        if not self._become_root() or distribution is None or architecture is None:
            return None

        engine = host.get_fact(facts.DockerEngine)
        if refusal := refuse_engine(engine):
            self.refusals.append(refusal)
            return None
        self._judge_port()

        repositories = host.get_fact(facts.AptRepositories)
        certificates = host.get_fact(facts.Certificates)
        built = self._find_built_base(certificates)
        self._judge_disk(resources, built=built is not None)

        network = self._ask_network(
            docker=_network.docker_repository(distribution) if missing_parts(engine) else None,
            mirror=find_mirror(repositories, distribution.codename),
            release=distribution.codename,
            build=built is None,
        )
        base = built or _network.choose_base(self.settings.base_image, network.silent)
        source = choose_docker_source(
            self.settings.docker_source,
            engine,
            host.get_fact(DebPackages),
            repository_answers=_network.docker_repository(distribution) not in network.silent,
        )
        if isinstance(source, Refusal):
            self.refusals.append(source)
            return None
        remote = self._is_remote(base)
        self.refusals += network.refusals(source, base if built is None else None, remote=remote)
        if self.refusals:
            return None
        return HostPlan(
            settings=self.settings,
            distribution=distribution,
            architecture=architecture,
            docker_source=source,
            mirror=network.mirror,
            security_mirror=find_mirror(repositories, f"{distribution.codename}-security"),
            systemd=resources["systemd"],
            apparmor=resources["apparmor"],
            base_image=base,
            image=image_tag(base, certificates),
        )

    def _refuse(self, reason: str, remedy: str) -> None:
        self.refusals.append(Refusal(reason, remedy))

    def _find_distribution(self) -> Distribution | None:
        release = host.get_fact(OsRelease) or {}
        identity, version = release.get("id", "unknown"), release.get("version_id", "rolling")
        distribution = find_distribution(identity, version)
        if distribution is None:
            supported = ", ".join(row.name for row in DISTRIBUTIONS)
            self._refuse(
                f"{release.get('pretty_name', identity)} (ID={identity}, VERSION_ID={version}) is "
                "not a distribution that can be deployed to",
                f"use a host with one of {supported}",
            )
        return distribution

    def _find_architecture(self) -> str | None:
        machine = host.get_fact(Arch)
        architecture = ARCHITECTURES.get(machine)
        if architecture is None:
            self._refuse(
                f"the processor is {machine}, for which there is no image",
                f"use a host with one of {', '.join(ARCHITECTURES)}",
            )
        return architecture

    def _become_root(self) -> bool:
        privilege = host.get_fact(facts.Privilege)
        if privilege == "sudo":
            host.data._sudo = True  # noqa: SLF001 (pyinfra's name for the argument)
        if privilege == "none":
            self._refuse(
                "the connected user is not root and may not use sudo without a password",
                "connect as root, or run pyinfra with --sudo --use-sudo-password",
            )
        return bool(privilege != "none")

    def _judge_memory(self, resources: Mapping[str, Any]) -> None:
        if resources["memory_mib"] < NEEDED_MEMORY_MIB:
            self._refuse(
                f"the host has {resources['memory_mib']} MiB of memory, "
                f"{NEEDED_MEMORY_MIB} MiB are needed",
                "give the machine more memory",
            )

    def _judge_disk(self, resources: Mapping[str, Any], *, built: bool) -> None:
        needed = NEEDED_DISK_MIB if built else NEEDED_DISK_TO_BUILD_MIB
        if resources["disk_mib"] < needed:
            self._refuse(
                f"{resources['disk_path']} has {resources['disk_mib']} MiB free, "
                f"{needed} MiB are needed",
                "free some, for example with docker system prune, or give the machine more disk",
            )

    def _judge_port(self) -> None:
        bind, port = self.settings.bind, self.settings.port
        listener = next(
            (
                listener
                for listener in host.get_fact(facts.Listeners)
                if listener.stands_in_the_way_of(bind, port)
            ),
            None,
        )
        if listener is None or self._is_ours(port):
            return
        owner = host.get_fact(facts.SocketOwner, inode=listener.inode) or "another program"
        self._refuse(
            f"port {port} on {listener.address} is taken by {owner}",
            f"stop it, or choose another port: --data port={port + 1}",
        )

    def _is_ours(self, port: int) -> bool:
        container = host.get_fact(facts.Container, container=CONTAINER)
        bindings = (container or {}).get("ports") or {}
        published = bindings.get(f"{CONTAINER_PORT}/tcp") or []
        return any(binding.get("HostPort") == str(port) for binding in published)

    def _find_built_base(self, certificates: list[str]) -> str | None:
        for base in _network.candidate_bases(self.settings.base_image):
            if host.get_fact(facts.Image, tag=image_tag(base, certificates)):
                return base
        return None

    def _ask_network(
        self, *, docker: str | None, mirror: str | None, release: str, build: bool
    ) -> _network.Network:
        """Ask only what is still open, so that a settled host is deployed to without a network."""
        network = _network.Network(
            docker=docker,
            mirror=mirror,
            release=release,
            index=host.get_fact(facts.PackageIndex) or default_package_index(),
        )
        bases = _network.candidate_bases(self.settings.base_image) if build else ()
        urls = network.urls([base for base in bases if self._is_remote(base)], build=build)
        if urls:
            silent = host.get_fact(facts.Unreachable, urls=urls)
            network.silent.update({urls[int(number)]: why for number, why in silent.items()})
        return network

    def _is_remote(self, base: str) -> bool:
        return base != _network.DEBOOTSTRAP and not host.get_fact(facts.Image, tag=base)
