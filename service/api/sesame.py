"""Our own dialect, the guide's and that of Maya's clients: JSON in, audio back, or JSON with it.

Which of them is asking shows in what it sends: `inputs` is answered with an array, a `format` of
`base64` or `json` or an Accept that names JSON with an object, everything else with the audio.
"""

import base64
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from starlette.responses import Response

from service.api.conversation import MOST_TURNS, Turn
from service.api.kept import Audio, KeptAudio
from service.api.reading import AUDIO, JSON, names_json, require_json, without_lone_surrogates
from service.api.refusals import documented
from service.api.spoken import AudioForm, Speaker, Utterance, in_pieces
from service.encoding import FORMATS, FormatName
from service.errors import AudioGoneError
from service.voices import DEFAULT_PERSONA

__all__ = ["GenerateRequest", "routes"]


class GenerateRequest(BaseModel):
    """What to say, and how. Unknown fields are ignored."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: Annotated[
        str,
        BeforeValidator(without_lone_surrogates),
        Field(strict=True, examples=["Hello from Maya"]),
    ]
    """1 to 5,000 characters after trimming. Pauses such as `<break time="400ms"/>` become silence
    of at most 3 s; other mark-up is dropped, never spoken."""

    voice: Annotated[str, Field(strict=True)] = DEFAULT_PERSONA
    """A persona, or an alias of one. An unknown name is answered with the names there are."""

    format: Annotated[
        Literal["wav", "mp3", "opus", "flac", "aac", "pcm", "base64", "json"],
        Field(validation_alias=AliasChoices("format", "response_format")),
    ] = "wav"
    """What holds the audio: wav and pcm are 16-bit mono samples, with a header and without one;
    opus comes in Ogg, aac in ADTS. base64 and json ask for JSON that holds a wav."""

    sample_rate: Literal[8_000, 16_000, 22_050, 24_000, 44_100, 48_000] = 24_000
    """Samples a second of the answer, in Hz. opus has no 22050 and no 44100."""

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

    inputs: Annotated[object, Field(exclude=True)] = None
    """The text, as clients of inference services send it, with `parameters` for the rest; the
    answer is then an array."""

    context: Annotated[list[Turn] | None, Field(max_length=MOST_TURNS)] = None
    """What was said before, oldest first: at most 8 turns and 60 s. The model goes on from it."""

    @model_validator(mode="before")
    @classmethod
    def _take_inputs(cls, body: object) -> object:
        """Take `{"inputs": …, "parameters": {…}}` for the fields that it means."""
        if not isinstance(body, dict) or "inputs" not in body or "text" in body:
            return body
        parameters = body.get("parameters")
        meant = parameters if isinstance(parameters, dict) else {}
        return {**meant, **body, "text": body["inputs"]}

    @property
    def as_array(self) -> bool:
        """Whether it was sent as clients of inference services do."""
        return self.inputs is not None

    @property
    def form(self) -> AudioForm:
        """How the audio is to sound; in JSON and in an array it is a WAV.

        Raises FieldError for a rate that the format cannot have.
        """
        named: FormatName = next((name for name in FORMATS if name == self.format), "wav")
        return AudioForm("wav" if self.as_array else named, self.sample_rate, self.speed)

    @property
    def utterance(self) -> Utterance:
        """What is to be said."""
        return Utterance(
            self.text,
            self.voice,
            self.temperature,
            self.top_k,
            self.seed,
            self.max_audio_length_ms,
            self.context or (),
        )


class TtsRequest(GenerateRequest):
    """What `/tts` takes: the names of formats that its clients use are read as far as they go."""

    format: Annotated[
        Literal["wav", "mp3", "opus", "flac", "aac", "pcm"], WithJsonSchema({"default": "wav"})
    ] = "wav"
    """Also `output_format` or `response_format`; what names no format of ours is a wav."""

    @model_validator(mode="before")
    @classmethod
    def _take_output_format(cls, body: object) -> object:
        if not isinstance(body, dict):
            return body
        named = body.get("format") or body.get("output_format") or body.get("response_format")
        word = named.partition("_")[0] if isinstance(named, str) else ""
        return {**body, "format": word if word in FORMATS else "wav"}


class Answer(BaseModel):
    """Audio in JSON. Every one of Maya's clients finds the field that it reads."""

    success: bool = True
    audio: str
    """The file, base64; `audio_data` is the same."""
    audio_data: str
    audio_url: str
    """Where the file is for the next ten minutes; `audioUrl` and `url` are the same."""
    audioUrl: str  # noqa: N815 (as clients read it)
    url: str
    format: FormatName
    sample_rate: int
    duration: float
    """Seconds."""
    duration_ms: int
    voice: str
    engine: str
    service: str = "sesame"
    model: str
    cached: bool = False


class GeneratedAudio(BaseModel):
    """One element of the array that clients of inference services read."""

    generated_audio: str
    """A WAV, base64."""


class Voice(BaseModel):
    """One voice that can be asked for."""

    id: str
    name: str
    description: str
    aliases: list[str]


class VoiceList(BaseModel):
    """The personas."""

    voices: list[Voice]


SPOKEN: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The audio, in the format asked for, or JSON that holds it. Headers: "
        "`X-Speech-Engine`, `X-Speech-Voice`, `X-Speech-Attempts`, `X-Speech-Substitution`, "
        "`Server-Timing`; with `stream`, `X-Accel-Buffering: no`",
        "content": {
            **{form.media_type: AUDIO for form in FORMATS.values()},
            "application/json": {
                "schema": {
                    "anyOf": [
                        Answer.model_json_schema(),
                        {"type": "array", "items": GeneratedAudio.model_json_schema()},
                    ]
                }
            },
        },
    },
    **documented(400, 401, 408, 413, 415, 422, 429, 503, 504, 508),
}


@dataclass(frozen=True)
class _Forms:
    """The forms in which this dialect answers."""

    speaker: Speaker
    kept: KeptAudio

    async def audio(self, request: Request, asked: GenerateRequest) -> Response:
        if asked.stream:
            return await self.speaker.streamed(request, asked.utterance, asked.form)
        return await self.speaker.whole(request, asked.utterance, asked.form)

    async def json(self, request: Request, asked: GenerateRequest) -> Response:
        recording = await self.speaker.record(request, asked.utterance, asked.form)
        name = self.kept.keep(Audio(recording.content, asked.form.media_type))
        address = self.speaker.address_of(request, f"/audio/{name}")
        content = base64.b64encode(recording.content).decode()
        answer = Answer(
            audio=content,
            audio_data=content,
            audio_url=address,
            audioUrl=address,
            url=address,
            format=asked.form.name,
            sample_rate=asked.form.sample_rate,
            duration=round(recording.seconds, 3),
            duration_ms=round(recording.seconds * 1000),
            voice=self.speaker.personas.resolve(asked.voice).name,
            engine=recording.speech.engine,
            model=self.speaker.model_of(recording.speech),
            cached=recording.speech.age_seconds is not None,
        )
        headers = self.speaker.headers(recording.speech, asked.utterance)
        return in_pieces(answer.model_dump_json().encode(), headers, JSON)

    async def array(self, request: Request, asked: GenerateRequest) -> Response:
        recording = await self.speaker.record(request, asked.utterance, asked.form)
        content = base64.b64encode(recording.content).decode()
        answer = f"[{GeneratedAudio(generated_audio=content).model_dump_json()}]"
        headers = self.speaker.headers(recording.speech, asked.utterance)
        return in_pieces(answer.encode(), headers, JSON)


def routes(speaker: Speaker) -> APIRouter:
    """Give the routes of this dialect."""
    # Clients of the guide send JSON without naming it.
    router = APIRouter(tags=["speech"], strict_content_type=False)
    forms = _Forms(speaker, KeptAudio())

    @router.post(
        "/api/v1/generate",
        summary="Speak a text",
        response_class=Response,
        responses=SPOKEN,
        dependencies=[Depends(require_json)],
    )
    @router.post(
        "/generate",
        summary="Speak a text",
        response_class=Response,
        responses=SPOKEN,
        dependencies=[Depends(require_json)],
    )
    async def generate(request: Request, asked: GenerateRequest) -> Response:
        if asked.as_array:
            return await forms.array(request, asked)
        if asked.format in {"base64", "json"} or names_json(request.headers.get("accept")):
            return await forms.json(request, asked)
        return await forms.audio(request, asked)

    @router.post(
        "/tts",
        summary="Speak a text; JSON unless Accept names audio",
        response_class=Response,
        responses=SPOKEN,
        dependencies=[Depends(require_json)],
    )
    async def tts(request: Request, asked: TtsRequest) -> Response:
        if "audio/" in request.headers.get("accept", ""):
            return await forms.audio(request, asked)
        return await forms.json(request, asked)

    @router.get(
        "/audio/{name}",
        summary="Give the audio behind an audio_url",
        response_class=Response,
        responses={
            200: {"content": {form.media_type: AUDIO for form in FORMATS.values()}},
            **documented(404),
        },
    )
    async def audio(name: str) -> Response:
        found = forms.kept.get(name)
        if found is None:
            raise AudioGoneError(
                "there is no such audio, or it is older than ten minutes", "ask for it again"
            )
        return Response(found.content, media_type=found.media_type)

    @router.get("/voices", summary="List the voices")
    async def voices() -> VoiceList:
        return VoiceList(
            voices=[
                Voice(
                    id=persona.name,
                    name=persona.name,
                    description=persona.description,
                    aliases=list(persona.aliases),
                )
                for persona in speaker.personas.values()
            ]
        )

    return router
