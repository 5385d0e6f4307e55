"""A rung that speaks at once, so that all the rest is what is measured. It knows no text."""

from collections.abc import AsyncGenerator, Sequence

import numpy as np

from service.audio import SAMPLE_RATE, Samples
from service.engines.engine import EngineState, Finding, SpeechRequest
from service.voices import Persona

__all__ = ["Costless", "babble"]

BLOCK_SECONDS = 0.08  # a frame of CSM's
PITCH = 120.0  # Hz
SYLLABLES = 4.0  # a second


class Costless:
    """An engine that costs nothing.

    + blocks: what it says to everything, each [samples] at 24 kHz
    """

    name = "costless"
    permits = 64
    reserve_seconds = 0.0
    host = None
    state = EngineState("ready")

    def __init__(self, blocks: Sequence[Samples]) -> None:
        self._blocks = tuple(blocks)

    def speaks_for(self, persona: Persona) -> bool:
        """Everybody's voice."""
        del persona
        return True

    def substitution(self, persona: Persona) -> None:
        """Nobody stands in."""

    async def probe(self) -> None:
        """It works."""

    async def look(self) -> Finding:
        """It works."""
        return Finding("ready", "it costs nothing")

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        """Yield the blocks."""
        del request
        for block in self._blocks:
            yield block


def babble(seconds: float) -> list[Samples]:
    """Give something of speech's shape, a gliding voice in syllables, in blocks of 80 ms."""
    time_line = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    pitch = PITCH * (1 + 0.1 * np.sin(2.2 * time_line))
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE
    harmonics = range(1, 12)
    voice = sum((np.sin(phase * number) / number for number in harmonics), np.zeros(phase.size))
    syllables = np.cos(np.pi * SYLLABLES * time_line) ** 2
    samples = (0.2 * syllables * voice).astype(np.float32)
    block = round(BLOCK_SECONDS * SAMPLE_RATE)
    return [samples[start : start + block] for start in range(0, samples.size, block)]
