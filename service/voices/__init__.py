"""Personas: who can be asked to speak, one TOML file each. It knows no engine, only tables.

The house's own are the files of this folder. An operator's own are folders, named as the persona,
with a `voice.toml` and the clip that it names.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import SettingsError, VoiceUnknownError

__all__ = [
    "DEFAULT_PERSONA",
    "BasicVoiceTable",
    "CsmVoiceTable",
    "ElevenLabsVoiceTable",
    "HuggingFaceVoiceTable",
    "Persona",
    "Personas",
    "RemoteVoiceTable",
    "load_personas",
]

DEFAULT_PERSONA = "maya"
FOLDER = Path(__file__).parent
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


class BasicVoiceTable(BaseModel):
    """How espeak-ng speaks for a persona: the table `[basic]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    voice: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[a-z0-9]+)*(\+[A-Za-z0-9]+)?$")]
    words_per_minute: Annotated[int, Field(ge=80, le=450)]
    pitch: Annotated[int, Field(ge=0, le=99)]
    word_gap_ms: Annotated[int, Field(ge=0, le=200, multiple_of=10)] = 0


class CsmVoiceTable(BaseModel):
    """How CSM speaks for a persona: the table `[csm]`.

    + speaker: the number that stands before what the persona says
    + clip: for the house's own the name of a clip of the model's repository, without `.wav`; for an
      operator's a file beside `voice.toml`, in any form that FFmpeg reads
    + clip_seconds: where the clip ends for us, when it says more than its transcript
    + transcript: exactly what is said in the clip, up to there
    + temperature, top_k: how codes are drawn; the defaults are CSM's own
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    speaker: Annotated[int, Field(ge=0, le=99)] = 0
    # One name, no path: nothing outside the folder is ever opened.
    clip: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_. -]*$")]
    clip_seconds: Annotated[float | None, Field(ge=1, le=120)] = None
    transcript: Annotated[str, Field(min_length=1, max_length=5_000)]
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.9
    top_k: Annotated[int, Field(ge=1, le=2051)] = 50


class HuggingFaceVoiceTable(BaseModel):
    """Who stands in at Hugging Face: the table `[huggingface]`. Its names are the model's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    voice: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class ElevenLabsVoiceTable(BaseModel):
    """Who stands in at ElevenLabs: the table `[elevenlabs]`.

    + voice_id: as their voice library shows it; + name: for people
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Their client does not encode it: nothing else may come into a URL.
    voice_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{20}$")]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$")]


class RemoteVoiceTable(BaseModel):
    """What a remote server calls the persona: the table `[remote]`; by default as we do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    voice: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class Persona(BaseModel):
    """One voice of the house or of the operator, however it is spoken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    description: str
    aliases: tuple[str, ...] = ()
    basic: BasicVoiceTable
    csm: CsmVoiceTable
    huggingface: HuggingFaceVoiceTable | None = None
    elevenlabs: ElevenLabsVoiceTable | None = None
    remote: RemoteVoiceTable | None = None
    folder: Path | None = None
    """Where the clip lies; None for the house's own, whose clips come with the model."""


class Personas(Mapping[str, Persona]):
    """The personas by name. `resolve` also takes aliases, in any case."""

    def __init__(self, personas: Iterable[Persona]) -> None:
        self._personas: dict[str, Persona] = {}
        self._names: dict[str, Persona] = {}
        for persona in personas:
            self._personas[persona.name] = persona
            for name in (persona.name, *persona.aliases):
                taken = self._names.setdefault(name.casefold(), persona)
                if taken is not persona:
                    raise SettingsError(
                        f"both {taken.name} and {persona.name} claim the name {name}; rename one"
                    )

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


def load_personas(own: Path | None = None) -> Personas:
    """Read the house's personas, the default one first, then by name, then the operator's.

    + own: folder of the operator's personas

    Raises SettingsError that names the file and what is wrong in it.
    """
    files = sorted(
        FOLDER.glob("*.toml"), key=lambda file: (file.stem != DEFAULT_PERSONA, file.stem)
    )
    house = [_read(file, {"name": file.stem}) for file in files]
    if own is None:
        return Personas(house)
    # Who does not say how the basic voice is to stand in gets the default persona's.
    basic = house[0].basic.model_dump()
    return Personas(
        [
            *house,
            *(
                _read(file, {"name": _own_name(file), "folder": file.parent, "basic": basic})
                for file in _own_files(own)
            ),
        ]
    )


def _own_files(own: Path) -> list[Path]:
    try:
        folders = sorted(path for path in own.iterdir() if path.is_dir())
    except OSError as error:
        raise SettingsError(
            f"SESAME_VOICES_DIR={own} cannot be read: {error.strerror}; give a folder that holds"
            " one folder a persona, each with voice.toml and a clip"
        ) from None
    return [folder / "voice.toml" for folder in folders]


def _own_name(file: Path) -> str:
    name = file.parent.name
    if not NAME.fullmatch(name):
        raise SettingsError(
            f"{file.parent} names a persona {name!r}; use at most 32 small letters, digits and"
            " hyphens"
        )
    return name


def _read(file: Path, known: dict[str, object]) -> Persona:
    try:
        table = tomllib.loads(file.read_text("utf-8"))
        return Persona.model_validate({**known, **table})
    except FileNotFoundError:
        raise SettingsError(f"{file} is missing; docs/guides/voices.md shows one") from None
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from None
    except ValidationError as error:
        lines = [
            f"{file}: {'.'.join(map(str, detail['loc']))}: {detail['msg']}"
            for detail in error.errors(include_url=False)
        ]
        raise SettingsError("\n".join(lines)) from None
