"""Stage 1: can the voice be brought to this host? All is read before anything is changed."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from pyinfra import host, logger, state
from pyinfra.context import ctx_host
from pyinfra.facts.deb import DebPackages
from pyinfra.facts.server import Arch, OsRelease

from provision import _network, facts
from provision._disk import DOCKER_ROOT, needed_for_image, needed_to_take, refuse_disks
from provision._distribution import ARCHITECTURES, DISTRIBUTIONS, Distribution, find_distribution
from provision._docker import (
    Refusal,
    choose_docker_source,
    find_mirror,
    missing_parts,
    refuse_engine,
)
from provision._handing import Seed
from provision._image import LIGHT, Variant, image_tag
from provision._model import CsmEngine
from provision._package_index import default_package_index
from provision._plan import DockerPlan, HostPlan
from provision._release import CONTAINER, CONTAINER_PORT, HOME
from provision._report import GIVE_A_MODEL
from provision._voices import Voices, read_voices
from provision.host_docker import survey_engine
from provision.host_gpu import GpuPlan, survey_gpu
from provision.host_model import missing_mib, survey_model
from provision.seed import find_seed, survey_once
from provision.settings import DeploySettings

NEEDED_MEMORY_MIB = 512


def check_host(settings: DeploySettings) -> HostPlan | None:
    """Settle how the host is deployed to, or name every reason why it cannot be.

    A refused host is failed while the deploy is being prepared: nothing on it changes, and the
    other hosts go on.

    Returns:
        The plan, or None when the host was refused.

    Raises:
        PyinfraError: no host is left.
    """
    plan, refusals = survey_once(_survey, ctx_host.get(), settings)
    if plan is not None:
        return plan
    for refusal in refusals:
        host.log_styled(f"✗ {refusal}", fg="red", log_func=logger.error)
    state.fail_hosts({state.inventory.get_host(host.name)})
    return None


def _survey(settings: DeploySettings) -> tuple[HostPlan | None, list[Refusal]]:
    survey = _Survey(settings)
    return survey.settle(), survey.refusals


class _Survey:
    """Reads a host step by step and collects what stands in the way."""

    def __init__(self, settings: DeploySettings) -> None:
        self.settings = settings
        self.refusals: list[Refusal] = []
        self.seed: Seed | None = None
        self.gpu: GpuPlan | None = None

    def settle(self) -> HostPlan | None:
        """Return the plan, or None when ``refusals`` holds anything."""
        distribution = self._find_distribution()
        architecture = self._find_architecture()
        resources = host.get_fact(facts.Resources)
        self._judge_memory(resources, NEEDED_MEMORY_MIB)
        if not self._become_root() or distribution is None or architecture is None:
            return None

        docker = host.get_fact(facts.DockerEngine)
        if refusal := refuse_engine(docker):
            self.refusals.append(refusal)
            return None
        self._judge_port()
        voices = self._settle_voices()
        if not self._settle_seed():
            return None

        engine = self._settle_engine(resources, distribution, architecture)
        variants = self._candidate_variants(engine)

        repositories = host.get_fact(facts.AptRepositories)
        certificates = host.get_fact(facts.Certificates)
        built = self._take_or_find(variants, certificates, architecture, engine)

        network = self._ask_network(
            docker=_network.docker_repository(distribution) if missing_parts(docker) else None,
            mirror=find_mirror(repositories, distribution.codename),
            release=distribution.codename,
            variants=variants if built is None else (),
        )
        base, variant = built or self._choose_build(variants, network)
        self._judge_disk(None if built else variant, engine)
        source = choose_docker_source(
            self.settings.docker_source,
            docker,
            host.get_fact(DebPackages),
            repository_answers=_network.docker_repository(distribution) not in network.silent,
        )
        if isinstance(source, Refusal):
            self.refusals.append(source)
            return None
        remote = self._is_remote(base)
        self.refusals += network.refusals(
            source, base if built is None else None, variant.torch_index, remote=remote
        )
        used = survey_engine(
            self.settings,
            source,
            docker,
            distribution,
            architecture,
            gpu=self.gpu is not None,
        )
        if not isinstance(used, DockerPlan):
            self.refusals += used
        if self.refusals or not isinstance(used, DockerPlan):
            return None
        return HostPlan(
            settings=self.settings,
            distribution=distribution,
            architecture=architecture,
            mirror=network.mirror,
            security_mirror=find_mirror(repositories, f"{distribution.codename}-security"),
            systemd=resources["systemd"],
            apparmor=resources["apparmor"],
            base_image=base,
            variant=variant,
            image=self.seed.image if self.seed else image_tag(base, certificates, variant),
            engine=engine,
            seed=self.seed,
            voices=voices,
            toolkit=self.gpu.toolkit if self.gpu else None,
            docker=used,
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

    def _judge_memory(self, resources: Mapping[str, Any], needed_mib: int) -> None:
        if resources["memory_mib"] < needed_mib:
            self._refuse(
                f"the host has {resources['memory_mib']} MiB of memory, "
                f"{needed_mib} MiB are needed",
                "give the machine more memory",
            )

    def _settle_engine(
        self, resources: Mapping[str, Any], distribution: Distribution, architecture: str
    ) -> CsmEngine | None:
        """Return the model and what it runs on, or None where the basic voice speaks alone."""
        if self.settings.model == "none" or self.settings.online:
            return None
        handed = self.seed is not None and self.seed.engine is not None
        if self.settings.source_of_model is None and not handed:
            host.log(f"The basic voice will speak. For Maya's own: {GIVE_A_MODEL}")
            return None
        gpu = survey_gpu(self.settings, distribution, architecture)
        if isinstance(gpu, Refusal):
            self.refusals.append(gpu)
        model = survey_model(self.settings, self.seed)
        if isinstance(model, Refusal):
            self.refusals.append(model)
        if isinstance(gpu, Refusal) or isinstance(model, Refusal) or model is None:
            return None
        self.gpu = gpu
        engine = CsmEngine(model, "nvidia", gpu.gpus) if gpu else CsmEngine(model, "cpu")
        self._judge_memory(resources, engine.needed_memory_mib)
        return engine

    def _settle_seed(self) -> bool:
        """Find the host that builds for this one, if one is to; say whether the check can go on."""
        name = self.settings.seed_host
        if name is None or name == host.name:
            return True
        seed = find_seed(name, _survey)
        if not isinstance(seed, Seed):
            self.refusals.append(seed)
            return False
        self.seed = seed
        return True

    def _take_or_find(
        self,
        variants: Sequence[Variant],
        certificates: list[str],
        architecture: str,
        engine: CsmEngine | None,
    ) -> tuple[str, Variant] | None:
        """Return base and variant of an image that is there or is handed over, or None."""
        if self.seed is None:
            return self._find_built(variants, certificates)
        if refusal := self.seed.refuse(architecture, engine):
            self.refusals.append(refusal)
        return self.seed.base_image, self.seed.variant

    def _settle_voices(self) -> Voices | None:
        """Return the operator's own personas, or None where there are none to place."""
        if self.settings.voices_folder is None:
            return None
        voices = read_voices(self.settings.voices_folder)
        if isinstance(voices, Voices):
            return voices
        self.refusals += voices
        return None

    def _candidate_variants(self, engine: CsmEngine | None) -> tuple[Variant, ...]:
        if engine is None:
            return (LIGHT,)
        indexes = _network.candidate_torch_indexes(self.settings.torch_index, engine.accelerator)
        return tuple(Variant("engine", index) for index in indexes)

    def _judge_disk(self, build: Variant | None, engine: CsmEngine | None) -> None:
        needed = {DOCKER_ROOT: needed_for_image(build)}
        if self.seed and not host.get_fact(facts.Image, tag=self.seed.image):
            needed = dict(zip((DOCKER_ROOT, HOME), needed_to_take(self.seed.variant), strict=True))
        if engine is not None:
            needed[HOME] = needed.get(HOME, 0) + missing_mib(engine.model)
        free = host.get_fact(facts.FreeDisk, places=list(needed))
        self.refusals += refuse_disks(needed, free)

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

    def _find_built(
        self, variants: Sequence[Variant], certificates: list[str]
    ) -> tuple[str, Variant] | None:
        bases = _network.candidate_bases(self.settings.base_image)
        for variant, base in itertools.product(variants, bases):
            if host.get_fact(facts.Image, tag=image_tag(base, certificates, variant)):
                return base, variant
        return None

    def _choose_build(
        self, variants: Sequence[Variant], network: _network.Network
    ) -> tuple[str, Variant]:
        indexes = [variant.torch_index for variant in variants]
        index = _network.choose_torch_index(indexes, network.silent)
        base = _network.choose_base(self.settings.base_image, network.silent)
        return base, variants[indexes.index(index)]

    def _ask_network(
        self,
        *,
        docker: str | None,
        mirror: str | None,
        release: str,
        variants: Sequence[Variant],
    ) -> _network.Network:
        """Ask only what is still open, so that a settled host is deployed to without a network.

        Args:
            docker: address of Docker's repository, unless Docker is complete.
            mirror: package mirror that apt knows.
            release: codename of the distribution.
            variants: which images may be built; none where one is there.
        """
        network = _network.Network(
            docker=docker,
            mirror=mirror,
            release=release,
            index=host.get_fact(facts.PackageIndex) or default_package_index(),
        )
        bases = _network.candidate_bases(self.settings.base_image) if variants else ()
        urls = network.urls(
            [base for base in bases if self._is_remote(base)],
            [variant.torch_index for variant in variants],
            build=bool(variants),
        )
        if urls:
            silent = host.get_fact(facts.Unreachable, urls=urls)
            network.silent.update({urls[int(number)]: why for number, why in silent.items()})
        return network

    def _is_remote(self, base: str) -> bool:
        return base != _network.DEBOOTSTRAP and not host.get_fact(facts.Image, tag=base)
