"""Hosts that exist only as what they would answer: facts for pyinfra's ``@fake`` connector."""

import json
from dataclasses import dataclass, field, replace
from typing import Any

from provision._daemon import OUR_DAEMON
from provision._disk import DOCKER_ROOT
from provision._distribution import DISTRIBUTIONS, Distribution
from provision._docker import DOCKER_PACKAGES
from provision._image import LIGHT, Variant, image_tag
from provision._model import CsmEngine, Model
from provision._network import DEBOOTSTRAP, REGISTRY_IMAGE
from provision._release import (
    HOME,
    RELEASE_LABEL,
    VOICES,
    ReleaseFile,
    render_release,
    voices_home,
)
from provision._toolkit import (
    NVIDIA_RUNTIME,
    PREFERENCES_FILE,
    SOURCES_FILE,
    TOOLKIT_KEY,
    TOOLKIT_PACKAGES,
    TOOLKIT_REPOSITORY,
    TOOLKIT_VERSION,
    toolkit_preferences,
    toolkit_sources,
)
from provision._voices import Voices
from provision.host_docker import OWN_ENGINE_FILE, OWN_ENGINE_NOTE
from provision.host_docker import PREFERENCES_FILE as ENGINE_PREFERENCES_FILE
from provision.settings import DeploySettings
from tests.provision import gpus

MIRROR = "http://mirror.example/packages/"
COMPLETE_ENGINE = ("engine 26.1.5", "compose 2.26.1", "buildx v0.13.1")
# Unreachable answers by number: 0 Docker's repository, 1 the mirror, 2 the registry, 3 the index,
# 4 torch's own index.
CLOSED_NETWORK = ("0 Could not resolve", "2 Could not resolve")

REPORT: dict[str, Any] = {
    "ok": True,
    "checks": [{"name": "health", "verdict": "met", "detail": "degraded", "next": None}],
    "failures": [],
    "service": {
        "status": "degraded",
        "engine": "basic",
        "badge": {"icon": "🟠", "label": "Basic Voice"},
        "voices": ["maya", "neutral", "warm", "mystic"],
        "model_loaded": False,
    },
}


@dataclass(frozen=True)
class FakeHost:
    """What one host answers to each fact."""

    distribution: Distribution
    architecture: str = "x86_64"
    privilege: str = "root"
    memory_mib: int = 16000
    disk_mib: int = 50000
    flags: tuple[str, ...] = ("systemd",)
    engine: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    unreachable: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    nvidia: tuple[str, ...] = gpus.NOTHING
    hook: tuple[str, ...] = ()
    toolkits: tuple[str, ...] = (f"version {TOOLKIT_VERSION}",)
    toolkit_files: tuple[str, ...] = ()
    own_engine: tuple[str, ...] = ()
    half_installed: tuple[str, ...] = ()
    occupants: tuple[str, ...] = ()
    docker_entries: tuple[str, ...] = ()
    apt_fault: tuple[str, ...] = ()
    swarm: str = ""
    daemon_proxy: str = "same"
    known_versions: tuple[str, ...] = ()
    daemon: str = ""
    key: str = ""
    inside: tuple[str, ...] = ()
    proof: dict[str, Any] = field(default_factory=dict)
    placed: tuple[str, ...] = ()
    halves: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    personas: tuple[str, ...] = ()
    placed_personas: tuple[str, ...] = ()
    hub: tuple[str, ...] = ()
    container: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] | None = None
    failing: tuple[str, ...] = ()

    def responses(self) -> dict[str, Any]:
        """Return what ``@fake`` answers, by a piece of the command that asks."""
        return {
            **{piece: {"success": False} for piece in self.failing},
            "cat /etc/os-release": [
                f'PRETTY_NAME="{self.distribution.name}"',
                f"ID={self.distribution.identity}",
                f'VERSION_ID="{self.distribution.version}"',
            ],
            "uname -m": self.architecture,
            "id -u": self.privilege,
            "/proc/meminfo": [
                f"memory_mib {self.memory_mib}",
                *self.flags,
            ],
            "df -Pm": [f"{place} 2049 {self.disk_mib} /" for place in (DOCKER_ROOT, HOME)],
            "--query-gpu": list(self.nvidia),
            "nvidia-container-runtime-hook": list(self.hook),
            "$place/list": list(self.toolkits),
            "2>&1 >/dev/null | grep ^E:": list(self.apt_fault),
            f"for path in {OWN_ENGINE_FILE}": list(self.own_engine),
            f"for path in {ENGINE_PREFERENCES_FILE}": list(self.own_engine),
            "db:Status-Abbrev": list(self.half_installed),
            "containerd-shim": list(self.occupants),
            "grep -ls": list(self.docker_entries),
            "LocalNodeState": self.swarm,
            "docker.service.d/": self.daemon_proxy,
            "apt-cache madison": list(self.known_versions),
            "cat /etc/docker/daemon.json": self.daemon.splitlines(),
            "--show-keys": self.key,
            "State.Running": list(self.inside),
            "service.csm.device": json.dumps(self.proof) if self.proof else [],
            ".verified": list(self.placed),
            "docker --version": list(self.engine),
            "/proc/net/tcp": list(self.listeners),
            "readlink $fd": "nginx (process 812)",
            "indextargets": [
                f"{MIRROR} {self.distribution.codename}",
                f"{MIRROR} {self.distribution.codename}-security",
            ],
            "-exec sha256sum": [],
            "index-url": [],
            "/resolve/": list(self.hub),
            "apt-helper": list(self.unreachable),
            "dpkg -l": [_installed(name) for name in self.packages],
            **{f"'{{{{.Id}}}}' {image} ": "sha256:5e5a3e" for image in self.images},
            "stat -c '%s": list(self.halves),
            "ls -1 /opt/sesame-csm/models": list(self.models),
            "ls -1 /opt/sesame-csm/voices": list(self.personas),
            f"for path in {VOICES}": list(self.placed_personas),
            PREFERENCES_FILE: list(self.toolkit_files),
            "stat -c": list(self.files),
            "docker inspect --type container": json.dumps(self.container) if self.container else [],
            "-m checks": json.dumps(self.report) if self.report else [],
        }


def _installed(package: str) -> str:
    """Return dpkg's line of a package, given as a name or ``NAME=VERSION``."""
    name, _, version = package.partition("=")
    return f"ii  {name}  {version or '1.0'}  amd64  a package"


def bare(distribution: Distribution, **changes: Any) -> FakeHost:
    """Return a host on which nothing is installed."""
    return replace(FakeHost(distribution=distribution, report=REPORT), **changes)


def settled(
    distribution: Distribution,
    settings: DeploySettings,
    source: str,
    *,
    engine: CsmEngine | None = None,
    variant: Variant = LIGHT,
    voices: Voices | None = None,
) -> FakeHost:
    """Return a host as a deploy leaves it."""
    base = DEBOOTSTRAP if source == "distribution" else REGISTRY_IMAGE
    image = image_tag(base, [], variant)
    release = render_release(settings, image, engine, voices)
    packages = {
        "docker": ("ca-certificates", "curl", "gpg", *DOCKER_PACKAGES),
        "distribution": (*distribution.engine_packages, *distribution.plugin_packages),
    }
    return FakeHost(
        distribution=distribution,
        engine=COMPLETE_ENGINE,
        packages=packages[source],
        own_engine=(f"{ReleaseFile(OWN_ENGINE_FILE, OWN_ENGINE_NOTE).state} {OWN_ENGINE_FILE}",),
        daemon=json.dumps(OUR_DAEMON),
        images=(image,),
        files=tuple(f"{state} {path}" for path, state in release.wanted.items()),
        personas=(voices.digest,) if voices else (),
        placed_personas=placed_voices(voices) if voices else (),
        container={
            "status": "running",
            "health": "healthy",
            "labels": {RELEASE_LABEL: release.digest},
            "ports": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}]},
            "image": "sha256:5e5a3e",
        },
        listeners=("0: 0100007F:1F40 00000000:0000 0A 0:0 00:0 0 0 0 4242 1 0 100 0 0 10 0",),
        placed=placed(engine.model) if engine else (),
        report=REPORT,
    )


def with_gpu(host: FakeHost) -> FakeHost:
    """Return a settled host with what a deploy adds for its GPU."""
    files = {
        PREFERENCES_FILE: toolkit_preferences(TOOLKIT_VERSION),
        SOURCES_FILE: toolkit_sources(TOOLKIT_REPOSITORY, "amd64"),
    }
    return replace(
        host,
        nvidia=(*gpus.H100, *gpus.TOOLKIT),
        hook=("known",),
        packages=(
            *host.packages,
            *("ca-certificates", "curl", "gpg"),
            *(f"{name}={TOOLKIT_VERSION}" for name in TOOLKIT_PACKAGES),
        ),
        toolkit_files=tuple(
            f"{ReleaseFile(path, text).state} {path}" for path, text in files.items()
        ),
        daemon=json.dumps({**OUR_DAEMON, **NVIDIA_RUNTIME}),
        key=TOOLKIT_KEY,
        proof=gpus.PROOF,
    )


def placed(model: Model) -> tuple[str, ...]:
    """Return what a host says of a model that has been placed and verified."""
    return tuple(f"{file.sha256} stamped {file.path}" for file in model.files)


def placed_voices(voices: Voices) -> tuple[str, ...]:
    """Return what a host says of personas that have been placed."""
    home = voices_home(voices)
    return tuple(f"644 0 {file.sha256} {home}/{file.path}" for file in voices.files)


def row(name: str) -> Distribution:
    """Return the distribution of a name."""
    return next(row for row in DISTRIBUTIONS if row.name == name)
