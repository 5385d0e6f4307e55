"""What a folder of the operator's own personas holds, and whether it can be deployed.

Pure functions over a folder. Knows the form of the files, and nothing of sound beyond how a file
of it begins; what takes listening is found by the service's image before it is switched over.
"""

import hashlib
import re
import tomllib
import wave
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from provision._docker import Refusal
from provision._image import PROJECT
from provision._model import ModelFile

HOUSE = PROJECT / "service/voices"
"""The house's own personas, one TOML file each."""

VOICE_FILE = "voice.toml"
PERSONA_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
LARGEST_CLIP_MIB = 64
SHORTEST_CLIP_SECONDS = 1.0

GUIDE = "docs/guides/voices.md shows one"

SOUNDS: tuple[tuple[int, bytes], ...] = (
    (8, b"WAVE"),
    (8, b"AIFF"),
    (8, b"AIFC"),
    (0, b"fLaC"),
    (0, b"OggS"),
    (0, b"ID3"),
    (0, b"\xff\xfb"),
    (0, b"\xff\xfa"),
    (0, b"\xff\xf3"),
    (0, b"\xff\xf2"),
    (0, b"\xff\xf1"),
    (0, b"\xff\xf9"),
    (4, b"ftyp"),
    (0, b"caff"),
    (0, b"wvpk"),
    (0, b"\x1a\x45\xdf\xa3"),
    (0, b".snd"),
)
"""Where and how a file of sound begins: WAV, AIFF, FLAC, Ogg, MP3 with and without tags, AAC, MP4,
CAF, WavPack, Matroska and WebM, AU."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class _Basic(_Table):
    voice: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[a-z0-9]+)*(\+[A-Za-z0-9]+)?$")]
    words_per_minute: Annotated[int, Field(ge=80, le=450)]
    pitch: Annotated[int, Field(ge=0, le=99)]
    word_gap_ms: Annotated[int, Field(ge=0, le=200, multiple_of=10)] = 0


class _Csm(_Table):
    speaker: Annotated[int, Field(ge=0, le=99)] = 0
    clip: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_. -]*$")]
    clip_seconds: Annotated[float | None, Field(ge=1, le=120)] = None
    transcript: Annotated[str, Field(min_length=1, max_length=5_000)]
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.9
    top_k: Annotated[int, Field(ge=1, le=2051)] = 50


class _HuggingFace(_Table):
    voice: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class _ElevenLabs(_Table):
    voice_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{20}$")]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$")]


class _Remote(_Table):
    voice: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class VoiceFile(_Table):
    """What stands in a ``voice.toml``, as the service reads it."""

    description: str
    aliases: tuple[str, ...] = ()
    csm: _Csm
    basic: _Basic | None = None
    huggingface: _HuggingFace | None = None
    elevenlabs: _ElevenLabs | None = None
    remote: _Remote | None = None


@dataclass(frozen=True, slots=True)
class Voices:
    """The files of the operator's own personas, sorted by path, and where they come from."""

    folder: Path
    names: tuple[str, ...]
    files: tuple[ModelFile, ...]

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that name this content."""
        listed = "".join(f"{file.sha256}  {file.path}\n" for file in self.files)
        return hashlib.sha256(listed.encode()).hexdigest()[:12]


@cache
def read_voices(folder: Path) -> Voices | tuple[Refusal, ...]:
    """Read a folder of personas once a run, or say everything that keeps it from being used.

    Of each persona two files travel: ``voice.toml`` and the clip that it names. Whatever else is
    there stays, and hidden folders are no personas.
    """
    try:
        homes = sorted(
            path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
    except OSError as error:
        return (
            Refusal(
                f"voices_folder={folder} cannot be read: {error.strerror}",
                f"give a folder that holds one folder a persona; {GUIDE}",
            ),
        )
    if not homes:
        return (
            Refusal(
                f"voices_folder={folder} holds no folder, so there is no persona in it",
                f"make one a persona, or leave voices_folder out; {GUIDE}",
            ),
        )
    refusals: list[Refusal] = []
    files: list[ModelFile] = []
    taken = _house_names()
    for home in homes:
        try:
            persona = _read_persona(folder, home)
            _take_names(home, persona, taken)
            files += [_describe(folder, home / name) for name in (VOICE_FILE, persona.csm.clip)]
        except _UnfitError as unfit:
            refusals += unfit.refusals
    if refusals:
        return tuple(refusals)
    names = tuple(home.name for home in homes)
    return Voices(folder, names, tuple(sorted(files, key=lambda file: file.path)))


class _UnfitError(Exception):
    """Why a persona cannot be used: each fault with its next step."""

    def __init__(self, *refusals: Refusal) -> None:
        super().__init__()
        self.refusals = refusals


def _unfit(reason: str, remedy: str) -> _UnfitError:
    return _UnfitError(Refusal(reason, remedy))


def _house_names() -> dict[str, str]:
    """Return who has each name already, by the name in small letters."""
    taken = {}
    for file in sorted(HOUSE.glob("*.toml")):
        table = tomllib.loads(file.read_text("utf-8"))
        for name in (file.stem, *table.get("aliases", ())):
            taken[name.casefold()] = f"the house's {file.stem}"
    return taken


def _read_persona(folder: Path, home: Path) -> VoiceFile:
    if not PERSONA_NAME.fullmatch(home.name):
        raise _unfit(
            f"{home} names a persona {home.name!r}",
            "use at most 32 small letters, digits and hyphens, the first one no hyphen",
        )
    file = home / VOICE_FILE
    _stay_inside(folder, file)
    if not file.is_file():
        raise _unfit(f"{home} has no {VOICE_FILE}", f"write one; {GUIDE}")
    try:
        persona = VoiceFile.model_validate(tomllib.loads(file.read_text("utf-8")))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise _unfit(f"{file} cannot be read: {error}", "mend that place of the file") from None
    except ValidationError as error:
        raise _UnfitError(*_explain(file, error)) from None
    _check_clip(folder, home / persona.csm.clip, file)
    return persona


def _explain(file: Path, error: ValidationError) -> Iterator[Refusal]:
    for detail in error.errors(include_url=False):
        field = ".".join(map(str, detail["loc"]))
        if detail["type"] == "extra_forbidden":
            yield Refusal(f"{file}: {field} is unknown", f"remove it, or mend its name; {GUIDE}")
        elif detail["type"] == "missing":
            yield Refusal(f"{file}: {field} is missing", f"add it; {GUIDE}")
        else:
            yield Refusal(f"{file}: {field}={_shown(detail)}: {detail['msg']}", "mend the value")


def _shown(detail: Mapping[str, Any]) -> str:
    return repr(detail["input"])[:80]


def _take_names(home: Path, persona: VoiceFile, taken: dict[str, str]) -> None:
    for name in (home.name, *persona.aliases):
        holder = taken.setdefault(name.casefold(), home.name)
        if holder != home.name:
            raise _unfit(f"{home} claims the name {name}, which {holder} has", "take another name")


def _stay_inside(folder: Path, path: Path) -> None:
    if not path.resolve().is_relative_to(folder.resolve()):
        raise _unfit(
            f"{path} leads out of voices_folder, to {path.resolve()}",
            "put a copy there instead of the link",
        )


def _check_clip(folder: Path, clip: Path, named_in: Path) -> None:
    _stay_inside(folder, clip)
    if not clip.is_file():
        raise _unfit(
            f"{named_in}: csm.clip={clip.name!r}, and there is no such file beside it",
            "put the clip there, or mend its name",
        )
    mib = clip.stat().st_size / 2**20
    if mib > LARGEST_CLIP_MIB:
        raise _unfit(
            f"{clip} has {mib:.0f} MiB, at most {LARGEST_CLIP_MIB} are taken",
            "cut it to 10 to 30 s of speech",
        )
    with clip.open("rb") as opened:
        start = opened.read(16)
    if not any(start[place:].startswith(mark) for place, mark in SOUNDS):
        raise _unfit(
            f"{clip} is no audio: it begins with {start[:8]!r}",
            "give a file of sound that FFmpeg reads, such as WAV, FLAC or MP3",
        )
    seconds = _seconds(clip) if start[8:12] == b"WAVE" else None
    if seconds is not None and seconds < SHORTEST_CLIP_SECONDS:
        raise _unfit(
            f"{clip} is {seconds:.2f} s long, at least {SHORTEST_CLIP_SECONDS:g} s are needed",
            "give 10 to 30 s of one speaker",
        )


def _seconds(clip: Path) -> float | None:
    """Return how long a WAV file is, or None where only FFmpeg could say."""
    try:
        with wave.open(str(clip), "rb") as opened:
            frame_bytes = opened.getnchannels() * opened.getsampwidth()
            # What the header promises may not be there.
            frames = min(opened.getnframes(), clip.stat().st_size // frame_bytes)
            return frames / opened.getframerate()
    except (wave.Error, EOFError, ZeroDivisionError):
        return None


def _describe(folder: Path, path: Path) -> ModelFile:
    with path.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return ModelFile(path.relative_to(folder).as_posix(), path.stat().st_size, digest)
