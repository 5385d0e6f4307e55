"""What a rung is: the one interface between the chain and whatever speaks."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from service.audio import Samples
from service.text import Segment
from service.voices import Persona

__all__ = [
    "Batch",
    "ContextTurn",
    "Engine",
    "EngineState",
    "Finding",
    "Memory",
    "ModelReport",
    "Quota",
    "Remark",
    "SpeechRequest",
    "finding_of",
]


@dataclass(frozen=True)
class ContextTurn:
    """What was said before, and how: an engine that understands conversation goes on from it.

    + speaker: a number, or the persona who spoke
    """

    text: str
    speaker: int | Persona
    samples: Samples


@dataclass
class Remark:
    """What an engine learns while it speaks, and says before its first block.

    + substitution: the voice that stands in for the persona, where only the answer tells
    """

    substitution: str | None = None


Memory = Literal["use", "renew", "none"]
"""What was said lately may answer, or is said anew; "none": and is not remembered either."""


@dataclass(frozen=True)
class SpeechRequest:
    """What is to be said, and as whom. Tempo, rate and container are applied after the engine.

    + temperature, top_k, seed: how an engine that samples is to do so; None: its own way
    + longest_seconds: of audio; what would be longer ends there. None: as long as the text takes
    + context: turns before this one, oldest first
    + whole: nothing is sent before all is spoken, so an engine may try a piece again
    + memory: whether what was said lately may answer; other services of ours are told too
    + via: the instances of this service that the request has come through, ours included
    + remark: one for each try of each rung
    """

    segments: tuple[Segment, ...]
    persona: Persona
    temperature: float | None = None
    top_k: int | None = None
    seed: int | None = None
    longest_seconds: float | None = None
    context: tuple[ContextTurn, ...] = ()
    whole: bool = False
    memory: Memory = "use"
    via: tuple[str, ...] = ()
    remark: Remark = field(default_factory=Remark)


@dataclass(frozen=True)
class Batch:
    """How full a model's batch is.

    + slots: pieces of text that it speaks at once at most; + filled: now
    + steps: taken since the model was loaded; + frames: spoken in them
    """

    slots: int
    filled: int
    steps: int
    frames: int


@dataclass(frozen=True)
class ModelReport:
    """The model behind an engine that has one.

    + name: repository or folder, and revision
    + device: `cpu: …` or the name of the GPU
    + real_time_factor: seconds of work for a second of audio, when it was warmed up
    + load_seconds: from the start of loading to the end of the warm-up
    + batch: tells how full the batch is, where the engine has one
    """

    name: str
    device: str
    precision: str
    real_time_factor: float
    load_seconds: float = 0.0
    batch: Callable[[], Batch] | None = None


@dataclass(frozen=True)
class EngineState:
    """What was last observed of an engine.

    ready: it spoke when last tried; loading: it will be tried; open: it failed when last tried;
    off: it cannot be tried.
    """

    name: Literal["ready", "loading", "open", "off"]
    reason: str | None = None
    model: ModelReport | None = None


@dataclass(frozen=True)
class Quota:
    """What an account may still spend.

    + used, limit: characters; None where the account does not tell
    + resets_at: when `used` starts anew
    """

    used: int | None = None
    limit: int | None = None
    resets_at: datetime | None = None

    @property
    def left(self) -> int | None:
        """How many characters are left."""
        return None if self.used is None or self.limit is None else self.limit - self.used


@dataclass(frozen=True)
class Finding:
    """What a look at a rung's configuration found, without a character spent.

    ready: it would speak; narrow: its key may speak, and not be asked about more; invalid: it can
    never speak as it is set; unreachable: nobody can tell now; off: it is not to speak.

    + detail: what was found, in a line; + next_step: what to do, empty where nothing is
    """

    name: Literal["ready", "narrow", "invalid", "unreachable", "off"]
    detail: str
    next_step: str = ""
    quota: Quota | None = None


def finding_of(state: EngineState) -> Finding:
    """Give what an engine on this host has to say: what it was last observed to do."""
    if state.name == "ready":
        return Finding("ready", state.model.name if state.model else "it spoke when last tried")
    if state.name == "loading":
        return Finding("unreachable", state.reason or "it is being loaded", "wait, and look again")
    name: Literal["off", "invalid"] = "off" if state.name == "off" else "invalid"
    return Finding(name, state.reason or "it failed when last tried")


class Engine(Protocol):
    """One rung."""

    @property
    def name(self) -> str:
        """The name in `X-Speech-Engine` and in health."""

    @property
    def permits(self) -> int:
        """How many requests it speaks at once; the chain keeps the rest waiting."""

    @property
    def reserve_seconds(self) -> float:
        """What it needs from request to first audio on a good day; rungs before it leave that."""

    @property
    def host(self) -> str | None:
        """The host to which it sends text; None when text stays here."""

    @property
    def state(self) -> EngineState:
        """What was last observed; answers at once."""

    def speaks_for(self, persona: Persona) -> bool:
        """Tell whether it has a voice for a persona, or a stand-in that is allowed."""

    def substitution(self, persona: Persona) -> str | None:
        """Name the voice that stands in for the persona; None when it is the persona's own."""

    async def probe(self) -> None:
        """Find out whether it would speak now, with a fixed text or a call that costs nothing.

        Raises RungError.
        """

    async def look(self) -> Finding:
        """Look at its configuration without spending a character. Never raises RungError."""

    async def start(self) -> None:
        """Get ready, or find out why not and keep that as the state. Called once, before speak."""

    async def stop(self) -> None:
        """Give back what start took."""

    def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        """Yield blocks [samples] of float32 mono PCM at 24 kHz, each as soon as it is there.

        A block of no samples says that work goes on where a whole piece is held back.

        Raises RungError. Closing or cancelling it ends the work before it returns.
        """
