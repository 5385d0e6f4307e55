"""What a rung is: the one interface between the chain and whatever speaks."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

from service.audio import Samples
from service.text import Segment
from service.voices import Persona

__all__ = ["Engine", "EngineState", "SpeechRequest"]


@dataclass(frozen=True)
class SpeechRequest:
    """What is to be said, and as whom. Tempo, rate and container are applied after the engine."""

    segments: tuple[Segment, ...]
    persona: Persona


@dataclass(frozen=True)
class EngineState:
    """What was last observed of an engine.

    ready: it spoke when last tried; open: it failed when last tried; off: it cannot be tried.
    """

    name: Literal["ready", "open", "off"]
    reason: str | None = None


class Engine(Protocol):
    """One rung."""

    @property
    def name(self) -> str:
        """The name in `X-Speech-Engine` and in health."""

    @property
    def permits(self) -> int:
        """How many requests it speaks at once; the chain keeps the rest waiting."""

    @property
    def state(self) -> EngineState:
        """What was last observed; answers at once."""

    def substitution(self, persona: Persona) -> str | None:
        """Name the voice that stands in for the persona; None when it is the persona's own."""

    async def start(self) -> None:
        """Get ready, or find out why not and keep that as the state. Called once, before speak."""

    async def stop(self) -> None:
        """Give back what start took."""

    def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        """Yield blocks [samples] of float32 mono PCM at 24 kHz, each as soon as it is there.

        Raises EngineError. Closing or cancelling it ends the work before it returns.
        """
