"""Our own dialect, the guide's: `POST /api/v1/generate` with JSON, audio back."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import Response, StreamingResponse
from starlette.types import Scope

from service.api.borders import note
from service.api.conversation import MOST_TURNS, Turn, read_turns
from service.api.presence import while_present
from service.api.refusals import documented
from service.api.streaming import Beginning, StreamedAnswer
from service.audio import SAMPLE_RATE, Converter, Samples, to_pcm16, wav_header
from service.engines.chain import Chain, Speech
from service.engines.engine import SpeechRequest
from service.engines.instance import HEADER, came_through
from service.errors import AudioTooLongError, ContentTypeError, VoiceOfflineError
from service.text import segments
from service.voices import DEFAULT_PERSONA, Personas

__all__ = ["GenerateRequest", "routes"]

LONGEST_AUDIO = 2_400  # seconds; 5,000 characters of prose at the slowest tempo take 2,000


def _without_lone_surrogates(value: object) -> object:
    """Mend text that a JavaScript client cut in the middle of an emoji."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


class GenerateRequest(BaseModel):
    """What to say, and how. Unknown fields are ignored."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: Annotated[
        str,
        BeforeValidator(_without_lone_surrogates),
        Field(strict=True, examples=["Hello from Maya"]),
    ]
    """1 to 5,000 characters after trimming. Pauses such as `<break time="400ms"/>` become silence
    of at most 3 s; other mark-up is dropped, never spoken."""

    voice: Annotated[str, Field(strict=True)] = DEFAULT_PERSONA
    """A persona, or an alias of one. An unknown name is answered with the names there are."""

    format: Literal["wav"] = "wav"
    """Container of the answer: wav is 16-bit mono PCM."""

    sample_rate: Literal[8_000, 16_000, 22_050, 24_000, 44_100, 48_000] = 24_000
    """Samples a second of the answer, in Hz."""

    speed: Annotated[float, Field(strict=True, ge=0.25, le=4, allow_inf_nan=False)] = 1.0
    """Tempo: 2 is twice as fast. Pitch is kept."""

    stream: Annotated[bool, Field(strict=True)] = False
    """Whether the audio is sent while it is being spoken, over HTTP/1.1 and later: the WAV header
    then has the largest sizes there are, and a failure after the first byte cuts the connection."""

    temperature: Annotated[float | None, Field(strict=True, ge=0, le=2, allow_inf_nan=False)] = None
    """How freely the model speaks: 0 always takes what is most likely. Unset: as the persona has
    it."""

    top_k: Annotated[int | None, Field(strict=True, ge=1, le=2051)] = None
    """From how many of the most likely codes the model draws. Unset: as the persona has it."""

    seed: Annotated[int | None, Field(strict=True, ge=0, lt=2**63)] = None
    """The same seed gives the same audio again, on the same build and device. Unset: any."""

    max_audio_length_ms: Annotated[int | None, Field(strict=True, ge=80, le=2_400_000)] = None
    """Where the audio ends at the latest, at speed 1. Unset: as long as the text takes."""

    context: Annotated[list[Turn] | None, Field(max_length=MOST_TURNS)] = None
    """What was said before, oldest first: at most 8 turns and 60 s. The model goes on from it."""


@dataclass(frozen=True)
class Recording:
    """A finished answer: 16-bit mono PCM, and how it came about."""

    speech: Speech
    pcm: list[bytes]
    sample_rate: int

    @property
    def size(self) -> int:
        """Bytes of PCM."""
        return sum(map(len, self.pcm))

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return self.size / 2 / self.sample_rate

    def answer(self, headers: dict[str, str]) -> Response:
        """Give the whole file, with true sizes.

        It is sent in pieces: a long answer written at once would hold up all others.
        """
        header = wav_header(self.size, self.sample_rate)

        async def pieces() -> AsyncGenerator[bytes]:
            yield header
            for piece in self.pcm:
                yield piece
                # A client that reads as fast as we write would never let anyone else run.
                await asyncio.sleep(0)

        length = {"Content-Length": str(len(header) + self.size)}
        return StreamingResponse(pieces(), headers=headers | length, media_type="audio/wav")


def require_json(request: Request) -> None:
    """Refuse a content type that is not JSON; none at all is tolerated."""
    named = request.headers.get("content-type", "application/json")
    kind = named.partition(";")[0].strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise ContentTypeError(
            f"the content type is {named[:60]!r}", "send Content-Type: application/json"
        )


def routes(chain: Chain, personas: Personas, *, enabled: bool, instance: str) -> APIRouter:
    """Give the routes of this dialect.

    + enabled: whether the voice may speak at all
    + instance: our own name, by which a request that comes back to us is known
    """
    # Clients of the guide send JSON without naming it.
    router = APIRouter(tags=["speech"], strict_content_type=False)

    @router.post(
        "/api/v1/generate",
        summary="Speak a text",
        response_class=Response,
        responses={
            200: {
                "description": "WAV, 16-bit mono PCM. Headers: `X-Speech-Engine`, "
                "`X-Speech-Voice`, `X-Speech-Attempts`, `X-Speech-Substitution`, `Server-Timing`; "
                "with `stream`, `X-Accel-Buffering: no`",
                "content": {"audio/wav": {"schema": {"type": "string", "format": "binary"}}},
            },
            **documented(400, 401, 413, 415, 422, 503, 504, 508),
        },
        dependencies=[Depends(require_json)],
    )
    async def generate(request: Request, asked: GenerateRequest) -> Response:
        started = time.perf_counter()
        if not enabled:
            raise VoiceOfflineError(
                "the voice is switched off", "SESAME_ENABLED=false; set it to true"
            )
        persona = personas.resolve(asked.voice)
        note(request.scope, voice=persona.name, characters=len(asked.text), speed=asked.speed)
        streams = asked.stream and request.scope["http_version"] != "1.0"
        via = came_through(request.headers.getlist(HEADER), instance)
        wanted = replace(await _wanted(asked, personas, whole=not streams), via=via)
        if streams:
            return StreamedAnswer(_stream(chain, wanted, asked, request.scope), "audio/wav")
        recording = await while_present(request.receive, _record(chain, wanted, asked))
        total = time.perf_counter() - started
        _note_speech(request.scope, recording.speech)
        note(request.scope, audio_s=recording.seconds)
        return recording.answer(_headers(recording.speech, persona.name, total=total))

    return router


async def _wanted(asked: GenerateRequest, personas: Personas, *, whole: bool) -> SpeechRequest:
    longest = asked.max_audio_length_ms
    context = await asyncio.to_thread(read_turns, asked.context, personas) if asked.context else ()
    return SpeechRequest(
        segments(asked.text),
        personas.resolve(asked.voice),
        temperature=asked.temperature,
        top_k=asked.top_k,
        seed=asked.seed,
        longest_seconds=None if longest is None else longest / 1000,
        context=context,
        whole=whole,
    )


async def _record(chain: Chain, wanted: SpeechRequest, asked: GenerateRequest) -> Recording:
    async with chain.speak(wanted) as speech, aclosing(_pcm(speech, asked)) as pieces:
        pcm = [piece async for piece in pieces]
    return Recording(speech, pcm, asked.sample_rate)


@asynccontextmanager
async def _stream(
    chain: Chain, wanted: SpeechRequest, asked: GenerateRequest, scope: Scope
) -> AsyncGenerator[Beginning]:
    async with chain.speak(wanted) as speech:
        _note_speech(scope, speech)
        headers = _headers(speech, wanted.persona.name)
        yield Beginning(headers, _streamed_wav(speech, asked, scope))


async def _streamed_wav(
    speech: Speech, asked: GenerateRequest, scope: Scope
) -> AsyncGenerator[bytes]:
    sent = 0  # bytes of PCM
    yield wav_header(None, asked.sample_rate)
    try:
        async with aclosing(_pcm(speech, asked)) as pieces:
            async for piece in pieces:
                sent += len(piece)
                yield piece
    finally:
        note(scope, audio_s=sent / 2 / asked.sample_rate)


async def _pcm(speech: Speech, asked: GenerateRequest) -> AsyncGenerator[bytes]:
    """Give the speech as 16-bit PCM at the rate and tempo asked for, block by block.

    Raises AudioTooLongError before more than LONGEST_AUDIO of it is given.
    """
    left = LONGEST_AUDIO * asked.sample_rate * 2  # bytes
    async for block in _converted(speech, asked):
        piece = to_pcm16(block)
        left -= len(piece)
        if left < 0:
            raise AudioTooLongError(
                f"the audio would be longer than {LONGEST_AUDIO} s at speed={asked.speed:g}",
                "send the text in several requests, or raise the speed",
            )
        yield piece


async def _converted(speech: Speech, asked: GenerateRequest) -> AsyncGenerator[Samples]:
    converter = Converter(SAMPLE_RATE, asked.sample_rate, asked.speed)
    async for block in speech.blocks:
        yield converter.convert(block)
    yield converter.flush()


def _note_speech(scope: Scope, speech: Speech) -> None:
    note(
        scope,
        engine=speech.engine,
        attempts=speech.attempts,
        queue_ms=speech.queue_seconds * 1000,
        first_audio_ms=speech.first_audio_seconds * 1000,
    )


def _headers(speech: Speech, voice: str, *, total: float | None = None) -> dict[str, str]:
    """Give the headers of an answer.

    + total: seconds from the request to the last block, where they are known
    """
    timing = {"queue": speech.queue_seconds, "first_audio": speech.first_audio_seconds}
    if total is not None:
        timing["total"] = total
    headers = {
        "X-Speech-Engine": speech.engine,
        "X-Speech-Voice": voice,
        "X-Speech-Attempts": speech.attempts,
        "Server-Timing": ", ".join(f"{name};dur={s * 1000:.1f}" for name, s in timing.items()),
    }
    if speech.substitution is not None:
        headers["X-Speech-Substitution"] = f"{voice}={speech.substitution}"
    return headers
