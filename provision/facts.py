"""What a host is and what it runs. pyinfra facts only: they read, and a bare host can be read."""

import json
import re
import shlex
from typing import Any

from pyinfra.api import FactBase, StringCommand

from provision._listeners import Listener, parse_listeners

NETWORK_TIMEOUT_SECONDS = 10
LATENCY_REQUESTS = 2  # a first impression: the one is the median, the other the worst
CHECKS_TIMEOUT_SECONDS = 150  # the program itself ends after 120
STATE_OF_FILE = "stat -c '%a %u %s %.9Y'"
"""Prints what tells whether a file has changed since it was verified."""


class Privilege(FactBase[str]):
    """Returns how the connected user becomes root: ``root``, ``sudo`` or ``none``.

    ``sudo`` means sudo without a password.
    """

    def command(self) -> str:
        return (
            'if [ "$(id -u)" = 0 ]; then echo root; '
            "elif sudo -n true 2>/dev/null; then echo sudo; else echo none; fi"
        )

    def process(self, output: list[str]) -> str:
        return output[-1].strip()


class Resources(FactBase[dict[str, Any]]):
    """Returns memory in MiB, the init system and whether AppArmor is on.

    .. code:: python

        {"memory_mib": 24105, "systemd": True, "apparmor": False}
    """

    def command(self) -> str:
        return (
            "awk '/^MemTotal:/ {print \"memory_mib\", int($2 / 1024)}' /proc/meminfo; "
            "[ -d /run/systemd/system ] && echo systemd; "
            "grep -qs Y /sys/module/apparmor/parameters/enabled && echo apparmor; true"
        )

    def process(self, output: list[str]) -> dict[str, Any]:
        seen = dict(line.partition(" ")[::2] for line in output)
        return {
            "memory_mib": int(seen["memory_mib"]),
            "systemd": "systemd" in seen,
            "apparmor": "apparmor" in seen,
        }


class Listeners(FactBase[list[Listener]]):
    """Returns every listening TCP socket, from ``/proc``, so that no tool must be there."""

    def command(self) -> str:
        return "cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '$4 == \"0A\"'; true"

    @staticmethod
    def default() -> list[Listener]:
        return []

    def process(self, output: list[str]) -> list[Listener]:
        return parse_listeners(output)


class SocketOwner(FactBase[str | None]):
    """Returns the name and number of the process that holds a socket, as ``nginx (process 812)``.

    + inode: inode of the socket
    """

    def command(self, inode: int) -> str:
        return (
            f'for fd in /proc/[0-9]*/fd/*; do if [ "$(readlink $fd)" = "socket:[{inode}]" ]; then '
            'process=${fd%/fd/*}; echo "$(cat $process/comm) (process ${process#/proc/})"; '
            "break; fi; done 2>/dev/null"
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


class AptRepositories(FactBase[list[tuple[str, str]]]):
    """Returns the address and the release of each package repository of apt's."""

    def command(self) -> str:
        return "apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages'"

    def requires_command(self) -> str:
        return "apt-get"

    @staticmethod
    def default() -> list[tuple[str, str]]:
        return []

    def process(self, output: list[str]) -> list[tuple[str, str]]:
        repositories = []
        for line in output:
            uri, _, release = line.strip().partition(" ")
            if (uri, release) not in repositories:
                repositories.append((uri, release))
        return repositories


class PackageIndex(FactBase[str | None]):
    """Returns the Python package index of the host's pip configuration, without password."""

    def command(self) -> str:
        return (
            "sed -n 's/^ *index-url *= *//p' /etc/pip.conf ~/.config/pip/pip.conf ~/.pip/pip.conf "
            "2>/dev/null | sed 's#//[^/@]*@#//#' | tail -n 1; true"
        )

    def process(self, output: list[str]) -> str | None:
        return output[-1].strip() or None


class Unreachable(FactBase[dict[str, str]]):
    """Returns the reason by address, of those addresses at which no server answers.

    The question travels as the host's packages do (apt's own client: its proxies, its time-outs).
    Whom to trust is settled later, by signatures; here only whether somebody answers.

    + urls: addresses
    """

    def command(self, urls: list[str]) -> str:
        client = (
            "/usr/lib/apt/apt-helper -o Acquire::Retries=0 "
            f"-o Acquire::http::Timeout={NETWORK_TIMEOUT_SECONDS} "
            f"-o Acquire::https::Timeout={NETWORK_TIMEOUT_SECONDS} "
            "-o Acquire::https::Verify-Peer=false -o Acquire::https::Verify-Host=false"
        )
        probes = "; ".join(
            f"({client} download-file {shlex.quote(url)} $place/{number} 2>&1 "
            f"| sed -n {shlex.quote(f's#^E: Failed to fetch [^ ]* *#{number} #p')}) &"
            for number, url in enumerate(urls)
        ).replace("&;", "&")
        return f"place=$(mktemp -d); {probes} wait; rm -rf $place"

    @staticmethod
    def default() -> dict[str, str]:
        return {}

    def process(self, output: list[str]) -> dict[str, str]:
        answers = (line.strip().partition(" ")[::2] for line in output)
        # A registry asks even for its greeting who we are: that is an answer.
        return {number: why for number, why in answers if not why.startswith("401 ")}


class FreeDisk(FactBase[dict[str, dict[str, Any]]]):
    """Returns by place the file system that it is or will be on, and what is free there in MiB.

    One file system may be mounted twice: its device number tells.

    + places: paths, which need not exist yet

    .. code:: python

        {"/var/lib/docker": {"device": "2049", "mount": "/", "mib": 81920}}
    """

    def command(self, places: list[str]) -> str:
        listed = " ".join(shlex.quote(place) for place in places)
        return (
            f"for place in {listed}; do there=$place; "
            'while [ ! -d "$there" ]; do there=$(dirname "$there"); done; '
            'echo "$place $(stat -c %d "$there")" '
            "$(df -Pm \"$there\" | awk 'NR == 2 {print $4, $6}'); done"
        )

    @staticmethod
    def default() -> dict[str, dict[str, Any]]:
        return {}

    def process(self, output: list[str]) -> dict[str, dict[str, Any]]:
        lines = (line.strip().split(" ", 3) for line in output)
        return {
            place: {"device": device, "mount": mount, "mib": int(mib)}
            for place, device, mib, mount in lines
        }


class Nvidia(FactBase[dict[str, Any]]):
    """Returns the GPUs that NVIDIA's driver shows, and whether the Docker engine has its runtime.

    A driver that does not fit its library shows none.

    .. code:: python

        {"gpus": ["NVIDIA H100 80GB HBM3, driver 580.65.06"], "runtime": True}
    """

    def command(self) -> str:
        return (
            "timeout 30 nvidia-smi --query-gpu=name,driver_version --format=csv,noheader "
            "2>/dev/null | sed -n 's/^\\(.*\\), \\([0-9.]*\\)$/gpu \\1, driver \\2/p'; "
            "timeout 10 docker info --format '{{json .Runtimes}}' 2>/dev/null "
            "| grep -q '\"nvidia\"' && echo runtime; true"
        )

    @staticmethod
    def default() -> dict[str, Any]:
        return {"gpus": [], "runtime": False}

    def process(self, output: list[str]) -> dict[str, Any]:
        lines = [line.strip() for line in output]
        gpus = [line.removeprefix("gpu ") for line in lines if line.startswith("gpu ")]
        return {"gpus": gpus, "runtime": "runtime" in lines}


class PlacedFiles(FactBase[dict[str, dict[str, Any]]]):
    """Returns SHA-256 by path of those files that exist, read anew only where they have changed.

    A stamp beside the folder (``FOLDER.verified``) holds ``SHA-256 MODE OWNER SIZE MTIME PATH`` of
    each file that was verified; what differs from its line there is read.

    + folder: folder on the host
    + paths: files below it

    .. code:: python

        {"config.json": {"sha256": "9f86d0…", "stamped": True}}
    """

    def command(self, folder: str, paths: list[str]) -> str:
        listed = " ".join(shlex.quote(path) for path in paths)
        return (
            f"cd {shlex.quote(folder)} 2>/dev/null || exit 0; for path in {listed}; do "
            '[ -f "$path" ] || continue; '
            f'state="$({STATE_OF_FILE} "$path") $path"; '
            'digest=$(awk -v state="$state" '
            "'{digest = $1; sub(/^[^ ]+ /, \"\")} $0 == state {print digest; exit}' "
            f"{shlex.quote(folder)}.verified 2>/dev/null); "
            'if [ -n "$digest" ]; then echo "$digest stamped $path"; '
            'else digest=$(sha256sum < "$path"); echo "${digest%% *} read $path"; fi; done'
        )

    @staticmethod
    def default() -> dict[str, dict[str, Any]]:
        return {}

    def process(self, output: list[str]) -> dict[str, dict[str, Any]]:
        lines = (line.strip().split(" ", 2) for line in output)
        return {
            path: {"sha256": digest, "stamped": known == "stamped"} for digest, known, path in lines
        }


class Certificates(FactBase[list[str]]):
    """Returns the SHA-256 of each certificate authority that an operator added to the host."""

    def command(self) -> str:
        return (
            "find /usr/local/share/ca-certificates -name '*.crt' -exec sha256sum {} + 2>/dev/null "
            "| cut -d' ' -f1 | sort"
        )

    @staticmethod
    def default() -> list[str]:
        return []

    def process(self, output: list[str]) -> list[str]:
        return [line.strip() for line in output]


class FileStates(FactBase[dict[str, str]]):
    """Returns ``MODE OWNER SHA-256`` by path, of those files that exist.

    + paths: files
    """

    def command(self, paths: list[str]) -> str:
        listed = " ".join(shlex.quote(path) for path in paths)
        return (
            f'for path in {listed}; do if [ -f "$path" ]; then '
            'digest=$(sha256sum < "$path"); echo "$(stat -c "%a %u" "$path") ${digest%% *} $path"; '
            "fi; done"
        )

    @staticmethod
    def default() -> dict[str, str]:
        return {}

    def process(self, output: list[str]) -> dict[str, str]:
        states = {}
        for line in output:
            mode, owner, digest, path = line.strip().split(" ", 3)
            states[path] = f"{mode} {owner} {digest}"
        return states


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


CONTAINER_FORMAT = (
    '{"status":{{json .State.Status}},'
    '"health":{{if .State.Health}}{{json .State.Health.Status}}{{else}}null{{end}},'
    '"labels":{{json .Config.Labels}},"ports":{{json .HostConfig.PortBindings}},'
    '"image":{{json .Image}}}'
)


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


class VoiceReport(FactBase[dict[str, Any] | None]):
    """Returns the report of the check program, run on the host from the service's own image.

    It runs in the host's network, so that a loopback bind is reached. ``{"error": …}`` says that
    the program itself could not run; None, that there is no Docker yet.

    + image: image of the service
    + url: where the voice listens, as the host sees it
    + key_file: file on the host that holds the server key, if one is demanded
    """

    def command(self, image: str, url: str, key_file: str | None = None) -> StringCommand:
        mount = ["--volume", f"{key_file}:/run/secrets/server_key:ro"] if key_file else []
        key = ["--key-file", "/run/secrets/server_key"] if key_file else []
        words = [
            *("docker", "run", "--rm", "--network", "host", "--read-only", "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges", "--pull", "never", *mount),
            *(image, "python", "-m", "checks", url, "--json", "-"),
            *("--latency-requests", str(LATENCY_REQUESTS), *key),
        ]
        return StringCommand(f"timeout {CHECKS_TIMEOUT_SECONDS}", shlex.join(words), "2>&1 || true")

    def requires_command(self, *_args: object, **_kwargs: object) -> str:
        return "docker"

    def process(self, output: list[str]) -> dict[str, Any] | None:
        text = "\n".join(output).strip()
        try:
            report, _ = json.JSONDecoder().raw_decode(text, max(text.find("{"), 0))
        except ValueError:
            return {"error": text or "it ended without a word"}
        return dict(report)


class KeyFingerprint(FactBase[str | None]):
    """Returns the fingerprint of the first key in a keyring file, or None.

    + path: the file
    """

    def command(self, path: str) -> str:
        return (
            f"gpg --batch --show-keys --with-colons {shlex.quote(path)} 2>/dev/null "
            "| awk -F: '$1 == \"fpr\" {print $10; exit}'"
        )

    def requires_command(self, *_args: object, **_kwargs: object) -> str:
        return "gpg"

    def process(self, output: list[str]) -> str | None:
        return output[0].strip() if output else None
