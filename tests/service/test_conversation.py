"""What was said before, as a caller sends it."""

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from service.api.conversation import Turn, read_turns
from service.audio import SAMPLE_RATE, to_pcm16, wav_header
from service.errors import FieldError
from service.voices import Personas
from tests.service.rungs import tone

ROUTE = "/api/v1/generate"


def recording(seconds: float = 1.0) -> str:
    pcm = to_pcm16(tone(seconds))
    return base64.b64encode(wav_header(len(pcm), SAMPLE_RATE) + pcm).decode()


def test_a_turn_is_decoded_to_our_own_form(personas: Personas) -> None:
    turns = [
        Turn(text="Hello.", audio=recording(), voice="oracle"),
        Turn(text="And you?", audio=recording(0.5), speaker=7),
        Turn(text="Well.", audio=recording(0.25)),
    ]
    first, second, third = read_turns(turns, personas)
    assert (first.text, first.speaker) == ("Hello.", personas["maya"])
    assert (second.speaker, third.speaker) == (7, 1)
    np.testing.assert_allclose(first.samples, tone(1.0), atol=1e-4)


@pytest.mark.parametrize(
    ("context", "why"),
    [
        ([{"text": "a", "audio": "###"}], "context.0.audio is not base64"),
        ([{"text": "a", "audio": "QUJD"}], "context.0.audio: it holds no audio"),
        ([{"text": "a", "audio": recording(0)}], "context.0.audio is empty"),
        ([{"text": "a", "audio": recording(), "voice": "hal"}], "voice='hal' is unknown"),
        ([{"text": "a", "audio": recording(0.1)}] * 9, "context"),
        ([{"text": "", "audio": recording()}], "context.0.text"),
        ([{"text": "a"}], "context.0.audio"),
        ("what", "context"),
    ],
)
def test_a_conversation_that_cannot_be_read_is_refused_by_name(
    voice: httpx.Client, context: Any, why: str
) -> None:
    answer = voice.post(ROUTE, json={"text": "Hello", "context": context})
    assert answer.status_code == 422
    assert why in answer.json()["error"]
    assert len(answer.text) < 500, "the recording is not sent back"


def test_all_turns_together_may_have_a_minute(personas: Personas) -> None:
    turns = [Turn(text="a", audio=recording(31))] * 2
    with pytest.raises(FieldError, match="longer than 29 s"):
        read_turns(turns, personas)


def test_what_was_said_before_is_in_no_answer_and_no_log(
    voice: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    turns = [{"text": "a secret of mine", "audio": "a secret of mine", "speaker": "x"}]
    answer = voice.post(ROUTE, json={"text": "Hello", "context": turns})
    assert answer.status_code == 422
    assert "secret" not in answer.text + caplog.text
