"""How the service comes to its end: what is being spoken is finished, and nothing new is begun.

It knows no signal and no server: service/serving.py tells it when to begin and when to break off.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.borders import note
from service.errors import ShuttingDownError

__all__ = ["STOPPING", "Answers", "Draining"]

STOPPING = "the service is shutting down"
GRACE_ENDED = f"{STOPPING}, and its grace has ended"
HINT = "send the request again after Retry-After: the service may be back by then"

T = TypeVar("T")


@dataclass(eq=False)
class _Answer:
    """One answer that is being spoken.

    + complete: whether its last byte has been handed over
    + broken_off: whether its speech ended with the grace, before its own end
    """

    complete: bool = False
    broken_off: bool = False


class Draining:
    """What is being spoken, and since the end was announced, what became of it.

    + grace_seconds: what is being spoken may take, from the announcement on; at least 0
    + finished: answers that came to their end since then
    + cut_off: answers that did not
    """

    def __init__(self, grace_seconds: float) -> None:
        self._grace_seconds = grace_seconds
        self._ends: float | None = None
        self._spoken: set[_Answer] = set()
        self._limits: set[asyncio.Timeout] = set()
        self.finished = 0
        self.cut_off = 0

    @property
    def begun(self) -> bool:
        """Whether new speech is refused."""
        return self._ends is not None

    @property
    def over(self) -> bool:
        """Whether there is nothing left to wait for: nothing is spoken, or no grace is left."""
        return self.begun and (not self._spoken or self.seconds_left == 0)

    @property
    def seconds_left(self) -> float:
        """What is left of the grace."""
        if self._ends is None:
            return self._grace_seconds
        return max(0.0, self._ends - asyncio.get_running_loop().time())

    @property
    def speaking(self) -> int:
        """How many answers are being spoken."""
        return len(self._spoken)

    def begin(self) -> None:
        """Refuse new speech from now on, and let what is being spoken have the grace."""
        self._end_in(self._grace_seconds)

    def break_off(self) -> None:
        """Refuse new speech, and let what is being spoken have no more time."""
        self._end_in(0)

    def _end_in(self, seconds: float) -> None:
        self._ends = asyncio.get_running_loop().time() + seconds
        for limit in self._limits:
            limit.reschedule(self._ends)

    def admit(self, scope: Scope) -> None:
        """Count the answer to a request among the spoken ones; raise ShuttingDownError if late."""
        if self.begun:
            raise ShuttingDownError(STOPPING, HINT)
        self._spoken.add(scope["state"]["answer"])

    @asynccontextmanager
    async def within_grace(self, scope: Scope) -> AsyncGenerator[None]:
        """Do a step of an answer. Raises ShuttingDownError when the grace ends before the step."""
        try:
            async with asyncio.timeout_at(self._ends) as limit:
                self._limits.add(limit)
                try:
                    yield
                finally:
                    self._limits.discard(limit)
        except TimeoutError:
            if not limit.expired():
                raise
            scope["state"]["answer"].broken_off = True
            raise ShuttingDownError(GRACE_ENDED, HINT) from None

    async def each(self, scope: Scope, pieces: AsyncGenerator[T]) -> AsyncGenerator[T]:
        """Give the pieces of an answer, each of them a step."""
        async with aclosing(pieces):
            while True:
                async with self.within_grace(scope):
                    try:
                        piece = await anext(pieces)
                    except StopAsyncIteration:
                        return
                yield piece

    def ended(self, answer: _Answer) -> bool:
        """Count how an answer ended that may have been spoken; tell whether it was cut off."""
        if answer not in self._spoken:
            return False
        late = self.over
        self._spoken.discard(answer)
        cut_off = answer.broken_off or (late and not answer.complete)
        self.cut_off += cut_off
        # Who left of himself counts as neither.
        self.finished += self.begun and answer.complete and not cut_off
        return cut_off


class Answers:
    """Follow each answer to its last byte."""

    def __init__(self, app: ASGIApp, draining: Draining) -> None:
        self._app = app
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note when its answer has ended."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = scope["state"]["answer"] = _Answer()

        async def send_and_note(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                answer.complete = True

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            if self._draining.ended(answer):
                note(scope, cut_off=GRACE_ENDED)
