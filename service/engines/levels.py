"""How loud each rung speaks, so that nobody reaches for the volume when one stands in for another.

The first rung is never altered. The others are brought to its level by one gain for an answer: a
gain that follows the speech would pump. It knows no chain.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

import numpy as np

from service.audio import Samples
from service.loudness import Meter, amplify, loudness_of

__all__ = ["Levels"]

UNHEARD = {"csm": -24.0, "basic": -20.0}
"""LUFS of a rung that has not been heard yet: of the clips that CSM imitates as `maya` and `warm`
(the published ones, measured with `service.loudness`), and of what espeak-ng says. Of others none
is known: their first answer in a stream is passed on as it is."""

WEIGHT = 0.3  # of the newest answer; one shouted sentence does not move the level far
MOST = 12.0  # decibels, louder or softer: what is further off is no matter of taste


class Levels:
    """What was heard of each rung and voice, in LUFS, and the gain that follows from it.

    + first: names the rung that would speak if it could, or None
    """

    def __init__(self, first: Callable[[], str | None]) -> None:
        self._first = first
        self._heard: dict[tuple[str, str], float] = {}

    async def whole(self, blocks: Sequence[Samples], rung: str, voice: str) -> list[Samples]:
        """Give an answer that is all there, at the level of the first rung.

        + rung: who spoke
        + voice: name of the persona
        """
        # Off the loop: minutes of speech take tenths of a second.
        loudness = await asyncio.to_thread(lambda: loudness_of(np.concatenate(blocks)))
        if loudness is not None:
            self._learn(rung, voice, loudness)
        gain = self._gain(rung, voice, loudness)
        return [amplify(block, gain) for block in blocks]

    async def streamed(
        self, blocks: AsyncGenerator[Samples], rung: str, voice: str
    ) -> AsyncGenerator[Samples]:
        """Yield an answer while it is being spoken, at the level that is known of its rung."""
        gain = self._gain(rung, voice, self._level(rung, voice))
        meter = Meter()
        try:
            async with aclosing(blocks):
                async for block in blocks:
                    yield amplify(block, gain)
                    meter.hear(block)
        finally:
            if meter.loudness is not None:
                self._learn(rung, voice, meter.loudness)

    def _gain(self, rung: str, voice: str, own: float | None) -> float:
        """Give the decibels that bring what has a level of its own to that of the first rung."""
        first = self._first()
        wanted = None if first in {None, rung} else self._level(str(first), voice)
        if own is None or wanted is None:
            return 0.0
        return min(max(wanted - own, -MOST), MOST)

    def _level(self, rung: str, voice: str) -> float | None:
        return self._heard.get((rung, voice), UNHEARD.get(rung))

    def _learn(self, rung: str, voice: str, loudness: float) -> None:
        before = self._heard.get((rung, voice), loudness)
        self._heard[rung, voice] = before + WEIGHT * (loudness - before)
