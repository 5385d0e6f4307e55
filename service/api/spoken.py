"""From what a dialect understood to what it answers: one way for all of them.

It knows the internal audio form and the headers that say who spoke, and no field of any request.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Scope

from service.api.borders import note
from service.api.conversation import Turn, read_turns
from service.api.draining import Draining
from service.api.presence import while_present
from service.api.streaming import LARGEST_PIECE, Beginning, StreamedAnswer
from service.audio import SAMPLE_RATE, Converter, Samples
from service.encoding import FORMATS, FormatName, encoder
from service.engines.chain import Chain, Speech
from service.engines.engine import Memory, SpeechRequest
from service.engines.instance import HEADER, came_through
from service.engines.remembered import Remembered
from service.errors import AudioTooLongError, FieldError, VoiceOfflineError
from service.text import segments
from service.voices import DEFAULT_PERSONA, Personas

__all__ = ["AudioForm", "Recording", "Speaker", "Utterance", "Wrap", "in_pieces"]

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

    def __post_init__(self) -> None:
        """Refuse a rate that the format cannot have."""
        rates = FORMATS[self.name].rates
        if self.sample_rate not in rates:
            raise FieldError(
                f"sample_rate={self.sample_rate} with format={self.name}",
                f"{self.name} can have {', '.join(map(str, rates))}",
            )

    @property
    def media_type(self) -> str:
        """Of the answer."""
        return FORMATS[self.name].media_type


@dataclass(frozen=True)
class Utterance:
    """What a caller wants said, whatever the dialect.

    + temperature, top_k, seed: None: as the persona has it
    + longest_ms: where the audio ends at the latest, at speed 1; None: as long as the text takes
    + context: what was said before, oldest first
    """

    text: str
    voice: str = DEFAULT_PERSONA
    temperature: float | None = None
    top_k: int | None = None
    seed: int | None = None
    longest_ms: int | None = None
    context: Sequence[Turn] = ()


Wrap = Callable[[AsyncGenerator[bytes]], AsyncGenerator[bytes]]
"""Puts the pieces of an answer into another protocol."""


@dataclass(frozen=True)
class Recording:
    """A finished answer and how it came about.

    + seconds: of audio
    + work_seconds: from the moment its engine took it up; None: it was remembered
    """

    speech: Speech
    content: bytes
    seconds: float
    work_seconds: float | None


@dataclass(frozen=True)
class Speaker:
    """What every dialect speaks through.

    + voice: the chain, or what it said lately
    + enabled: whether the voice may speak at all
    + instance: our own name, by which a request that comes back to us is known
    + draining: refuses new speech, and ends what is being spoken, when the service has to end
    + public_url: where others reach us; None: as each request names us
    """

    chain: Chain
    voice: Remembered
    personas: Personas
    enabled: bool
    instance: str
    draining: Draining
    public_url: str | None = None

    async def whole(self, request: Request, said: Utterance, form: AudioForm) -> Response:
        """Speak, and answer with all of the audio."""
        started = time.perf_counter()
        recording = await self.record(request, said, form)
        headers = self.headers(recording.speech, said, total=time.perf_counter() - started)
        return in_pieces(recording.content, headers, form.media_type)

    async def record(self, request: Request, said: Utterance, form: AudioForm) -> Recording:
        """Speak to the end, as long as somebody waits for it."""
        wanted = await self._wanted(request, said, form, whole=True)
        async with self.draining.within_grace(request.scope):
            recording = await while_present(request.receive, _record(self.voice, wanted, form))
        _note_speech(request.scope, recording.speech)
        note(request.scope, audio_s=recording.seconds)
        if recording.work_seconds is not None and recording.seconds:
            note(request.scope, real_time_factor=recording.work_seconds / recording.seconds)
        return recording

    async def streamed(
        self,
        request: Request,
        said: Utterance,
        form: AudioForm,
        wrap: Wrap | None = None,
        media_type: str | None = None,
    ) -> Response:
        """Speak, and answer while it is being spoken; over HTTP/1.0, which cannot, as a whole.

        + wrap: what the pieces are put into, and `media_type`, what that is
        """
        if request.scope["http_version"] == "1.0" and wrap is None:
            return await self.whole(request, said, form)
        wanted = await self._wanted(request, said, form, whole=False)
        making = self._begin(wanted, said, form, request.scope, wrap)
        return StreamedAnswer(making, media_type or form.media_type)

    def headers(
        self, speech: Speech, said: Utterance, *, total: float | None = None
    ) -> dict[str, str]:
        """Give the headers that say who spoke and how long it took.

        + total: seconds from the request to the last block, where they are known
        """
        voice = self.personas.resolve(said.voice).name
        timing = {"queue": speech.queue_seconds, "first_audio": speech.first_audio_seconds}
        if total is not None:
            timing["total"] = total
        headers = {
            "X-Speech-Engine": speech.engine,
            "X-Speech-Voice": voice,
            "X-Speech-Attempts": speech.attempts,
            "Server-Timing": ", ".join(f"{name};dur={s * 1000:.1f}" for name, s in timing.items()),
        }
        if speech.age_seconds is not None:
            # RFC 9111, 5.1, and RFC 9211.
            headers["Age"] = f"{speech.age_seconds:.0f}"
            headers["Cache-Status"] = "sesame; hit"
        if speech.substitution is not None:
            headers["X-Speech-Substitution"] = f"{voice}={speech.substitution}"
        return headers

    def address_of(self, request: Request, path: str) -> str:
        """Give the absolute address of a path of ours."""
        return f"{(self.public_url or str(request.base_url)).rstrip('/')}{path}"

    def model_of(self, speech: Speech) -> str:
        """Name the model that spoke, or the engine where it has none of ours."""
        rung = next((rung for rung in self.chain.rungs if rung.name == speech.engine), None)
        model = rung.state.model if rung else None
        return model.name if model else speech.engine

    async def _wanted(
        self, request: Request, said: Utterance, form: AudioForm, *, whole: bool
    ) -> SpeechRequest:
        if not self.enabled:
            raise VoiceOfflineError(
                "the voice is switched off", "SESAME_ENABLED=false; set it to true"
            )
        self.draining.admit(request.scope)
        persona = self.personas.resolve(said.voice)
        note(request.scope, voice=persona.name, characters=len(said.text), speed=form.speed)
        via = came_through(request.headers.getlist(HEADER), self.instance)
        context = (
            await asyncio.to_thread(read_turns, said.context, self.personas) if said.context else ()
        )
        return SpeechRequest(
            segments(said.text),
            persona,
            temperature=said.temperature,
            top_k=said.top_k,
            seed=said.seed,
            longest_seconds=None if said.longest_ms is None else said.longest_ms / 1000,
            context=context,
            whole=whole,
            memory=_memory(request),
            via=via,
        )

    @asynccontextmanager
    async def _begin(
        self,
        wanted: SpeechRequest,
        said: Utterance,
        form: AudioForm,
        scope: Scope,
        wrap: Wrap | None,
    ) -> AsyncGenerator[Beginning]:
        async with AsyncExitStack() as held:
            async with self.draining.within_grace(scope):
                speech = await held.enter_async_context(self.voice.speak(wanted))
            _note_speech(scope, speech)
            pieces = self.draining.each(scope, _encoded(speech, form, scope))
            yield Beginning(self.headers(speech, said), wrap(pieces) if wrap else pieces)


def _memory(request: Request) -> Memory:
    """Read Cache-Control (RFC 9111, 5.2.1), and the Pragma of older clients."""
    told = request.headers.getlist("cache-control") + request.headers.getlist("pragma")
    words = {word.strip().lower() for line in told for word in line.split(",")}
    if "no-store" in words:
        return "none"
    return "renew" if words & {"no-cache", "max-age=0"} else "use"


async def _record(voice: Remembered, wanted: SpeechRequest, form: AudioForm) -> Recording:
    encoding = encoder(form.name, form.sample_rate, streamed=False, bit_rate=form.bit_rate)
    size = 0  # samples
    started = time.perf_counter()
    async with voice.speak(wanted) as speech, aclosing(_converted(speech, form)) as blocks:
        async for block in blocks:
            size += block.size
            encoding.encode(block)
    content = encoding.finish()
    work = time.perf_counter() - started - speech.queue_seconds
    return Recording(
        speech, content, size / form.sample_rate, work if speech.age_seconds is None else None
    )


def in_pieces(content: bytes, headers: Mapping[str, str], media_type: str) -> Response:
    """Answer with a whole body, in pieces: written at once, a long one would hold up all others."""

    async def pieces() -> AsyncGenerator[bytes]:
        for start in range(0, len(content), LARGEST_PIECE):
            yield content[start : start + LARGEST_PIECE]
            # A client that reads as fast as we write would never let anyone else run.
            await asyncio.sleep(0)

    length = {"Content-Length": str(len(content))}
    return StreamingResponse(pieces(), headers={**headers, **length}, media_type=media_type)


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
    if speech.age_seconds is not None:
        note(scope, cached=True)
