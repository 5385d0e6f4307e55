"""The fallback chain: one request, several rungs, one deadline. It knows no engine."""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

from service.audio import Samples
from service.engines.breaker import Breaker
from service.engines.budget import RetryBudget
from service.engines.engine import Engine, Remark, SpeechRequest
from service.engines.failures import FAILURES, Failure, failure_of, in_words
from service.engines.levels import Levels
from service.engines.permits import Permits
from service.engines.recovery import Recovery
from service.engines.verified import first_heard, verified
from service.errors import (
    DeadlineError,
    LoopError,
    QueueFullError,
    RungError,
    SpeechCutOffError,
    SpeechError,
    VoiceOfflineError,
)
from service.metrics import Metrics
from service.text import prose
from service.voices import Persona

__all__ = ["Chain", "Speech"]

UNABLE = ("off", "loading")  # states in which a rung is not asked
JITTER = 0.01  # seconds, at most, before a second try: a listener waits meanwhile

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
    + age_seconds: since it was spoken; None: it is spoken now
    """

    engine: str
    substitution: str | None
    attempts: str
    queue_seconds: float
    first_audio_seconds: float
    blocks: AsyncGenerator[Samples]
    age_seconds: float | None = None


@dataclass
class _Try:
    """One try of one rung.

    + patience: seconds from now to its first block
    + began: when; + taken_up: when the rung was free for it; + first_audio: when it was heard
    + lived: whether it gave signs of life
    """

    rung: Engine
    request: SpeechRequest
    patience: float
    began: float
    taken_up: float | None = None
    first_audio: float | None = None
    lived: bool = False


@dataclass
class _Request:
    """One request on its way down the chain.

    + ends: until when there must be a first block
    """

    speech: SpeechRequest
    asked: float
    ends: float
    attempts: list[str] = field(default_factory=list)
    late: bool = False
    looped: bool = False
    broke_off: bool = False

    @property
    def told(self) -> str:
        return ";".join(self.attempts)


class Chain:
    """Rungs in the order in which they are asked, each behind a breaker.

    + deadline_seconds: from the request to the first verified block, over all rungs
    + stall_seconds: from one block to the next
    + queue_limit: how many may wait for the rung that is asked first; more are refused
    + metrics: where tries are counted
    """

    def __init__(
        self,
        rungs: Sequence[Engine],
        *,
        deadline_seconds: float,
        stall_seconds: float,
        queue_limit: int = 64,
        metrics: Metrics | None = None,
    ) -> None:
        self.rungs = tuple(rungs)
        self.breakers = {rung.name: Breaker() for rung in rungs}
        self._deadline_seconds = deadline_seconds
        self._stall_seconds = stall_seconds
        self._metrics = metrics or Metrics()
        self.permits = {rung.name: Permits(rung.permits) for rung in rungs}
        self.queue_limit = queue_limit
        self._retries = RetryBudget()
        self._recovery = Recovery(self.rungs, self.breakers)
        self._levels = Levels(self._first_able)

    async def start(self) -> None:
        """Start the rungs, and begin to look at those on other hosts."""
        for rung in self.rungs:
            await rung.start()
        self._recovery.start()

    async def stop(self) -> None:
        """Stop what probes, then the rungs."""
        await self._recovery.stop()
        for rung in reversed(self.rungs):
            await rung.stop()

    @property
    def speaker(self) -> Engine | None:
        """The first rung that would be asked now and was able to speak when last observed."""
        return next((rung for rung in self.rungs if self._is_ready(rung)), None)

    @property
    def loading(self) -> Engine | None:
        """A rung that stands before the speaker and is not there yet."""
        for rung in self.rungs:
            if rung.state.name == "loading":
                return rung
            if self._is_ready(rung):
                break
        return None

    @property
    def retry_after(self) -> float | None:
        """Seconds until the first closed way opens again, where that is known."""
        waits = (breaker.opens_in for breaker in self.breakers.values())
        return min((wait for wait in waits if wait is not None), default=None)

    @asynccontextmanager
    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Speech]:
        """Find the first rung that speaks; leaving the context ends its work.

        Raises QueueFullError when too many wait, VoiceOfflineError when every rung failed,
        DeadlineError when time ran out, LoopError when the only voice left was our own. Once a
        listener may have heard a rung no other one is asked; a whole answer is heard by nobody
        before its end.
        """
        self._retries.earn()
        async with AsyncExitStack() as held:
            yield await self._first_to_speak(request, held)

    async def _first_to_speak(self, speech: SpeechRequest, held: AsyncExitStack) -> Speech:
        self._refuse_a_full_queue(speech.persona)
        now = _now()
        request = _Request(speech, now, now + self._deadline_seconds)
        for number, rung in enumerate(self.rungs):
            why = self._why_not(rung, speech.persona)
            if why is not None:
                request.attempts.append(f"{rung.name}={why}")
                continue
            after = [
                other
                for other in self.rungs[number + 1 :]
                if self._why_not(other, speech.persona) is None
            ]
            spoken = await self._ask(rung, request, after, held)
            if spoken is not None:
                return spoken
        raise self._nobody_spoke(request)

    def _refuse_a_full_queue(self, persona: Persona) -> None:
        """Refuse what would only wait: a busy voice is no reason to send a text elsewhere."""
        rung = next((rung for rung in self.rungs if self._why_not(rung, persona) is None), None)
        if rung is None:
            return
        permits = self.permits[rung.name]
        if permits.taken >= permits.count and permits.waiting >= self.queue_limit:
            raise QueueFullError(
                f"{rung.name} speaks {permits.taken} answers, and {permits.waiting} wait",
                "send the request again after Retry-After, or raise SESAME_QUEUE_LIMIT",
                attempts=f"{rung.name}=queue_full",
                retry_after=permits.seconds_until_free,
            )

    async def _ask(
        self, rung: Engine, request: _Request, after: Sequence[Engine], held: AsyncExitStack
    ) -> Speech | None:
        """Have a rung speak within its share of the deadline; a second time where that is wise."""
        breaker = self.breakers[rung.name]
        share_ends = _now() + _share(request.ends - _now(), after)
        for is_second in (False, True):
            if not breaker.take():
                return None
            speech = replace(request.speech, remark=Remark())
            trying = _Try(rung, speech, share_ends - _now(), _now())
            async with AsyncExitStack() as resources:
                try:
                    blocks = await self._begin(trying, resources)
                except (TimeoutError, RungError) as error:
                    wait = self._failed(trying, request, error)
                else:
                    spoken = self._speech(trying, request, blocks)
                    await held.enter_async_context(resources.pop_all())
                    await held.enter_async_context(aclosing(spoken.blocks))
                    return spoken
            if trying.lived or trying.first_audio is not None:
                # It spoke for longer than its share, and nobody heard it: the next have theirs.
                request.ends = max(request.ends, _now() + sum(_reserves(after)))
            if (
                is_second
                or wait is None
                or _now() + wait >= share_ends
                or not self._retries.spend()
            ):
                return None
            # Jittered: it spreads load, and keeps no secret.
            await asyncio.sleep(wait + random.uniform(0, JITTER))  # noqa: S311
        return None

    async def _begin(self, trying: _Try, resources: AsyncExitStack) -> AsyncGenerator[Samples]:
        """Wait for a permit and for the first block; for all of them where nobody hears it yet."""
        rung, request = trying.rung, trying.request
        try:
            async with asyncio.timeout(trying.patience) as limit:
                characters = len(prose(request.segments))
                await resources.enter_async_context(self.permits[rung.name].hold(characters))
                trying.taken_up = _now()
                if rung.host is not None:
                    self._metrics.sent(rung.name, characters)
                blocks = verified(rung, request)
                await resources.enter_async_context(aclosing(blocks))

                def lives() -> None:
                    # The engine speaks, and holds back what it says until it is whole.
                    trying.lived = True
                    limit.reschedule(_now() + self._stall_seconds)

                first = await first_heard(blocks, lives, request.longest_seconds)
            trying.first_audio = _now()
            self.breakers[rung.name].spoke()
            voice = request.persona.name
            if not request.whole:
                all_of_them = _following(first, self._without_stalls(blocks))
                return self._levels.streamed(all_of_them, rung.name, voice)
            rest = [block async for block in self._without_stalls(blocks)]
            return _all_of(await self._levels.whole([first, *rest], rung.name, voice))
        except (TimeoutError, RungError):
            raise
        except BaseException:
            # The client left, or the request itself is at fault: the rung is not to blame.
            if trying.first_audio is None:
                self.breakers[rung.name].left()
            raise

    async def _without_stalls(self, blocks: AsyncGenerator[Samples]) -> AsyncGenerator[Samples]:
        """Yield what has samples. Raises TimeoutError after the stall limit."""
        while True:
            try:
                async with asyncio.timeout(self._stall_seconds):
                    block = await anext(blocks)
            except StopAsyncIteration:
                return
            if block.size:
                yield block

    def _failed(
        self, trying: _Try, request: _Request, error: TimeoutError | RungError
    ) -> float | None:
        """Note a failure; give the seconds after which the same rung is worth a second try."""
        name, breaker = trying.rung.name, self.breakers[trying.rung.name]
        failure, outcome, why = self._classify(trying, error)
        request.late = isinstance(error, TimeoutError)
        request.looped = request.looped or failure is FAILURES["loop"]
        request.broke_off = request.broke_off or trying.first_audio is not None
        request.attempts.append(f"{name}={outcome}")
        self._metrics.attempt(name, outcome)
        wait = error.retry_after if isinstance(error, RungError) else None
        was = breaker.state
        if trying.first_audio is None:
            breaker.failed(failure, why, seconds=_now() - trying.began, retry_after=wait)
        else:
            breaker.broke_off(failure, why)
        self._tell(trying.rung, was, f"{outcome}: {why}")
        self._recovery.nurse(trying.rung)
        match failure.again:
            case "once":
                return 0.0
            case "when_told":
                return wait
            case "never":
                return None

    def _classify(self, trying: _Try, error: TimeoutError | RungError) -> tuple[Failure, str, str]:
        """Give the class of a failure, its word and why in words."""
        if isinstance(error, RungError):
            return failure_of(error), error.outcome, in_words(error)
        if trying.taken_up is None:
            name, why = "queue_full", "every permit was taken"
        elif trying.first_audio is None and not trying.lived:
            name, why = "timeout", f"no audio within {trying.patience:.3g} s"
        else:
            name, why = "stalled", f"no audio for {self._stall_seconds:g} s"
        failure = FAILURES[name]
        return failure, name, "; ".join(filter(None, [why, failure.next_step]))

    def _speech(self, trying: _Try, request: _Request, blocks: AsyncGenerator[Samples]) -> Speech:
        rung, taken_up = trying.rung, trying.taken_up or trying.began
        before = tuple(request.attempts)
        request.attempts.append(f"{rung.name}=ok")
        self._metrics.attempt(rung.name, "ok")
        if before:
            self._metrics.switched(rung.name, taken_up - request.asked)
        return Speech(
            engine=rung.name,
            substitution=trying.request.remark.substitution
            or rung.substitution(request.speech.persona),
            attempts=request.told,
            queue_seconds=taken_up - request.asked,
            first_audio_seconds=(trying.first_audio or taken_up) - request.asked,
            blocks=self._to_the_end(trying, before, blocks),
        )

    async def _to_the_end(
        self, trying: _Try, before: Sequence[str], blocks: AsyncGenerator[Samples]
    ) -> AsyncGenerator[Samples]:
        """Yield the blocks; a failure among them counts, and breaks the speech off."""
        name = trying.rung.name
        try:
            async with aclosing(blocks):
                async for block in blocks:
                    yield block
        except (TimeoutError, RungError) as error:
            failure, outcome, why = self._classify(trying, error)
            attempts = ";".join([*before, f"{name}={outcome}"])
            self._metrics.attempt(name, outcome)
            breaker = self.breakers[name]
            was = breaker.state
            breaker.broke_off(failure, why)
            self._tell(trying.rung, was, f"{outcome} while it spoke: {why}")
            self._recovery.nurse(trying.rung)
            raise _cut_off(attempts) from error

    def _first_able(self) -> str | None:
        """Name the rung that would speak if nothing were wrong."""
        return next((rung.name for rung in self.rungs if rung.state.name != "off"), None)

    def _is_ready(self, rung: Engine) -> bool:
        return rung.state.name == "ready" and self.breakers[rung.name].state == "closed"

    def _why_not(self, rung: Engine, persona: Persona) -> str | None:
        """Give the word for why a rung is not asked; None when it is."""
        breaker = self.breakers[rung.name]
        if rung.state.name in UNABLE:
            return rung.state.name
        if not breaker.admits:
            return "open" if breaker.state == "closed" else breaker.state
        return None if rung.speaks_for(persona) else "no_voice"

    def _tell(self, rung: Engine, was: str, what: str) -> None:
        """Log a failure; loudly when it has just been latched, which happens once."""
        state = self.breakers[rung.name].state
        level = logging.ERROR if state == "latched" != was else logging.WARNING
        after = "" if state == was else f"; its breaker is {state}"
        logger.log(level, "rung %s: %s%s", rung.name, what, after)

    def _nobody_spoke(self, request: _Request) -> SpeechError | LoopError:
        told = request.told
        if request.looped:
            return LoopError(
                f"the request came back to where it began: {told}",
                "SESAME_URL leads back to this service through another one: give each the address"
                " of a server that speaks itself",
            )
        if request.broke_off:
            return _cut_off(told)
        if request.late:
            return DeadlineError(
                f"no rung spoke within {self._deadline_seconds:g} s: {told}",
                "try again, or raise SESAME_DEADLINE_SECONDS",
                attempts=told,
            )
        return VoiceOfflineError(
            f"no rung could speak: {told or 'there is none'}",
            "GET /health says what each rung lacks",
            attempts=told,
        )


def _cut_off(attempts: str) -> SpeechCutOffError:
    return SpeechCutOffError(
        f"the voice broke off: {attempts}", "send the request again", attempts=attempts
    )


def _share(left: float, after: Sequence[Engine]) -> float:
    """Give the seconds that a rung may take: all but what those after it need on a good day.

    Where that is little, as much as each of them.
    """
    return max(left - sum(_reserves(after)), left / (len(after) + 1))


def _reserves(rungs: Sequence[Engine]) -> list[float]:
    return [rung.reserve_seconds for rung in rungs]


async def _following(first: Samples, rest: AsyncGenerator[Samples]) -> AsyncGenerator[Samples]:
    async with aclosing(rest):
        yield first
        async for block in rest:
            yield block


async def _all_of(blocks: Sequence[Samples]) -> AsyncGenerator[Samples]:
    for block in blocks:
        yield block


def _now() -> float:
    return asyncio.get_running_loop().time()
