"""A kept-alive HTTP/1.1 connection that costs as little as it can. It knows only what we answer."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.processes import HOST

__all__ = ["Answer", "Connection", "connected", "get", "post"]


@dataclass(frozen=True)
class Answer:
    """One answer.

    + first, whole: seconds from the request to the first bytes of the body, and to its end
    """

    head: bytes
    body: bytes
    first: float
    whole: float


@dataclass(frozen=True)
class Connection:
    """A connection on which one request follows the answer to the one before."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes) -> Answer:
        """Send a request and read the whole answer.

        Raises RuntimeError for a status that is not 200, and IncompleteReadError for an answer
        that is cut off.
        """
        started = time.perf_counter()
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"the answer was not 200: {head.decode('latin-1')}")
        headers = head.lower()
        if b"\r\ntransfer-encoding: chunked\r\n" in headers:
            first, body = await self._chunks()
        else:
            length = int(headers.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
            begin = await self.reader.readexactly(1)
            first = time.perf_counter()
            body = begin + await self.reader.readexactly(length - 1)
        return Answer(head, body, first - started, time.perf_counter() - started)

    async def _chunks(self) -> tuple[float, bytes]:
        first = 0.0
        chunks: list[bytes] = []
        while True:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            chunk = await self.reader.readexactly(size + 2)
            first = first or time.perf_counter()
            if not size:
                return first, b"".join(chunks)
            chunks.append(chunk[:-2])


@asynccontextmanager
async def connected(port: int) -> AsyncGenerator[Connection]:
    """Connect to a port of this machine."""
    reader, writer = await asyncio.open_connection(HOST, port, limit=2**20)
    try:
        yield Connection(reader, writer)
    finally:
        writer.close()
        await writer.wait_closed()


def get(path: str) -> bytes:
    """Write a request."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(path: str, body: Mapping[str, Any]) -> bytes:
    """Write a request with a body of JSON, to be answered with nothing that was kept."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\nCache-Control: no-cache\r\n\r\n"
    )
    return head.encode() + content
