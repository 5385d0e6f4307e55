"""The drill: each rung broken in turn, in a private copy of the chain, to hear the next one speak.

It says what it will spend before it spends it. It knows no engine and no settings.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from pydantic import BaseModel

from service.audio import SAMPLE_RATE, Samples
from service.engines.chain import Chain, Speech
from service.engines.engine import Engine, EngineState, Finding, SpeechRequest
from service.errors import EngineError, RungError, SesameError, SpeechError
from service.metrics import Metrics
from service.text import Words, prose
from service.voices import Persona

__all__ = ["Drill", "DrillPlan", "DrillReport", "DrillStep", "PlannedStep", "spending"]

TEXT = "This is a drill."  # at most 20 characters: the clouds charge for each
STEP_SECONDS = 60.0  # for a rung that trickles; the chain's own limits end all others


class PlannedStep(BaseModel):
    """One step of a drill that has not been made yet."""

    broken: list[str]
    """Rungs that will fail at once, in their order."""
    speaks: str
    """Who is to speak then."""
    spends: dict[str, int]
    """Characters, by the host that receives them; empty where text stays here."""


class DrillPlan(BaseModel):
    """What a drill would do, and what it would spend."""

    plan: list[PlannedStep]
    spends: dict[str, int]
    """Characters of all steps, by host."""
    detail: str
    """Why there is nothing to drill; empty where there is."""


class DrillStep(BaseModel):
    """One step as it went."""

    broken: list[str]
    expected: str
    spoke: str | None
    ok: bool
    switch_ms: float | None
    """From the request to the moment at which the next rung took it up."""
    first_audio_ms: float | None
    """From the request to the first verified audio."""
    detail: str


class DrillReport(DrillPlan):
    """How a drill went."""

    steps: list[DrillStep]
    ok: bool
    """Whether some rung was broken, and the next one spoke whenever one was."""


class Drill:
    """A drill of the rungs of a chain.

    + rungs: started, in the order in which they are asked
    + persona: who speaks
    + deadline_seconds, stall_seconds: as of the chain that speaks
    + metrics: where the characters that it spends are counted; its failures are none
    """

    def __init__(
        self,
        rungs: Sequence[Engine],
        persona: Persona,
        *,
        deadline_seconds: float,
        stall_seconds: float,
        metrics: Metrics | None = None,
    ) -> None:
        self._rungs = rungs
        self._request = SpeechRequest((Words(TEXT),), persona)
        self._deadline_seconds = deadline_seconds
        self._stall_seconds = stall_seconds
        self._metrics = metrics or Metrics()

    def plan(self) -> DrillPlan:
        """Say what would be broken, who would speak and what that would spend. It spends nothing.

        A rung that is off is left out, and so is one that has no voice for the persona.
        """
        able = self._able()
        characters = len(prose(self._request.segments))
        steps = [
            PlannedStep(
                broken=[rung.name for rung in able[:number]],
                speaks=next_one.name,
                spends={} if next_one.host is None else {next_one.host: characters},
            )
            for number, next_one in enumerate(able)
            if number
        ]
        spends: dict[str, int] = {}
        for step in steps:
            for host, count in step.spends.items():
                spends[host] = spends.get(host, 0) + count
        return DrillPlan(plan=steps, spends=spends, detail="" if steps else _nothing(able))

    async def run(self) -> DrillReport:
        """Make the drill: once each step, one after the other."""
        planned = self.plan()
        able = self._able()
        steps = [await self._step(able, number) for number in range(1, len(able))]
        return DrillReport(
            **planned.model_dump(),
            steps=steps,
            ok=bool(steps) and all(step.ok for step in steps),
        )

    def _able(self) -> list[Engine]:
        persona = self._request.persona
        return [
            rung for rung in self._rungs if rung.state.name != "off" and rung.speaks_for(persona)
        ]

    async def _step(self, able: Sequence[Engine], number: int) -> DrillStep:
        """Break the first rungs and have the next one speak.

        Behind it stand only those that send no text: more than was announced is not spent.
        """
        broken, expected, behind = able[:number], able[number], able[number + 1 :]
        whole = [expected, *(rung for rung in behind if rung.host is None)]
        rungs = [*map(Broken, broken), *(Borrowed(rung, self._metrics) for rung in whole)]
        chain = Chain(
            rungs, deadline_seconds=self._deadline_seconds, stall_seconds=self._stall_seconds
        )
        step = DrillStep(
            broken=[rung.name for rung in broken],
            expected=expected.name,
            spoke=None,
            ok=False,
            switch_ms=None,
            first_audio_ms=None,
            detail="",
        )
        try:
            async with asyncio.timeout(STEP_SECONDS), chain.speak(self._request) as speech:
                _note(step, speech)
                seconds = await _listen(speech)
        except TimeoutError:
            step.detail = f"it did not end within {STEP_SECONDS:g} s"
        except SpeechError as error:
            step.detail = error.attempts or error.message
        except SesameError as error:
            step.detail = error.message
        else:
            step.ok = step.spoke == step.expected
            step.detail = f"{seconds:.2f} s of audio; {speech.attempts}"
        finally:
            await chain.stop()
        return step


def spending(spends: Mapping[str, int]) -> str:
    """Say in words what is spent: `spends 16 characters at HOST`."""
    told = [f"{count} characters at {host}" for host, count in spends.items()]
    return f"spends {' and '.join(told)}" if told else "spends nothing"


def _nothing(able: Sequence[Engine]) -> str:
    return f"nothing stands behind {able[0].name}" if able else "there is no rung that could speak"


def _note(step: DrillStep, speech: Speech) -> None:
    step.spoke = speech.engine
    step.switch_ms = round(speech.queue_seconds * 1000, 1)
    step.first_audio_ms = round(speech.first_audio_seconds * 1000, 1)


async def _listen(speech: Speech) -> float:
    """Hear everything, verified by the chain, and give its length in seconds."""
    size = 0
    async for block in speech.blocks:
        size += block.size
    return size / SAMPLE_RATE


class Borrowed:
    """A rung of the chain that speaks, lent to a private one, which neither starts nor stops it.

    It is tried once: a second try would spend twice what was announced.
    """

    def __init__(self, rung: Engine, metrics: Metrics) -> None:
        self._rung = rung
        self._metrics = metrics
        self._failed: RungError | None = None
        self.name = rung.name
        self.permits = rung.permits
        self.reserve_seconds = rung.reserve_seconds
        self.host = rung.host

    @property
    def state(self) -> EngineState:
        """What was last observed of it."""
        return self._rung.state

    def speaks_for(self, persona: Persona) -> bool:
        """As it is."""
        return self._rung.speaks_for(persona)

    def substitution(self, persona: Persona) -> str | None:
        """As it is."""
        return self._rung.substitution(persona)

    async def probe(self) -> None:
        """Ask nothing: whether it is well is for the chain that speaks to find out."""

    async def look(self) -> Finding:
        """Look at it."""
        return await self._rung.look()

    async def start(self) -> None:
        """It has been started."""

    async def stop(self) -> None:
        """It goes on."""

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        """Have it speak; after a failure, fail the same way again."""
        if self._failed is not None:
            raise self._failed
        if self.host is not None:
            self._metrics.sent(self.name, len(prose(request.segments)))
        try:
            async with aclosing(self._rung.speak(request)) as blocks:
                async for block in blocks:
                    yield block
        except RungError as error:
            self._failed = error
            raise


class Broken(Borrowed):
    """A rung that refuses every request at once, as one does to which nobody can connect."""

    def __init__(self, rung: Engine) -> None:
        super().__init__(rung, Metrics())
        self.host = None  # nothing is sent there

    @property
    def state(self) -> EngineState:
        """Ready, so that it is asked, whatever it may be."""
        return EngineState("ready")

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        """Raise EngineError."""
        del request
        raise EngineError("it was broken for a drill", failure="transient")
        yield
