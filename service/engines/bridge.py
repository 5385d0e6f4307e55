"""A synchronous client's exchanges, carried out on the event loop, where they can be cancelled.

`huggingface_hub` fetches with a synchronous httpx2 client, in threads. A thread that waits for a
socket cannot be stopped; one that waits for us can. It knows no API.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpx2

__all__ = ["CALL", "Answer", "Bridge", "Call", "CallClosedError"]


class CallClosedError(Exception):
    """Nobody waits for the work of this thread any more."""


@dataclass(frozen=True)
class Answer:
    """A whole answer: `content_type` as the server says it."""

    status: int
    content_type: str
    body: bytes


Send = Callable[[httpx2.Request], Coroutine[Any, Any, Answer]]


class Call:
    """The exchanges of one piece of work in a thread. Made and closed on the event loop.

    + send: carries out one exchange, on the event loop
    + synthesis: whether text was posted; + last: the latest answer
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._closed = False
        self._under_way: Future[Answer] | None = None
        self.synthesis = False
        self.last: Answer | None = None

    def exchange(self, request: httpx2.Request) -> Answer:
        """Carry out one exchange, from a thread. Raises what `send` raises, or CallClosedError."""
        with self._lock:
            if self._closed:
                raise CallClosedError
            self.synthesis = self.synthesis or request.method == "POST"
            self._under_way = asyncio.run_coroutine_threadsafe(self._send(request), self._loop)
        try:
            self.last = self._under_way.result()
        except CancelledError:
            raise CallClosedError from None
        return self.last

    def close(self) -> None:
        """End the exchange that is under way, and let no other begin."""
        with self._lock:
            self._closed = True
        if self._under_way is not None:
            self._under_way.cancel()


CALL: ContextVar[Call] = ContextVar("CALL")
"""The piece of work that a thread is at."""


class Bridge(httpx2.BaseTransport):
    """The transport of a client that all threads share."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Let the work that this thread is at carry out the exchange."""
        request.read()
        answer = CALL.get().exchange(request)
        headers = {"Content-Type": answer.content_type} if answer.content_type else {}
        return httpx2.Response(answer.status, headers=headers, content=answer.body)
