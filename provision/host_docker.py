"""Stage 1's look at Docker on a host that may be used: what a deploy would change, and what it may.

"Ours" is an engine that a deploy has brought, or is about to; any other is somebody else's.
"""

from collections.abc import Mapping
from typing import Any

from pyinfra import host
from pyinfra.facts.deb import DebPackages

from provision import facts
from provision._daemon import DAEMON_FILE, OUR_DAEMON, Merged, merge_daemon
from provision._distribution import Distribution
from provision._docker import (
    DOCKER_ADDRESS,
    DockerSource,
    Refusal,
    conflicting_packages,
    installed_source,
    missing_parts,
    package_list,
    refuse_removal,
    refuse_version,
    versioned_packages,
)
from provision._plan import DockerPlan
from provision._release import HOME
from provision._toolkit import NVIDIA_RUNTIME
from provision.settings import DeploySettings

OWN_ENGINE_FILE = f"{HOME}/.docker"
"""Written when a deploy brings the engine."""

PREFERENCES_FILE = "/etc/apt/preferences.d/sesame-csm-docker-version"

OWN_ENGINE_NOTE = "Docker on this host was brought by Sesame CSM Deploy.\n"


def survey_engine(
    settings: DeploySettings,
    source: DockerSource,
    engine: Mapping[str, str],
    distribution: Distribution,
    architecture: str,
    *,
    gpu: bool,
) -> DockerPlan | list[Refusal]:
    """Settle what is changed about the host's Docker, or say why that would harm somebody.

    Args:
        settings: of the deploy.
        source: where Docker comes from.
        engine: the parts of Docker that answer on the host, with their versions.
        distribution: that the host runs.
        architecture: of the host, in Debian's words.
        gpu: whether Docker is to know of NVIDIA's runtime.
    """
    packages = host.get_fact(DebPackages)
    noted = host.get_fact(facts.FileStates, paths=[OWN_ENGINE_FILE, PREFERENCES_FILE])
    marked = OWN_ENGINE_FILE in noted
    version = None if settings.docker_version == "auto" else settings.docker_version
    changes = version is not None and "engine" in engine and engine["engine"] != version
    if version and marked and source == "present":
        source = installed_source(packages) or source
    installs = source != "present" and (changes or bool(missing_parts(engine)))
    removed = conflicting_packages(source, packages) if installs else ()
    stays = installed_source(set(packages).difference(removed))
    ours = marked or (installs and "engine" not in engine and stays is None)

    daemon = _wanted_daemon(settings, ours=ours)
    refusals = _refuse_daemon(settings, {**daemon, **(NVIDIA_RUNTIME if gpu else {})})
    if version and not ours and engine.get("engine") != version:
        refusals.append(_refuse_change(version, engine.get("engine", "that does not answer")))
    elif version and installs:
        refusals += _refuse_unknown_version(version, source, distribution, architecture)
    if installs:
        refusals += _refuse_packages(source, removed, engine)
    if refusals:
        return refusals
    if installs:
        _tell_of_packages(removed)
    if changes:
        host.log(f"Docker {engine['engine']} becomes {version}; containers run on meanwhile")
    _tell_of_daemon(daemon)
    return DockerPlan(
        source=source,
        installs=installs,
        ours=ours,
        daemon=daemon,
        removed=removed,
        disables_sources=installs
        and (source == "docker" or DOCKER_ADDRESS in (host.get_fact(facts.AptFault) or "")),
        version=version if ours else None,
        unpins=version is None and PREFERENCES_FILE in noted,
    )


def _refuse_change(version: str, present: str) -> Refusal:
    return Refusal(
        f"docker_version={version}, and Docker {present} is on the host, which no deploy has "
        "brought",
        "give docker_version=auto to keep it, or change it by hand",
    )


def _refuse_unknown_version(
    version: str, source: DockerSource, distribution: Distribution, architecture: str
) -> list[Refusal]:
    """Refuse a version that is not there, as far as the host can know before it installs."""
    package, *_ = versioned_packages(source)
    if source == "docker":
        url = package_list(distribution, architecture)
        offer = host.get_fact(facts.PackageVersions, url=url, package=package)
        known = list(reversed(offer["versions"]))
    else:
        known = host.get_fact(
            facts.KnownVersions, package=package, foreign_release=distribution.foreign_release
        )
    refusal = refuse_version(version, known) if known else None
    return [refusal] if refusal else []


def _refuse_packages(
    source: DockerSource, removed: tuple[str, ...], engine: Mapping[str, str]
) -> list[Refusal]:
    """Refuse what keeps packages from being installed, or would take somebody's away."""
    fault = host.get_fact(facts.AptFault)
    refusals = []
    if removed and (refusal := refuse_removal(source, removed, _occupants(engine))):
        refusals.append(refusal)
    if fault and DOCKER_ADDRESS not in fault:
        refusals.append(
            Refusal(
                f"apt cannot read its sources: {fault}",
                "mend or remove the entry that it names; apt-get update shows whether it is well, "
                "then deploy again",
            )
        )
    return refusals


def _wanted_daemon(settings: DeploySettings, *, ours: bool) -> Mapping[str, Any]:
    """Return what Docker is to be told, beside what the GPU needs."""
    if settings.docker_daemon == "leave" or not (ours or settings.docker_daemon == "merge"):
        return {}
    wanted = dict(OUR_DAEMON)
    if host.get_fact(facts.Swarm):
        del wanted["live-restore"]
        host.log("The engine is part of a swarm, which has no live-restore: it is left out")
    return wanted


def _refuse_daemon(settings: DeploySettings, wanted: Mapping[str, Any]) -> list[Refusal]:
    """Refuse a configuration that cannot be read, or may not be written and lacks something."""
    if not wanted:
        return []
    merged = merge_daemon(host.get_fact(facts.DaemonConfiguration), wanted)
    if isinstance(merged, Refusal):
        return [merged]
    if settings.docker_daemon == "leave" and merged.changed:
        return [
            Refusal(
                f"docker_daemon=leave, and {DAEMON_FILE} lacks {', '.join(merged.changed)}, "
                "without which Docker gives no GPU away",
                "run nvidia-ctk runtime configure --runtime=docker and systemctl reload docker, or "
                "give docker_daemon=auto",
            )
        ]
    return []


def _occupants(engine: Mapping[str, str]) -> list[str]:
    answering = [f"Docker {engine['engine']}, which answers"] if "engine" in engine else []
    return answering + host.get_fact(facts.Occupants)


def _tell_of_packages(removed: tuple[str, ...]) -> None:
    if half := host.get_fact(facts.HalfInstalled):
        host.log(f"Half installed, to be finished: {', '.join(half)}")
    if removed:
        host.log(f"In nobody's use and in Docker's way, to be removed: {', '.join(removed)}")


def _tell_of_daemon(daemon: Mapping[str, Any]) -> None:
    merged = merge_daemon(host.get_fact(facts.DaemonConfiguration), daemon) if daemon else None
    for word in merged.kept if isinstance(merged, Merged) else ():
        host.log(f"{DAEMON_FILE}: {word}")
