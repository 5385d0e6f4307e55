"""Our own dialect, the guide's: `POST /api/v1/generate` with JSON, audio back."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import Response

from service.api.conversation import MOST_TURNS, Turn
from service.api.reading import AUDIO, require_json, without_lone_surrogates
from service.api.refusals import documented
from service.api.spoken import AudioForm, Speaker, Utterance
from service.encoding import FORMATS
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

    format: Literal["wav", "mp3", "opus", "flac", "aac", "pcm"] = "wav"
    """What holds the audio: wav and pcm are 16-bit mono samples, with a header and without one;
    opus comes in Ogg, aac in ADTS."""

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

    context: Annotated[list[Turn] | None, Field(max_length=MOST_TURNS)] = None
    """What was said before, oldest first: at most 8 turns and 60 s. The model goes on from it."""

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


def routes(speaker: Speaker) -> APIRouter:
    """Give the routes of this dialect."""
    # Clients of the guide send JSON without naming it.
    router = APIRouter(tags=["speech"], strict_content_type=False)

    @router.post(
        "/api/v1/generate",
        summary="Speak a text",
        response_class=Response,
        responses={
            200: {
                "description": "The audio, in the format asked for. Headers: `X-Speech-Engine`, "
                "`X-Speech-Voice`, `X-Speech-Attempts`, `X-Speech-Substitution`, `Server-Timing`; "
                "with `stream`, `X-Accel-Buffering: no`",
                "content": {form.media_type: AUDIO for form in FORMATS.values()},
            },
            **documented(400, 401, 413, 415, 422, 503, 504, 508),
        },
        dependencies=[Depends(require_json)],
    )
    async def generate(request: Request, asked: GenerateRequest) -> Response:
        form = AudioForm(asked.format, asked.sample_rate, asked.speed)
        if asked.stream:
            return await speaker.streamed(request, asked.utterance, form)
        return await speaker.whole(request, asked.utterance, form)

    return router
