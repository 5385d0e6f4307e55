"""What a host is: who we are on it, its resources, what listens on it."""

import shlex
from typing import Any

from pyinfra.api import FactBase

from provision._listeners import Listener, parse_listeners


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
