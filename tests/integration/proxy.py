"""A proxy that asks for a name and a password, and notes whom it was to ask."""

import asyncio
import base64
import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

__all__ = ["Proxy", "proxy"]

USER, PASSWORD = "maya", "a-password-of-the-proxy"
REFUSED = b"HTTP/1.1 407 Who are you\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Proxy:
    """A proxy that runs.

    + url: with name and password
    + asked: whom it was asked to ask
    """

    url: str
    asked: set[str] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on."""
        async with _closing(writer):
            with suppress(OSError, asyncio.IncompleteReadError, ValueError):
                await self._pass_on(reader, writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        method, target, version = first.split(" ")
        shown = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if f"proxy-authorization: basic {shown}".lower() not in [line.lower() for line in lines]:
            writer.write(REFUSED)
            await writer.drain()
            return
        place = urlsplit(f"//{target}" if method == "CONNECT" else target)
        self.asked.add(place.hostname or "")
        there, back = await asyncio.open_connection(place.hostname, place.port or 80)
        async with _closing(back):
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                path = place.path + (f"?{place.query}" if place.query else "")
                own = ("proxy-", "connection:")
                kept = [line for line in lines if not line.lower().startswith(own)]
                asking = "\r\n".join([f"{method} {path} {version}", *kept, "Connection: close"])
                back.write(f"{asking}\r\n\r\n".encode("latin-1"))
            await asyncio.gather(_pour(reader, back), _pour(there, writer))


@asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncGenerator[None]:
    try:
        yield
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _pour(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await source.read(65_536):
            target.write(piece)
            await target.drain()
        target.write_eof()


@contextmanager
def proxy(address: str) -> Iterator[Proxy]:
    """Run a proxy at an address of this machine."""
    running, listener = Proxy(""), socket.create_server((address, 0))
    running.url = f"http://{USER}:{PASSWORD}@{address}:{listener.getsockname()[1]}"
    ended = threading.Event()

    async def serve() -> None:
        async with await asyncio.start_server(running.serve, sock=listener):
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield running
    finally:
        ended.set()
        thread.join()
