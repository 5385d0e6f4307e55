"""One service over HTTP, every exchange bounded in time and size. Knows no route of it.

Follows no redirect, and hands the server key only to requests that ask for it.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

from checks.address import is_loopback
from checks.report import CheckError, Timing, Verdict, printable

MAX_BODY_BYTES = 8 * 2**20
"""Over 80 s of 48 kHz 16-bit mono audio; no answer to these checks is as long."""

RUN_FACTOR = 4
"""A whole run takes at most this many times the time limit of one answer."""

_QUOTE_LENGTH = 160
_HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Cache-Control": "no-cache",
    "User-Agent": "sesame-checks",
}


class UnreachableError(CheckError):
    """No request could be handed over: nothing is known about the service."""


class TimeSpentError(UnreachableError):
    """The time of a whole run is over: nothing more is asked."""


class BrokenAnswerError(CheckError):
    """The connection stood and no whole answer came. `started` tells whether a status line did."""

    verdict = Verdict.NOT_MET

    def __init__(self, detail: str, next_step: str, *, started: bool) -> None:
        super().__init__(detail, next_step)
        self.started = started


class SlowAnswerError(BrokenAnswerError):
    """The answer was not whole within its time limit."""


@dataclass(frozen=True)
class Arrival:
    """A piece of a body: seconds since its request was sent, and bytes that had come by then."""

    seconds: float
    size: int


@dataclass(frozen=True)
class Answer:
    """One whole HTTP answer. Its body is as it came: never decompressed."""

    status: int
    headers: httpx.Headers
    body: bytes
    timing: Timing
    arrivals: tuple[Arrival, ...] = ()

    @property
    def media_type(self) -> str:
        """The `Content-Type` without its parameters, in lower case."""
        content_type: str = self.headers.get("Content-Type", "")
        return content_type.partition(";")[0].strip().lower()

    def json_object(self) -> dict[str, object] | None:
        """Return the body when it is a JSON object, whatever its `Content-Type` says."""
        try:
            document = json.loads(self.body, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return None
        return document if isinstance(document, dict) else None


def _refuse_constant(name: str) -> None:
    """Refuse NaN and the infinities, which Python reads and JSON does not have."""
    raise ValueError(name)


@dataclass
class _Progress:
    """How far one exchange has come: its head sent, the answer's head seen, body bytes read."""

    place: str
    seconds: float
    sent: bool = False
    started: bool = False
    size: int = 0

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Note that a request is on its way. A proxy's CONNECT is not yet our request."""
        if event == "http11.send_request_headers.started" and info["request"].method != b"CONNECT":
            self.sent = True


class Client:
    """A session with the service at `base`.

    + base: an address from `address.normalise`
    + key: the server key, or empty
    + time_limit: seconds that one answer may take, from the first packet to the last byte
    """

    def __init__(self, base: str, *, key: str = "", time_limit: float = 30.0) -> None:
        self.base = base
        self.time_limit = time_limit
        self.has_key = bool(key)
        self._key = key
        self._deadline = time.monotonic() + RUN_FACTOR * time_limit
        self._http = _open(base, time_limit)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def get(self, path: str, *, limit: float | None = None) -> Answer:
        """Ask for `path` without the key, within `limit` seconds (default: the client's)."""
        return await self._exchange("GET", path, limit)

    async def get_with_key(self, path: str, *, limit: float | None = None) -> Answer:
        """Ask for `path` with the key, within `limit` seconds."""
        return await self._exchange("GET", path, limit, self._shown_key())

    async def post_json(self, path: str, body: bytes, *, limit: float | None = None) -> Answer:
        """Post `body` as JSON to `path`, with the key, within `limit` seconds."""
        headers = [(b"Content-Type", b"application/json"), *self._shown_key()]
        return await self._exchange("POST", path, limit, headers, body)

    def _shown_key(self) -> list[tuple[bytes, bytes]]:
        return [(b"Authorization", b"Bearer " + self._key.encode())] if self._key else []

    def quote(self, foreign: str) -> str:
        """Return what a server said, fit to be shown: one line, not long, and without the key."""
        if self._key:
            foreign = foreign.replace(self._key, "[key]")
        shown = printable(foreign)
        return shown if len(shown) <= _QUOTE_LENGTH else shown[:_QUOTE_LENGTH] + "…"

    @property
    def seconds_left(self) -> float:
        """How much of the time of the whole run is left."""
        return self._deadline - time.monotonic()

    async def _exchange(
        self,
        method: str,
        path: str,
        limit: float | None,
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: bytes | None = None,
    ) -> Answer:
        seconds = min(limit or self.time_limit, self.time_limit, self.seconds_left)
        if seconds <= 0:
            raise TimeSpentError(
                f"not tried: the {RUN_FACTOR * self.time_limit:g} s of a whole run are spent",
                "Look at the slow answers first, or give --timeout more seconds.",
            )
        progress = _Progress(f"{method} {path}", seconds)
        request = self._http.build_request(
            method,
            self.base + path,
            headers=headers,
            content=body,
            extensions={"trace": progress.trace},
        )
        try:
            async with asyncio.timeout(seconds):
                return await self._read(request, progress)
        except (TimeoutError, UnicodeError, httpx.TransportError) as error:
            raise _explained(error, progress, self.base) from error

    async def _read(self, request: httpx.Request, progress: _Progress) -> Answer:
        begun = time.monotonic()
        pieces: list[bytes] = []
        arrivals: list[Arrival] = []
        response = await self._http.send(request, stream=True)
        async with contextlib.aclosing(response):
            progress.started = True
            async for piece in response.aiter_raw():
                pieces.append(piece)
                progress.size += len(piece)
                arrivals.append(Arrival(time.monotonic() - begun, progress.size))
                if progress.size > MAX_BODY_BYTES:
                    raise BrokenAnswerError(
                        f"{progress.place} answered with more than {MAX_BODY_BYTES // 2**20} MiB",
                        "Look into the service's log for a synthesis that does not end.",
                        started=True,
                    )
        total = time.monotonic() - begun
        timing = Timing(first_byte=arrivals[0].seconds if arrivals else total, total=total)
        body = b"".join(pieces)
        return Answer(response.status_code, response.headers, body, timing, tuple(arrivals))


def _open(base: str, time_limit: float) -> httpx.AsyncClient:
    loopback = is_loopback(base)
    verify: bool | ssl.SSLContext = True
    if loopback and base.startswith("http:"):
        # No TLS can be met there; a context that trusts nobody spares reading every authority.
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        return httpx.AsyncClient(
            timeout=time_limit, trust_env=not loopback, headers=_HEADERS, verify=verify
        )
    except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
        raise UnreachableError(
            "the proxy or certificate settings of the environment cannot be used",
            "Correct or unset HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE and SSL_CERT_DIR.",
        ) from error


def _explained(error: Exception, progress: _Progress, base: str) -> CheckError:
    timed_out = isinstance(error, (TimeoutError, httpx.TimeoutException))
    if not progress.sent or isinstance(error, httpx.ProxyError):
        reason = f"none within {progress.seconds:.3g} s" if timed_out else _connect_reason(error)
        return UnreachableError(
            f"no connection to {base}: {reason}",
            "Check the address and that the service runs: docker ps, docker logs <container>.",
        )
    if timed_out:
        return SlowAnswerError(
            f"{progress.place} gave no whole answer within {progress.seconds:.3g} s"
            f" ({progress.size} bytes came)",
            "Look into the service's log and at the host's load; --timeout gives it longer.",
            started=progress.started,
        )
    return BrokenAnswerError(
        f"{progress.place} was cut off after {progress.size} bytes of its body"
        if progress.started
        else f"{progress.place} ended without an HTTP answer",
        "Look into the service's log for the failure behind it.",
        started=progress.started,
    )


def _connect_reason(error: BaseException) -> str:
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return "its name is not known here"
        if isinstance(cause, ssl.SSLError):
            return f"TLS failed ({printable(cause.reason or str(cause))})"
        if isinstance(cause, ConnectionRefusedError):
            return "refused"
    return printable(str(error)) or type(error).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
