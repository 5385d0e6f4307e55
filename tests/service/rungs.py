"""Small engines that do one thing each: speak a tone, hang, hand over rubbish, break."""

import asyncio
import threading
from collections.abc import AsyncGenerator

import numpy as np

from service.audio import SAMPLE_RATE, Samples
from service.engines.engine import EngineState, Finding, SpeechRequest, finding_of
from service.errors import EngineError
from service.text import Words
from service.voices import Persona
from tests.service.held import TIMEOUT


def tone(seconds: float = 0.2) -> Samples:
    """Give a 440 Hz sine at half of full scale."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)


class Rung:
    """An engine that yields the given blocks, then raises or hangs if told to."""

    def __init__(
        self,
        *blocks: Samples,
        name: str = "basic",
        error: Exception | None = None,
        hangs: bool = False,
        permits: int = 4,
        state: EngineState | None = None,
    ) -> None:
        self.name = name
        self.permits = permits
        self.reserve_seconds = 0.0
        self.host: str | None = None
        self.state = state or EngineState("ready")
        self.probes = 0
        self.asked = 0
        self.speaking = threading.Event()
        self.ended = threading.Event()
        self._blocks = blocks
        self._error = error
        self._hangs = hangs

    def fall_silent(self) -> None:
        """From now on every request fails."""
        self._blocks, self._error = (), EngineError("it fell silent")

    def substitution(self, persona: Persona) -> str | None:
        del persona
        return None

    def speaks_for(self, persona: Persona) -> bool:
        del persona
        return True

    async def probe(self) -> None:
        self.probes += 1
        if self._error is not None:
            raise self._error

    async def look(self) -> Finding:
        return finding_of(self.state)

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        del request
        self.asked += 1
        self.speaking.set()
        try:
            for block in self._blocks:
                yield block
            if self._error is not None:
                raise self._error
            if self._hangs:
                await asyncio.Event().wait()
        finally:
            self.ended.set()


def request_for(persona: Persona, text: str = "hello") -> SpeechRequest:
    return SpeechRequest((Words(text),), persona)


def broken(name: str = "basic") -> Rung:
    return Rung(name=name, error=EngineError("out of breath"))


class Slow(Rung):
    """Speaks once it is free to."""

    def __init__(self, *blocks: Samples, name: str = "basic", permits: int = 4) -> None:
        super().__init__(*blocks, name=name, permits=permits)
        self.free = threading.Event()

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        self.speaking.set()
        await asyncio.to_thread(self.free.wait, TIMEOUT)
        async for block in super().speak(request):
            yield block
