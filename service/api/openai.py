"""OpenAI's dialect: `POST /v1/audio/speech` as its clients send it, streamed unless they cannot.

The form is that of OpenAI's API reference (createSpeech); `model` is taken and not looked at.
"""

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import Response

from service.api.reading import AUDIO, require_json, without_lone_surrogates
from service.api.refusals import OpenAIError, documented
from service.api.spoken import AudioForm, Speaker, Utterance
from service.encoding import FORMATS
from service.errors import SesameError
from service.voices import DEFAULT_PERSONA

__all__ = ["SpeechBody", "routes"]

LONGEST_INPUT = 4_096  # characters, as OpenAI has it
EVENTS = "text/event-stream"
EVENT = {
    "type": "object",
    "description": "Each event: `data` holds `speech.audio.delta` with base64 `audio`, then "
    "`speech.audio.done`, or `speech.audio.error`",
    "required": ["data"],
    "properties": {"data": {"type": "string", "contentMediaType": "application/json"}},
}
MODELS = ("sesame/csm-1b", "tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""What clients may ask for by name; who speaks is the chain's to say."""


def _voice_name(value: object) -> object:
    """Take `{"id": …}`, which newer clients send, for its name."""
    return value["id"] if isinstance(value, dict) and set(value) == {"id"} else value


class SpeechBody(BaseModel):
    """What to say, and how. Unknown fields are ignored, `model` and `instructions` among them."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    input: Annotated[
        str,
        BeforeValidator(without_lone_surrogates),
        Field(strict=True, max_length=LONGEST_INPUT, examples=["Hello from Maya"]),
    ]
    """1 to 4,096 characters after trimming."""

    voice: Annotated[str, BeforeValidator(_voice_name), Field(strict=True)] = DEFAULT_PERSONA
    """A persona, or an alias of one; OpenAI's own names are aliases. `{"id": …}` does too."""

    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    """What holds the audio, at 24 kHz."""

    speed: Annotated[float, Field(strict=True, ge=0.25, le=4, allow_inf_nan=False)] = 1.0
    """Tempo: 2 is twice as fast. Pitch is kept."""

    stream_format: Literal["audio", "sse"] = "audio"
    """`audio`: the bytes as they are spoken; `sse`: events that carry them as base64."""


class Voice(BaseModel):
    """One voice that can be asked for."""

    id: str
    name: str
    description: str


class Voices(BaseModel):
    """The personas."""

    voices: list[Voice]


class Model(BaseModel):
    """One model that can be asked for."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "sesame"


class Models(BaseModel):
    """The models."""

    object: Literal["list"] = "list"
    data: list[Model]


def routes(speaker: Speaker) -> APIRouter:
    """Give the routes of this dialect."""
    router = APIRouter(tags=["OpenAI"], strict_content_type=False)

    @router.post(
        "/v1/audio/speech",
        summary="Speak a text, as OpenAI's clients ask for it",
        response_class=Response,
        responses={
            200: {
                "description": "The audio, or events that carry it",
                "content": {
                    **{form.media_type: AUDIO for form in FORMATS.values()},
                    EVENTS: {"schema": EVENT},
                },
            },
            **documented(400, 401, 408, 413, 415, 422, 429, 503, 504, 508, model=OpenAIError),
        },
        dependencies=[Depends(require_json)],
    )
    async def speech(request: Request, asked: SpeechBody) -> Response:
        said = Utterance(asked.input, asked.voice)
        form = AudioForm(asked.response_format, speed=asked.speed)
        if asked.stream_format == "sse":
            return await speaker.streamed(request, said, form, _events, EVENTS)
        return await speaker.streamed(request, said, form)

    @router.get("/v1/audio/voices", summary="List the voices")
    async def voices() -> Voices:
        personas = speaker.personas.values()
        return Voices(
            voices=[
                Voice(id=persona.name, name=persona.name, description=persona.description)
                for persona in personas
            ]
        )

    @router.get("/v1/models", summary="List the models that clients ask for")
    async def models() -> Models:
        return Models(data=[Model(id=name) for name in MODELS])

    return router


async def _events(pieces: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Put audio into server-sent events. What breaks off ends with an event that says so."""
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                if piece:
                    audio = base64.b64encode(piece).decode()
                    yield _event("speech.audio.delta", audio=audio)
    except SesameError as error:
        yield _event("speech.audio.error", error={"message": error.message, "hint": error.hint})
        return
    # Nothing is charged, so nothing was used.
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    yield _event("speech.audio.done", usage=usage)


def _event(kind: str, **fields: object) -> bytes:
    return f"data: {json.dumps({'type': kind, **fields}, separators=(',', ':'))}\n\n".encode()
