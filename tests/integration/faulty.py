"""A server that speaks for every rung on other hosts, and fails at random in every way it can."""

import asyncio
import json
import random
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np

from service.audio import SAMPLE_RATE, to_pcm16, wav_header

__all__ = ["FAULTS", "FaultyServer", "faulty_server"]

PIECE = 9_600  # bytes: a fifth of a second

Act = Callable[[asyncio.StreamWriter], Awaitable[None]]


def _speech(seconds: float = 1.0, loudness: float = 0.4) -> bytes:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    swell = np.sin(2 * np.pi * 2 * time) ** 2
    hum = loudness * swell * np.sin(2 * np.pi * 200 * time)
    return to_pcm16(hum.astype(np.float32))


def _nan_wav() -> bytes:
    samples = np.full(SAMPLE_RATE, np.nan, dtype="<f4").tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 3, 1, SAMPLE_RATE, SAMPLE_RATE * 4, 4, 32)
    data = struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(data), b"WAVE") + form + data


GOOD = _speech()
SILENCE = _speech(loudness=0)
NAN = _nan_wav()


def _head(status: str, kind: str, *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole(status: str, kind: str, body: bytes, *more: str) -> Act:
    async def act(writer: asyncio.StreamWriter) -> None:
        writer.write(_head(status, kind, f"Content-Length: {len(body)}", *more) + body)
        await writer.drain()

    return act


def streamed(pieces: int, *, pause: float = 0.0, then: str = "end") -> Act:
    async def act(writer: asyncio.StreamWriter) -> None:
        writer.write(_head("200 OK", "audio/wav", "Transfer-Encoding: chunked"))
        audio = wav_header(None, SAMPLE_RATE) + GOOD
        for start in range(0, PIECE * pieces, PIECE):
            piece = audio[start : start + PIECE]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await writer.drain()
            await asyncio.sleep(pause)
        if then == "stall":
            await asyncio.sleep(30)
        elif then == "end":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        elif then == "reset":
            writer.transport.abort()

    return act


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(_head("200 OK", "audio/wav", "Content-Length: 96044"))
    for byte in wav_header(len(GOOD), SAMPLE_RATE):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.2)


async def silent(writer: asyncio.StreamWriter) -> None:
    del writer
    await asyncio.sleep(30)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


FAULTS: dict[str, Act] = {
    "good": streamed(6),
    "good and whole": whole("200 OK", "audio/wav", wav_header(len(GOOD), SAMPLE_RATE) + GOOD),
    "slow and good": streamed(6, pause=0.1),
    "empty": whole("200 OK", "audio/wav", b""),
    "chat": whole("200 OK", "application/json", b'[{"generated_text":"Hi"}]'),
    "page": whole("200 OK", "text/html", b"<html></html>"),
    "silence": whole("200 OK", "audio/wav", wav_header(len(SILENCE), SAMPLE_RATE) + SILENCE),
    "not a number": whole("200 OK", "audio/wav", NAN),
    "cut short": whole("200 OK", "audio/wav", wav_header(len(GOOD), SAMPLE_RATE) + GOOD[:9_000]),
    "failed": whole("500 Internal Server Error", "application/json", b"{}"),
    "bad gateway": whole("502 Bad Gateway", "text/html", b"<html></html>"),
    "busy": whole("429 Too Many Requests", "application/json", b"{}", "Retry-After: 1"),
    "unspeakable": whole("422 Unprocessable", "application/json", b"{}"),
    "elsewhere": whole("307 Temporary Redirect", "text/plain", b"", "Location: http://x.invalid/"),
    "stalls": streamed(3, then="stall"),
    "reset": streamed(3, then="reset"),
    "ends early": streamed(2, then="close"),
    "drips": drip,
    "says nothing": silent,
    "hangs up": hang_up,
}
LATCHING = ("chat", "page", "elsewhere")
"""What latches a breaker for good: rare, and the servers are told to forget it."""


class FaultyServer:
    """Answers each request to speak with what chance gives; questions it answers well."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 (keeps no secret)
        self.port = 0
        self.acted: dict[str, int] = {}
        self.serving: set[asyncio.Task[None]] = set()

    def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, in a task that is known."""
        task = asyncio.create_task(self._answer(reader, writer))
        self.serving.add(task)
        task.add_done_callback(self.serving.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = head.partition("content-length:")[2].partition("\r\n")[0].strip()
            await reader.readexactly(int(length or 0))
            act = self._act() if head.startswith("post") else _question(head)
            await act(writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _act(self) -> Act:
        names = [name for name in FAULTS if name not in LATCHING]
        name = "good" if self._random.random() < 0.3 else self._random.choice(names)
        self.acted[name] = self.acted.get(name, 0) + 1
        return FAULTS[name]


def _question(head: str) -> Act:
    health = {"status": "healthy", "model_loaded": True, "engine": "csm", "voices": ["maya"]}
    body = health if "/health" in head else {"character_count": 1, "character_limit": 10_000}
    return whole("200 OK", "application/json", json.dumps(body).encode())


@asynccontextmanager
async def faulty_server(seed: int) -> AsyncIterator[FaultyServer]:
    """Serve on a free port of loopback."""
    faulty = FaultyServer(seed)
    server = await asyncio.start_server(faulty.serve, "127.0.0.1", 0)
    faulty.port = server.sockets[0].getsockname()[1]
    async with server:
        yield faulty
        for task in faulty.serving:
            task.cancel()
        await asyncio.gather(*faulty.serving, return_exceptions=True)
