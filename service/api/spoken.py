"""What the chain speaks as the body of an answer: whole, or while it is being spoken.

Every dialect answers through it. It knows the internal audio form and the headers that say who
spoke, and no field of any request.
"""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Scope

from service.api.borders import note
from service.api.presence import while_present
from service.api.streaming import LARGEST_PIECE, Beginning, StreamedAnswer
from service.audio import SAMPLE_RATE, Converter, Samples
from service.encoding import FORMATS, FormatName, encoder
from service.engines.chain import Chain, Speech
from service.engines.engine import SpeechRequest
from service.errors import AudioTooLongError

__all__ = ["AudioForm", "Recording", "answer", "record", "stream"]

LONGEST_AUDIO = 2_400  # seconds; 5,000 characters of prose at the slowest tempo take 2,000


@dataclass(frozen=True)
class AudioForm:
    """How an answer is to sound and what holds it.

    + sample_rate: Hz
    + speed: 0.25 to 4; 2 is twice as fast
    + bit_rate: bits a second; None: as the form has it
    """

    name: FormatName = "wav"
    sample_rate: int = SAMPLE_RATE
    speed: float = 1.0
    bit_rate: int | None = None

    @property
    def media_type(self) -> str:
        """Of the answer."""
        return FORMATS[self.name].media_type


@dataclass(frozen=True)
class Recording:
    """A finished answer and how it came about.

    + seconds: of audio
    """

    speech: Speech
    content: bytes
    seconds: float


async def answer(
    request: Request, chain: Chain, wanted: SpeechRequest, form: AudioForm
) -> Response:
    """Speak, and answer with the whole audio once it is there."""
    started = time.perf_counter()
    recording = await while_present(request.receive, record(chain, wanted, form))
    total = time.perf_counter() - started
    _note_speech(request.scope, recording.speech)
    note(request.scope, audio_s=recording.seconds)
    headers = _headers(recording.speech, wanted.persona.name, total=total)
    length = {"Content-Length": str(len(recording.content))}
    return StreamingResponse(
        _pieces(recording.content), headers=headers | length, media_type=form.media_type
    )


def stream(request: Request, chain: Chain, wanted: SpeechRequest, form: AudioForm) -> Response:
    """Speak, and answer while it is being spoken."""
    return StreamedAnswer(_begin(chain, wanted, form, request.scope), form.media_type)


async def record(chain: Chain, wanted: SpeechRequest, form: AudioForm) -> Recording:
    """Speak to the end."""
    encoding = encoder(form.name, form.sample_rate, streamed=False, bit_rate=form.bit_rate)
    size = 0
    async with chain.speak(wanted) as speech, aclosing(_converted(speech, form)) as blocks:
        async for block in blocks:
            size += block.size
            encoding.encode(block)
    return Recording(speech, encoding.finish(), size / form.sample_rate)


async def _pieces(content: bytes) -> AsyncGenerator[bytes]:
    """Cut an answer: written at once, a long one would hold up all others."""
    for start in range(0, len(content), LARGEST_PIECE):
        yield content[start : start + LARGEST_PIECE]
        # A client that reads as fast as we write would never let anyone else run.
        await asyncio.sleep(0)


@asynccontextmanager
async def _begin(
    chain: Chain, wanted: SpeechRequest, form: AudioForm, scope: Scope
) -> AsyncGenerator[Beginning]:
    async with chain.speak(wanted) as speech:
        _note_speech(scope, speech)
        headers = _headers(speech, wanted.persona.name)
        yield Beginning(headers, _encoded(speech, form, scope))


async def _encoded(speech: Speech, form: AudioForm, scope: Scope) -> AsyncGenerator[bytes]:
    encoding = encoder(form.name, form.sample_rate, streamed=True, bit_rate=form.bit_rate)
    size = 0  # samples
    try:
        async with aclosing(_converted(speech, form)) as blocks:
            async for block in blocks:
                size += block.size
                if piece := encoding.encode(block):
                    yield piece
        yield encoding.finish()
    finally:
        note(scope, audio_s=size / form.sample_rate)


async def _converted(speech: Speech, form: AudioForm) -> AsyncGenerator[Samples]:
    """Give the speech at the rate and tempo of a form, block by block.

    Raises AudioTooLongError before more than LONGEST_AUDIO of it is given.
    """
    converter = Converter(SAMPLE_RATE, form.sample_rate, form.speed)
    left = LONGEST_AUDIO * form.sample_rate
    async for block in speech.blocks:
        converted = converter.convert(block)
        left = _take(left, converted, form)
        yield converted
    rest = converter.flush()
    _take(left, rest, form)
    yield rest


def _take(left: int, block: Samples, form: AudioForm) -> int:
    if block.size > left:
        raise AudioTooLongError(
            f"the audio would be longer than {LONGEST_AUDIO} s at speed={form.speed:g}",
            "send the text in several requests, or raise the speed",
        )
    return left - block.size


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
