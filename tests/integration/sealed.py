"""A network of its own for a program: loopback, and a default route that leads into a capture.

`python -m tests.integration.sealed`, run inside the network, is the capture.
"""

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PROJECT = Path(__file__).resolve().parents[2]
ETH_P_ALL = 3
BEYOND = "192.0.2.1"  # of a range kept for documentation (RFC 5737): nobody is there
NAME_SERVER = "192.0.2.53"
ANYWHERE = ("192.0.2.77", 9)

# No neighbour is asked for and no address is announced on a link without ARP and without generated
# addresses, so that the kernel itself sends nothing, over IPv6 neither.
SETUP = f"""set -e
ip link set lo up
ip link add home type veth peer name away
for link in home away; do ip link set $link addrgenmode none; ip link set $link arp off up; done
ip address add 192.0.2.2/24 dev home
ip route add default via {BEYOND}
if [ -e /proc/net/if_inet6 ]; then
    ip -6 address add 2001:db8::2/64 dev home nodad
    ip -6 route add default via 2001:db8::1 dev home
fi
mount -t tmpfs none /mnt
echo nameserver {NAME_SERVER} > /mnt/resolv.conf
mount --bind /mnt/resolv.conf /etc/resolv.conf
exec "$0" -m tests.integration.sealed
"""


@dataclass
class Sealed:
    """The network, held open by its capture."""

    capture: subprocess.Popen[str]

    def start(self, *command: str, log: IO[str], **environment: str) -> subprocess.Popen[str]:
        """Start a program inside.

        + log: takes what it complains of; a pipe that nobody empties would stop it
        """
        return subprocess.Popen(
            # Entering another mount namespace would change to its root.
            [*self._nsenter(), f"--wd={PROJECT}", "--", *command],
            env={"PATH": os.environ["PATH"], **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )

    def run(self, *command: str) -> str:
        """Run a program inside and give what it printed."""
        with tempfile.TemporaryFile("w+") as log:
            running = self.start(*command, log=log)
            printed, _ = running.communicate()
            log.seek(0)
            assert running.returncode == 0, log.read()
        return printed

    def packets(self) -> list[str]:
        """Give what has left since the last call, but for a packet of our own that ends the list.

        That it is seen proves that the capture sees.
        """
        mark = uuid.uuid4().hex
        self.run(
            sys.executable,
            "-c",
            "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto"
            f"({mark.encode()!r}, {ANYWHERE})",
        )
        assert self.capture.stdout is not None
        seen: list[str] = []
        for line in self.capture.stdout:
            if mark in line:
                return seen
            seen.append(line.strip())
        raise AssertionError("the capture ended")

    def _nsenter(self) -> list[str]:
        user = ["--user", "--preserve-credentials"] if _needs_user() else []
        return ["nsenter", "--target", str(self.capture.pid), "--net", "--mount", *user]


def can_seal() -> bool:
    """Say whether this machine lets us make a network."""
    if shutil.which("ip") is None:
        return False
    return subprocess.run([*_unshare(), "true"], capture_output=True, check=False).returncode == 0


@contextmanager
def sealed_network() -> Iterator[Sealed]:
    """Make a network whose every packet is seen."""
    capture = subprocess.Popen(
        [*_unshare(), "sh", "-c", SETUP, sys.executable],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert capture.stdout is not None
    try:
        assert capture.stdout.readline() == "ready\n", "the network could not be made"
        yield Sealed(capture)
    finally:
        capture.terminate()
        capture.wait()
        capture.stdout.close()


def _needs_user() -> bool:
    return os.geteuid() != 0


def _unshare() -> list[str]:
    return ["unshare", "--net", "--mount", *(["--map-root-user"] if _needs_user() else [])]


def main() -> None:
    """Print one line for each packet that comes out at the far end."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as link:
        link.bind(("away", 0))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            frame = link.recv(65_535)
            sys.stdout.write(f"{described(frame)}\n")
            sys.stdout.flush()


def described(frame: bytes) -> str:
    """Say where a frame goes, and the printable part of what is in it."""
    (kind,) = struct.unpack_from("!H", frame, 12)
    to = {0x0800: (socket.AF_INET, 30, 4), 0x86DD: (socket.AF_INET6, 38, 16)}.get(kind)
    place = f"type {kind:04x}"
    if to is not None:
        family, at, size = to
        with contextlib.suppress(ValueError):
            place = socket.inet_ntop(family, frame[at : at + size])
    inside = "".join(chr(byte) if 0x20 < byte < 0x7F else "." for byte in frame[14:400])
    return f"{place} {len(frame)} {inside}"


if __name__ == "__main__":
    main()
