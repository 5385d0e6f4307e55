"""Personas: who can be asked to speak, one TOML file each. It knows no engine, only tables."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.errors import VoiceUnknownError

__all__ = ["DEFAULT_PERSONA", "BasicVoiceTable", "Persona", "Personas", "load_personas"]

DEFAULT_PERSONA = "maya"
FOLDER = Path(__file__).parent


class BasicVoiceTable(BaseModel):
    """How espeak-ng speaks for a persona: the table `[basic]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    voice: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[a-z0-9]+)*(\+[A-Za-z0-9]+)?$")]
    words_per_minute: Annotated[int, Field(ge=80, le=450)]
    pitch: Annotated[int, Field(ge=0, le=99)]
    word_gap_ms: Annotated[int, Field(ge=0, le=200, multiple_of=10)] = 0


class Persona(BaseModel):
    """One voice of the house, however it is spoken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str
    aliases: tuple[str, ...] = ()
    basic: BasicVoiceTable


class Personas(Mapping[str, Persona]):
    """The personas by name. `resolve` also takes aliases, in any case."""

    def __init__(self, personas: Iterable[Persona]) -> None:
        self._personas = {persona.name: persona for persona in personas}
        self._names: dict[str, Persona] = {}
        for persona in self._personas.values():
            for name in (persona.name, *persona.aliases):
                taken = self._names.setdefault(name.casefold(), persona)
                if taken is not persona:
                    raise ValueError(f"both {taken.name} and {persona.name} claim the name {name}")

    def __getitem__(self, name: str) -> Persona:
        return self._personas[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._personas)

    def __len__(self) -> int:
        return len(self._personas)

    def resolve(self, name: str) -> Persona:
        """Give the persona of this name or alias, or raise VoiceUnknownError naming all."""
        persona = self._names.get(name.strip().casefold())
        if persona is None:
            raise VoiceUnknownError(
                f"voice={name[:60]!r} is unknown", f"voices are: {', '.join(self._personas)}"
            )
        return persona


def load_personas(folder: Path = FOLDER) -> Personas:
    """Read the persona files of a folder, the default persona first, then by name."""
    files = sorted(
        folder.glob("*.toml"), key=lambda file: (file.stem != DEFAULT_PERSONA, file.stem)
    )
    return Personas(
        Persona.model_validate({"name": file.stem, **tomllib.loads(file.read_text("utf-8"))})
        for file in files
    )
