"""How many answers a rung speaks at once, and in which order the others wait."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic

__all__ = ["Permits"]

CHARACTER_SECONDS = 1 / 15
"""About as long as a character is spoken, in English."""

WEIGHT = 0.2  # of the newest answer in the mean of how long a permit is kept
FIRST_GUESS = 2.0  # seconds for which a permit is kept, before any has been given back


@dataclass(order=True)
class _Waiting:
    """One who waits.

    + due: when its text would have been said, had it begun at once
    """

    due: float
    number: int
    turn: asyncio.Future[None] = field(compare=False)


class Permits:
    """Permits to speak.

    Of those who wait, the one goes first that would have ended first, had each begun when it came:
    a short text passes long ones, and a long one waits for no text that came later than its own
    length after it. That is fair queueing with a flow for each request (Demers, Keshav and
    Shenker, "Analysis and Simulation of a Fair Queueing Algorithm", 1989).

    + count: how many there are
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.taken = 0
        self._waiting: list[_Waiting] = []
        self._numbers = itertools.count()
        self._kept_seconds = FIRST_GUESS

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @property
    def seconds_until_free(self) -> float:
        """After how long one who came now would probably be let in, from what was seen lately."""
        return (self.waiting + 1) * self._kept_seconds / self.count

    @asynccontextmanager
    async def hold(self, characters: int) -> AsyncGenerator[None]:
        """Wait for a permit and keep it inside the context.

        + characters: of the text
        """
        await self._take(characters)
        began = monotonic()
        try:
            yield
        finally:
            self._kept_seconds += WEIGHT * (monotonic() - began - self._kept_seconds)
            self._give_on()

    async def _take(self, characters: int) -> None:
        if self.taken < self.count:
            self.taken += 1
            return
        due = monotonic() + characters * CHARACTER_SECONDS
        turn = asyncio.get_running_loop().create_future()
        waiting = _Waiting(due, next(self._numbers), turn)
        heapq.heappush(self._waiting, waiting)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # It was let in, and left in the same moment.
                self._give_on()
            elif waiting in self._waiting:
                self._waiting.remove(waiting)
                heapq.heapify(self._waiting)
            raise

    def _give_on(self) -> None:
        while self._waiting:
            turn = heapq.heappop(self._waiting).turn
            # Who has just left may not have had its turn to say so.
            if not turn.done():
                turn.set_result(None)
                return
        self.taken -= 1
