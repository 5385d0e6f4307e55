"""What was said before, as a caller sends it. It knows no dialect and no engine."""

import base64
import binascii
import io
from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.audio import SAMPLE_RATE, read_audio
from service.engines.engine import ContextTurn
from service.errors import AudioError, FieldError
from service.voices import Personas

__all__ = ["LONGEST_CONTEXT", "MOST_TURNS", "Turn", "read_turns"]

MOST_TURNS = 8
LONGEST_CONTEXT = 60.0  # seconds over all turns


class Turn(BaseModel):
    """One turn of the conversation so far."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: Annotated[str, Field(strict=True, min_length=1, max_length=5_000)]
    """Exactly what was said."""

    audio: Annotated[str, Field(strict=True, min_length=1)]
    """How it was said: a recording of any common form, base64."""

    voice: Annotated[str | None, Field(strict=True)] = None
    """The persona who said it."""

    speaker: Annotated[int | None, Field(strict=True, ge=0, le=99)] = None
    """Or the number of whoever else did; without either, 1."""


def read_turns(turns: Sequence[Turn], personas: Personas) -> tuple[ContextTurn, ...]:
    """Decode turns; it takes a while for long ones.

    Raises FieldError that names the turn, VoiceUnknownError.
    """
    return tuple(_read(turns, personas))


def _read(turns: Sequence[Turn], personas: Personas) -> Iterator[ContextTurn]:
    left = LONGEST_CONTEXT
    for number, turn in enumerate(turns):
        try:
            audio = base64.b64decode(turn.audio.encode("ascii"), validate=True)
            samples = read_audio(io.BytesIO(audio), longest=left)
        except (binascii.Error, UnicodeEncodeError) as error:
            raise FieldError(
                f"context.{number}.audio is not base64: {error.args[-1]}", "send base64 of a file"
            ) from None
        except AudioError as error:
            raise FieldError(
                f"context.{number}.audio: {error}",
                f"send a recording; all turns together may have {LONGEST_CONTEXT:g} s",
            ) from None
        if not samples.size:
            raise FieldError(f"context.{number}.audio is empty", "send a recording of the turn")
        left -= samples.size / SAMPLE_RATE
        speaker = 1 if turn.speaker is None else turn.speaker
        who = personas.resolve(turn.voice) if turn.voice is not None else speaker
        yield ContextTurn(turn.text, who, samples)
