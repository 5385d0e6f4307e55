"""A rung that was asked for and cannot be there: it stands in health with its reason."""

from collections.abc import AsyncGenerator

from service.audio import Samples
from service.engines.engine import EngineState, Finding, SpeechRequest
from service.errors import EngineError
from service.voices import Persona

__all__ = ["Absent"]


class Absent:
    """An engine that says why it is not there.

    + name: of the engine; + reason: what is missing, and what to do
    """

    permits = 1
    reserve_seconds = 0.0
    host = None

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.state = EngineState("off", reason)

    def speaks_for(self, persona: Persona) -> bool:
        """Nobody's voice is there."""
        del persona
        return False

    def substitution(self, persona: Persona) -> None:
        """Nothing stands in: it never speaks."""

    async def probe(self) -> None:
        """Raise EngineError with the reason."""
        raise EngineError(self.state.reason or "it is not there")

    async def look(self) -> Finding:
        """Say what is missing."""
        return Finding("off", self.state.reason or "it is not there")

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Nothing to stop."""

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        """Raise EngineError with the reason."""
        del request
        raise EngineError(self.state.reason or "it is not there")
        yield
