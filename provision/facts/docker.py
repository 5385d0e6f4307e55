"""What a host's Docker engine is and holds."""

import json
import re
import shlex
from typing import Any

from pyinfra.api import FactBase

from provision._proxy import DAEMON_STATE

CONTAINER_FORMAT = (
    '{"status":{{json .State.Status}},'
    '"health":{{if .State.Health}}{{json .State.Health.Status}}{{else}}null{{end}},'
    '"labels":{{json .Config.Labels}},"ports":{{json .HostConfig.PortBindings}},'
    '"image":{{json .Image}}}'
)


class DockerEngine(FactBase[dict[str, str]]):
    """Returns which parts of Docker answer, with their versions; an absent part is an absent key.

    .. code:: python

        {"client": "/usr/bin/docker", "engine": "26.1.5", "compose": "2.26.1", "buildx": "0.13.1"}

    ``snap`` and ``podman`` appear where the command belongs to those.
    """

    def command(self) -> str:
        return (
            "[ -d /snap/docker ] && echo snap yes; "
            "if command -v docker >/dev/null; then echo client $(command -v docker); "
            "docker --version 2>/dev/null | grep -qi podman && echo podman yes; "
            "timeout 10 docker version --format 'engine {{.Server.Version}}' 2>/dev/null; "
            "timeout 10 docker compose version --short 2>/dev/null | sed 's/^/compose /'; "
            "timeout 10 docker buildx version 2>/dev/null | awk '{print \"buildx\", $2}'; fi; true"
        )

    @staticmethod
    def default() -> dict[str, str]:
        return {}

    def process(self, output: list[str]) -> dict[str, str]:
        parts = {}
        for line in output:
            part, _, value = line.strip().partition(" ")
            version = re.search(r"\d+\.\d[\w.]*", value)
            if part in {"engine", "compose", "buildx"}:
                if version:
                    parts[part] = version[0]
            elif part in {"client", "snap", "podman"}:
                parts[part] = value
        return parts


class Image(FactBase[str | None]):
    """Returns the identity of an image on the host's engine, or None.

    + tag: name and tag of the image
    """

    def command(self, tag: str) -> str:
        return f"docker image inspect --format '{{{{.Id}}}}' {shlex.quote(tag)} 2>/dev/null || true"

    def requires_command(self, *_args: object, **_kwargs: object) -> str:
        return "docker"

    def process(self, output: list[str]) -> str | None:
        return next((line.strip() for line in output if line.startswith("sha256:")), None)


class Container(FactBase[dict[str, Any] | None]):
    """Returns the state of a container, or None. Never its environment.

    + container: name of the container

    .. code:: python

        {"status": "running", "health": "healthy", "labels": {…}, "image": "sha256:…",
         "ports": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}]}}
    """

    def command(self, container: str) -> str:
        return (
            f"docker inspect --type container --format '{CONTAINER_FORMAT}' "
            f"{shlex.quote(container)} 2>/dev/null || true"
        )

    def requires_command(self, *_args: object, **_kwargs: object) -> str:
        return "docker"

    def process(self, output: list[str]) -> dict[str, Any] | None:
        line = next((line for line in output if line.startswith("{")), None)
        state: dict[str, Any] | None = json.loads(line) if line else None
        return state


class DaemonConfiguration(FactBase[str | None]):
    """Returns the text of ``/etc/docker/daemon.json``, or None where there is none."""

    def command(self) -> str:
        return "cat /etc/docker/daemon.json 2>/dev/null || true"

    def process(self, output: list[str]) -> str | None:
        return "\n".join(output) or None


class DaemonProxy(FactBase[str]):
    """Returns how the proxies of a deploy's own engine under systemd are beside the host's.

    ``same``, ``differs``, or ``unwanted`` where there is a file of ours and is to be none. They are
    compared on the host: no proxy's address leaves it.
    """

    def command(self) -> str:
        return "\n".join(DAEMON_STATE)

    def process(self, output: list[str]) -> str:
        return output[-1].strip()


class Swarm(FactBase[bool]):
    """Returns whether the host's engine is part of a swarm, which has no ``live-restore``."""

    def command(self) -> str:
        return "timeout 10 docker info --format '{{.Swarm.LocalNodeState}}' 2>/dev/null || true"

    def requires_command(self) -> str:
        return "docker"

    @staticmethod
    def default() -> bool:
        return False

    def process(self, output: list[str]) -> bool:
        return "active" in (line.strip() for line in output)


class Occupants(FactBase[list[str]]):
    """Returns who uses the container programs of a host, each in words; empty: nobody."""

    def command(self) -> str:
        return (
            "kept=$(ls -1 /var/lib/docker/containers 2>/dev/null | wc -l); "
            '[ "$kept" = 0 ] || echo "$kept containers of Docker"; '
            "shims=$(cat /proc/[0-9]*/comm 2>/dev/null | grep -c ^containerd-shim); "
            '[ "$shims" = 0 ] || echo "$shims running tasks of containerd"; '
            "if command -v ctr >/dev/null; then for space in $(timeout 10 ctr namespaces list "
            "--quiet 2>/dev/null | grep -vx moby); do kept=$(timeout 10 ctr --namespace $space "
            "containers list --quiet 2>/dev/null | wc -l); "
            '[ "$kept" = 0 ] || echo "$kept containers of containerd in $space"; done; fi; '
            "for node in kubelet k3s; do command -v $node; done; true"
        )

    @staticmethod
    def default() -> list[str]:
        return []

    def process(self, output: list[str]) -> list[str]:
        return [line.strip() for line in output]
