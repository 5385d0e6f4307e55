"""A short text that is asked for again, and everything that has it spoken anew."""

import base64
import io
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from service.app import create_app
from service.engines.remembered import LONGEST_REMEMBERED, REMEMBERED_SECONDS
from service.errors import EngineError
from service.settings import ServiceSettings
from tests.service.rungs import Rung, tone
from tests.service.serving import serving

HELLO = {"text": "Hello, I'm Maya.", "seed": 1}
SECOND = 4 * 24_000  # bytes of remembered audio


@contextmanager
def voiced(*rungs: Rung, **settings: Any) -> Iterator[httpx.Client]:
    with serving(create_app(ServiceSettings(**settings), rungs)) as client:
        yield client


def say(client: httpx.Client, body: dict[str, Any], **headers: str) -> httpx.Response:
    answer = client.post("/generate", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def test_a_short_text_is_spoken_once() -> None:
    csm = Rung(tone(1), tone(0.5), name="csm")
    with voiced(csm) as client:
        first, again = say(client, HELLO), say(client, HELLO)
    assert csm.asked == 1
    assert again.content == first.content


def test_the_answer_says_that_it_was_remembered() -> None:
    with voiced(Rung(tone(1), name="csm")) as client:
        first, again = say(client, HELLO), say(client, HELLO)
    assert "age" not in first.headers
    assert "cache-status" not in first.headers
    assert again.headers["age"] == "0"
    assert again.headers["cache-status"] == "sesame; hit"
    assert again.headers["x-speech-engine"] == "csm"
    assert again.headers["x-speech-attempts"] == "csm=cached"


def test_json_says_so_too() -> None:
    with voiced(Rung(tone(1), name="csm")) as client:
        told = [say(client, {**HELLO, "format": "json"}).json()["cached"] for _ in range(2)]
    assert told == [False, True]


def test_one_utterance_serves_every_form() -> None:
    csm = Rung(tone(1), name="csm")
    with voiced(csm) as client:
        say(client, HELLO)
        quick = say(client, {**HELLO, "sample_rate": 48_000, "speed": 2})
        say(client, {**HELLO, "format": "flac"})
        client.post("/v1/audio/speech", json={"input": "Once", "voice": "maya"})
        client.post("/v1/text-to-speech/maya", json={"text": "Once"})
    assert csm.asked == 2
    with wave.open(io.BytesIO(quick.content)) as file:
        assert file.getnframes() / file.getframerate() == pytest.approx(0.5, abs=0.02)


def test_a_stream_is_remembered_at_its_end() -> None:
    csm = Rung(tone(1), tone(1), name="csm")
    with voiced(csm) as client:
        streamed = say(client, {**HELLO, "stream": True, "format": "pcm"})
        again = say(client, {**HELLO, "stream": True, "format": "pcm"})
    assert csm.asked == 1
    assert again.content == streamed.content


@pytest.mark.parametrize(
    "change",
    [
        {"text": "Hello, I am Maya."},
        {"text": "Hello, <pause duration='400ms'/> I'm Maya."},
        {"voice": "warm"},
        {"seed": 2},
        {"temperature": 0.5},
        {"top_k": 10},
        {"max_audio_length_ms": 900},
    ],
)
def test_what_would_sound_otherwise_is_spoken(change: dict[str, Any]) -> None:
    csm = Rung(tone(1), name="csm")
    with voiced(csm) as client:
        say(client, HELLO)
        say(client, {**HELLO, **change})
    assert csm.asked == 2


@pytest.mark.parametrize(
    ("headers", "spoken"),
    [
        ({}, 1),
        ({"Cache-Control": "max-age=60"}, 1),
        ({"Cache-Control": "no-transform, No-Cache"}, 2),
        ({"Cache-Control": "max-age=0"}, 2),
        ({"Pragma": "no-cache"}, 2),
        ({"Cache-Control": "no-store"}, 2),
    ],
)
def test_a_caller_may_have_it_spoken_anew(headers: dict[str, str], spoken: int) -> None:
    csm = Rung(tone(1), name="csm")
    with voiced(csm) as client:
        say(client, HELLO)
        say(client, HELLO, **headers)
    assert csm.asked == spoken


def test_a_caller_may_have_nothing_remembered() -> None:
    csm = Rung(tone(1), name="csm")
    with voiced(csm) as client:
        say(client, HELLO, **{"Cache-Control": "no-store"})
        say(client, HELLO)
    assert csm.asked == 2


def test_no_more_than_the_setting_says_is_remembered() -> None:
    csm = Rung(tone(1), name="csm")
    with voiced(csm, cache_bytes=2 * SECOND) as client:
        for text in ("a", "b", "a", "c", "a", "b"):
            say(client, {"text": text})
    # What was not asked for longest made room: b, when c came.
    assert csm.asked == 4


@pytest.mark.parametrize("most", [0, SECOND - 1])
def test_what_does_not_fit_is_not_remembered(most: int) -> None:
    csm = Rung(tone(1), name="csm")
    with voiced(csm, cache_bytes=most) as client:
        say(client, HELLO)
        say(client, HELLO)
    assert csm.asked == 2


def test_a_long_text_is_not_remembered() -> None:
    csm = Rung(tone(15), name="csm")
    with voiced(csm) as client:
        for length in (LONGEST_REMEMBERED, LONGEST_REMEMBERED + 1):
            say(client, {"text": "a" * length})
            say(client, {"text": "a" * length})
    assert csm.asked == 3


def test_what_was_said_long_ago_is_spoken_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr("service.engines.remembered.monotonic", lambda: now)
    csm = Rung(tone(1), name="csm")
    with voiced(csm) as client:
        say(client, HELLO)
        now += REMEMBERED_SECONDS
        assert say(client, HELLO).headers["age"] == f"{REMEMBERED_SECONDS:.0f}"
        now += 1
        say(client, HELLO)
    assert csm.asked == 2


def test_an_engine_that_cannot_speak_now_is_not_heard_from_memory() -> None:
    csm, basic = Rung(tone(1), name="csm"), Rung(tone(0.5))
    with voiced(csm, basic) as client:
        say(client, HELLO)
        csm.fall_silent()
        while client.get("/health").json()["engine"] == "csm":
            say(client, {"text": "other"}, **{"Cache-Control": "no-cache"})
        assert say(client, HELLO).headers["x-speech-engine"] == "basic"


def test_who_stood_in_is_not_heard_when_the_first_is_back() -> None:
    csm = Rung(name="csm", error=EngineError("it fell silent"))
    basic = Rung(tone(0.5))
    with voiced(csm, basic) as client:
        assert say(client, HELLO).headers["x-speech-engine"] == "basic"
        assert say(client, HELLO).headers["x-speech-attempts"] == "csm=failed;basic=ok"


def test_what_broke_off_is_not_remembered() -> None:
    csm = Rung(tone(1), name="csm", error=EngineError("it broke"))
    with voiced(csm) as client, pytest.raises(httpx.RemoteProtocolError):
        say(client, {**HELLO, "stream": True})
    with voiced(csm) as client:
        client.post("/generate", json=HELLO)
    assert csm.asked > 1


def test_after_turns_of_a_conversation_nothing_is_remembered() -> None:
    csm = Rung(tone(1), name="csm")
    with voiced(Rung(tone(1))) as client:
        clip = base64.b64encode(say(client, {"text": "Hi."}).content).decode()
    context = [{"speaker": 1, "text": "Hi.", "audio": clip}]
    with voiced(csm) as client:
        say(client, {**HELLO, "context": context})
        say(client, {**HELLO, "context": context})
    assert csm.asked == 2
