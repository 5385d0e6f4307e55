"""The fallback chain: one request, several rungs, one deadline. It knows no engine."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass

import numpy as np

from service.audio import SAMPLE_RATE, Samples, check_block, is_silent
from service.engines.engine import Engine, SpeechRequest
from service.errors import (
    AudioError,
    DeadlineError,
    EngineError,
    RungError,
    SpeechCutOffError,
    VoiceOfflineError,
)
from service.text import LONGEST_PAUSE

__all__ = ["Chain", "Speech"]

# Samples; a text may begin with a pause, and a voice with a breath. Who is silent then is mute.
LONGEST_LEAD_IN = int((LONGEST_PAUSE + 2) * SAMPLE_RATE)

UNABLE = ("off", "loading")  # states in which a rung is not asked

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Speech:
    """One rung speaking.

    + engine: who speaks
    + substitution: the voice that stands in for the persona, or None
    + attempts: what each rung did, as in `X-Speech-Attempts`: `csm=timeout;basic=ok`
    + queue_seconds: from the request to the moment this rung took it up
    + first_audio_seconds: from the request to the first verified block
    + blocks: all blocks, the first included, each verified; raises SpeechCutOffError
    """

    engine: str
    substitution: str | None
    attempts: str
    queue_seconds: float
    first_audio_seconds: float
    blocks: AsyncGenerator[Samples]


class Chain:
    """Rungs in the order in which they are asked.

    + deadline_seconds: from the request to the first verified block, over all rungs
    + stall_seconds: from one block to the next
    """

    def __init__(
        self, rungs: Sequence[Engine], *, deadline_seconds: float, stall_seconds: float
    ) -> None:
        self.rungs = tuple(rungs)
        self._deadline_seconds = deadline_seconds
        self._stall_seconds = stall_seconds
        self._permits = {rung.name: asyncio.Semaphore(rung.permits) for rung in rungs}

    @property
    def speaker(self) -> Engine | None:
        """The first rung that was able to speak when last observed."""
        return next((rung for rung in self.rungs if rung.state.name == "ready"), None)

    @property
    def loading(self) -> Engine | None:
        """A rung that stands before the speaker and is not there yet."""
        for rung in self.rungs:
            if rung.state.name == "loading":
                return rung
            if rung.state.name == "ready":
                break
        return None

    @asynccontextmanager
    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Speech]:
        """Find the first rung that speaks; leaving the context ends its work.

        Raises VoiceOfflineError when every rung failed, DeadlineError when time ran out.
        Once a rung has spoken no other one is asked.
        """
        async with AsyncExitStack() as held:
            yield await self._first_to_speak(request, held)

    async def _first_to_speak(self, request: SpeechRequest, held: AsyncExitStack) -> Speech:
        clock = asyncio.get_running_loop().time
        asked = clock()
        states = [(rung, rung.state.name) for rung in self.rungs]
        attempts = [f"{rung.name}={state}" for rung, state in states if state in UNABLE]
        able = [rung for rung, state in states if state not in UNABLE]
        in_time = True
        for after, rung in enumerate(able, start=1 - len(able)):
            left = asked + self._deadline_seconds - clock()
            # A rung that hangs leaves half of what is left to those after it.
            patience = left / 2 if after else left
            async with AsyncExitStack() as trying:
                try:
                    async with asyncio.timeout(patience) as limit:
                        await trying.enter_async_context(self._permits[rung.name])
                        taken_up = clock()
                        blocks = _checked(rung, request)
                        await trying.enter_async_context(aclosing(blocks))
                        first = await self._first_block(blocks, limit)
                except (TimeoutError, RungError) as error:
                    in_time = isinstance(error, RungError)
                    attempts.append(f"{rung.name}={_outcome(rung, error, 'timeout')}")
                    continue
                attempts.append(f"{rung.name}=ok")
                speech = Speech(
                    engine=rung.name,
                    substitution=rung.substitution(request.persona),
                    attempts=";".join(attempts),
                    queue_seconds=taken_up - asked,
                    first_audio_seconds=clock() - asked,
                    blocks=self._without_stalls(rung, attempts[:-1], first, blocks),
                )
                await held.enter_async_context(trying.pop_all())
                await held.enter_async_context(aclosing(speech.blocks))
                return speech
        raise self._nobody_spoke(";".join(attempts), in_time=in_time)

    async def _first_block(
        self, blocks: AsyncGenerator[Samples], limit: asyncio.Timeout
    ) -> Samples:
        """Join blocks until something is heard in them, and give the joined block."""
        lead_in = np.zeros(0, dtype=np.float32)
        async for block in blocks:
            if not block.size:
                # The engine speaks, and holds back what it says until it is whole.
                limit.reschedule(asyncio.get_running_loop().time() + self._stall_seconds)
            lead_in = np.concatenate([lead_in, block])
            if not is_silent(lead_in):
                return lead_in
            if lead_in.size > LONGEST_LEAD_IN:
                break
        raise AudioError("nothing can be heard", "silent")

    async def _without_stalls(
        self,
        rung: Engine,
        before: list[str],
        first: Samples,
        blocks: AsyncGenerator[Samples],
    ) -> AsyncGenerator[Samples]:
        yield first
        while True:
            try:
                async with asyncio.timeout(self._stall_seconds):
                    block = await anext(blocks)
            except StopAsyncIteration:
                return
            except (TimeoutError, RungError) as error:
                attempts = ";".join([*before, f"{rung.name}={_outcome(rung, error, 'stalled')}"])
                raise SpeechCutOffError(
                    f"the voice broke off: {attempts}", "send the request again", attempts=attempts
                ) from error
            if block.size:
                yield block

    def _nobody_spoke(self, attempts: str, *, in_time: bool) -> VoiceOfflineError | DeadlineError:
        if not in_time:
            return DeadlineError(
                f"no rung spoke within {self._deadline_seconds:g} s: {attempts}",
                "try again, or raise SESAME_DEADLINE_SECONDS",
                attempts=attempts,
            )
        return VoiceOfflineError(
            f"no rung could speak: {attempts or 'there is none'}",
            "GET /health says what each rung lacks",
            attempts=attempts,
        )


async def _checked(rung: Engine, request: SpeechRequest) -> AsyncGenerator[Samples]:
    """Yield a rung's blocks, each finite and plausible, and raise nothing but RungError.

    They end where the request says at the latest.
    """
    longest = request.longest_seconds
    left = None if longest is None else round(longest * SAMPLE_RATE)
    try:
        async with aclosing(rung.speak(request)) as blocks:
            async for block in blocks:
                check_block(block)
                yield block[:left]
                if left is not None:
                    left -= block.size
                    if left <= 0:
                        return
    except RungError:
        raise
    except Exception as error:
        # A defect in one engine must not silence the next.
        logger.exception("rung %s has a defect", rung.name)
        raise EngineError(f"{rung.name} has a defect") from error


def _outcome(rung: Engine, error: TimeoutError | RungError, late: str) -> str:
    outcome = error.outcome if isinstance(error, RungError) else late
    logger.warning("rung %s: %s: %s", rung.name, outcome, error)
    return outcome
