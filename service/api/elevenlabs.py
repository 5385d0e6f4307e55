"""ElevenLabs' dialect: `POST /v1/text-to-speech/{voice_id}`, whole or streamed.

The form is that of ElevenLabs' API reference; of `voice_settings` only the speed is heard.
"""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import Response

from service.api.reading import AUDIO, require_json, without_lone_surrogates
from service.api.refusals import ElevenLabsError, documented
from service.api.spoken import AudioForm, Speaker, Utterance
from service.audio import SAMPLE_RATES
from service.encoding import FORMATS, FormatName
from service.errors import FieldError

__all__ = ["TextBody", "read_output_format", "routes"]

OUTPUT_FORMAT = re.compile(r"(mp3|pcm|ulaw|wav|opus|flac|aac)(?:_(\d{4,6})(?:_(\d{1,3}))?)?")
DEFAULT_OUTPUT_FORMAT = "mp3_44100_128"
KILO = 1_000


class VoiceSettings(BaseModel):
    """How the voice is to be. What CSM has no word for is ignored."""

    speed: Annotated[float | None, Field(ge=0.25, le=4, allow_inf_nan=False)] = None


class TextBody(BaseModel):
    """What to say, and how. Unknown fields are ignored, `model_id` among them."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: Annotated[
        str,
        BeforeValidator(without_lone_surrogates),
        Field(strict=True, examples=["Hello from Maya"]),
    ]
    """1 to 5,000 characters after trimming; SSML's pauses become silence, its other tags are
    dropped."""

    voice_settings: VoiceSettings | None = None

    seed: Annotated[int | None, Field(strict=True, ge=0, lt=2**32)] = None
    """The same seed gives the same audio again, on the same build and device."""

    output_format: Annotated[str | None, Field(strict=True)] = None
    """As the query parameter of that name, which comes first."""


def read_output_format(name: str, speed: float = 1.0) -> AudioForm:
    """Read CODEC_RATE_KBPS, such as `mp3_44100_128`, `pcm_16000` or `ulaw_8000`.

    Raises FieldError that lists what there is.
    """
    found = OUTPUT_FORMAT.fullmatch(name)
    if found is None:
        raise FieldError(
            f"output_format={name[:40]!r} is unknown",
            f"it is one of {', '.join(FORMATS)}, and a rate: {', '.join(map(str, SAMPLE_RATES))}, "
            f"such as {DEFAULT_OUTPUT_FORMAT} or pcm_16000",
        )
    codec, rate, kilobits = found.groups()
    return AudioForm(
        _codec(codec),
        int(rate) if rate else 24_000,
        speed,
        bit_rate=int(kilobits) * KILO if kilobits and int(kilobits) else None,
    )


def _codec(name: str) -> FormatName:
    return next(known for known in FORMATS if known == name)


VoiceId = Annotated[str, Path(description="A persona, or an alias of one")]
OutputFormat = Annotated[
    str | None, Query(description="CODEC_RATE_KBPS: such as mp3_44100_128, pcm_16000, ulaw_8000")
]


def routes(speaker: Speaker) -> APIRouter:
    """Give the routes of this dialect."""
    router = APIRouter(tags=["ElevenLabs"], strict_content_type=False)
    described: dict[int | str, dict[str, Any]] = {
        200: {
            "description": "The audio, in the form asked for",
            "content": {form.media_type: AUDIO for form in FORMATS.values()},
        },
        **documented(400, 401, 408, 413, 415, 422, 429, 503, 504, 508, model=ElevenLabsError),
    }

    @router.post(
        "/v1/text-to-speech/{voice_id}",
        summary="Speak a text, as ElevenLabs' clients ask for it",
        response_class=Response,
        responses=described,
        dependencies=[Depends(require_json)],
    )
    async def whole(
        request: Request, asked: TextBody, voice_id: VoiceId, output_format: OutputFormat = None
    ) -> Response:
        said = Utterance(asked.text, voice_id, seed=asked.seed)
        return await speaker.whole(request, said, _form(asked, output_format))

    @router.post(
        "/v1/text-to-speech/{voice_id}/stream",
        summary="Speak a text, and send it while it is being spoken",
        response_class=Response,
        responses=described,
        dependencies=[Depends(require_json)],
    )
    async def streamed(
        request: Request, asked: TextBody, voice_id: VoiceId, output_format: OutputFormat = None
    ) -> Response:
        said = Utterance(asked.text, voice_id, seed=asked.seed)
        return await speaker.streamed(request, said, _form(asked, output_format))

    return router


def _form(asked: TextBody, output_format: str | None) -> AudioForm:
    speed = asked.voice_settings.speed if asked.voice_settings else None
    named = output_format or asked.output_format or DEFAULT_OUTPUT_FORMAT
    return read_output_format(named, 1.0 if speed is None else speed)
