"""What a rung is: the one interface between the chain and whatever speaks."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

from service.audio import Samples
from service.text import Segment
from service.voices import Persona

__all__ = ["ContextTurn", "Engine", "EngineState", "ModelReport", "SpeechRequest"]


@dataclass(frozen=True)
class ContextTurn:
    """What was said before, and how: an engine that understands conversation goes on from it.

    + speaker: a number, or the persona who spoke
    """

    text: str
    speaker: int | Persona
    samples: Samples


@dataclass(frozen=True)
class SpeechRequest:
    """What is to be said, and as whom. Tempo, rate and container are applied after the engine.

    + temperature, top_k, seed: how an engine that samples is to do so; None: its own way
    + longest_seconds: of audio; what would be longer ends there. None: as long as the text takes
    + context: turns before this one, oldest first
    + whole: nothing is sent before all is spoken, so an engine may try a piece again
    """

    segments: tuple[Segment, ...]
    persona: Persona
    temperature: float | None = None
    top_k: int | None = None
    seed: int | None = None
    longest_seconds: float | None = None
    context: tuple[ContextTurn, ...] = ()
    whole: bool = False


@dataclass(frozen=True)
class ModelReport:
    """The model behind an engine that has one.

    + name: repository or folder, and revision
    + device: `cpu: …` or the name of the GPU
    + real_time_factor: seconds of work for a second of audio, when it was warmed up
    """

    name: str
    device: str
    precision: str
    real_time_factor: float


@dataclass(frozen=True)
class EngineState:
    """What was last observed of an engine.

    ready: it spoke when last tried; loading: it will be tried; open: it failed when last tried;
    off: it cannot be tried.
    """

    name: Literal["ready", "loading", "open", "off"]
    reason: str | None = None
    model: ModelReport | None = None


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

        A block of no samples says that work goes on where a whole piece is held back.

        Raises EngineError. Closing or cancelling it ends the work before it returns.
        """
