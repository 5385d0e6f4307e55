"""Reads the kernel's table of listening sockets. Knows nothing of pyinfra."""

import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Listener:
    """One listening TCP socket."""

    address: Address
    port: int
    inode: int

    def stands_in_the_way_of(self, bind: Address, port: int) -> bool:
        """Say whether ``bind:port`` cannot be bound while this socket listens."""
        if self.port != port:
            return False
        return self.address.is_unspecified or bind.is_unspecified or self.address == bind


def parse_listeners(lines: Iterable[str]) -> list[Listener]:
    """Parse lines of ``/proc/net/tcp`` and ``/proc/net/tcp6``, whose form is in proc(5)."""
    listeners = []
    for line in lines:
        fields = line.split()
        address, _, port = fields[1].partition(":")
        listeners.append(Listener(_parse_address(address), int(port, 16), int(fields[9])))
    return listeners


def _parse_address(digits: str) -> Address:
    """Parse 8 or 32 hexadecimal digits: 32-bit words, each with its bytes reversed."""
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    packed = b"".join(struct.pack("<I", word) for word in words)
    if len(words) == 1:
        return ipaddress.IPv4Address(packed)
    address = ipaddress.IPv6Address(packed)
    return address.ipv4_mapped or address
