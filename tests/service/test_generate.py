import io
import logging
import re
import wave
from typing import Any

import httpx
import numpy as np
import pytest

from service.app import create_app
from service.engines.engine import EngineState
from service.settings import ServiceSettings
from tests.service.rungs import Rung, broken, tone
from tests.service.serving import serving

ROUTE = "/api/v1/generate"


def answer_of(*rungs: Rung, **settings: Any) -> httpx.Response:
    """Ask a service of these rungs to speak."""
    with serving(create_app(ServiceSettings(**settings), rungs)) as client:
        return client.post(ROUTE, json={"text": "Hello from Maya"})


def duration(answer: httpx.Response) -> float:
    assert answer.status_code == 200, answer.text
    with wave.open(io.BytesIO(answer.content)) as file:
        return float(file.getnframes() / file.getframerate())


def test_the_guides_own_request_is_answered_with_a_wav(voice: httpx.Client) -> None:
    answer = voice.post(ROUTE, json={"text": "Hello from Maya"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")
    with wave.open(io.BytesIO(answer.content)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
        assert len(file.readframes(10**9)) == len(answer.content) - 44
        assert 0.8 < file.getnframes() / 24_000 < 3


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("name", "media_type", "begins"),
    [
        ("mp3", "audio/mpeg", (b"ID3", b"\xff\xf3")),
        ("opus", "audio/ogg", (b"OggS",)),
        ("flac", "audio/flac", (b"fLaC",)),
        ("aac", "audio/aac", (b"\xff\xf1",)),
        ("pcm", "audio/pcm", (b"",)),
    ],
)
def test_every_format_is_answered_as_what_it_is(
    name: str, media_type: str, begins: tuple[bytes, ...], stream: bool, voice: httpx.Client
) -> None:
    asked = {"text": "Hello from Maya", "format": name, "stream": stream}
    answer = voice.post(ROUTE, json=asked)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert answer.content.startswith(begins)
    assert len(answer.content) > 4_000


def test_a_rate_that_a_format_cannot_have_is_told_with_those_that_it_can(
    voice: httpx.Client,
) -> None:
    asked = {"text": "Hello", "format": "opus", "sample_rate": 44_100}
    refused = voice.post(ROUTE, json=asked)
    assert (refused.status_code, refused.json()["code"]) == (422, "field_refused")
    assert refused.json()["error"] == "sample_rate=44100 with format=opus"
    assert refused.json()["hint"] == "opus can have 8000, 16000, 24000, 48000"


def test_the_answer_says_who_spoke(voice: httpx.Client) -> None:
    headers = voice.post(ROUTE, json={"text": "Hello", "voice": "oracle"}).headers
    assert headers["x-speech-engine"] == "basic"
    assert headers["x-speech-voice"] == "maya"
    assert headers["x-speech-attempts"] == "basic=ok"
    assert headers["x-speech-substitution"] == "maya=espeak-ng:en-us+f3"


def test_a_persona_in_its_own_voice_names_no_substitution() -> None:
    assert "x-speech-substitution" not in answer_of(Rung(tone())).headers


def test_the_answer_says_how_long_it_took(voice: httpx.Client) -> None:
    timing = voice.post(ROUTE, json={"text": "Hello"}).headers["server-timing"]
    found = re.fullmatch(
        r"queue;dur=([\d.]+), first_audio;dur=([\d.]+), total;dur=([\d.]+)", timing
    )
    assert found is not None
    queue, first_audio, total = map(float, found.groups())
    assert queue <= first_audio <= total


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 44_100, 48_000])
def test_every_documented_rate_can_be_had(rate: int, voice: httpx.Client) -> None:
    answer = voice.post(ROUTE, json={"text": "Hello from Maya", "sample_rate": rate})
    with wave.open(io.BytesIO(answer.content)) as file:
        assert file.getframerate() == rate
        assert 0.8 < file.getnframes() / rate < 3


@pytest.mark.parametrize("speed", [0.25, 0.5, 2, 4.0])
def test_speed_changes_the_length(speed: float, voice: httpx.Client) -> None:
    text = "One sentence that is long enough to be measured."
    normal = duration(voice.post(ROUTE, json={"text": text}))
    changed = duration(voice.post(ROUTE, json={"text": text, "speed": speed}))
    assert changed == pytest.approx(normal / speed, rel=0.1)


def test_each_persona_sounds_different(voice: httpx.Client) -> None:
    answers = {
        voice.post(ROUTE, json={"text": "Hello", "voice": name}).content
        for name in ("maya", "neutral", "warm", "mystic")
    }
    assert len(answers) == 4


def test_pauses_are_heard_as_silence(voice: httpx.Client) -> None:
    plain = duration(voice.post(ROUTE, json={"text": "Hello there"}))
    paused = duration(voice.post(ROUTE, json={"text": 'Hello <pause duration="2s"/> there'}))
    assert 1.8 < paused - plain < 3


def test_the_longest_text_is_spoken(voice: httpx.Client) -> None:
    answer = voice.post(ROUTE, json={"text": ("word " * 1_000).ljust(5_001, ".")[:5_000]})
    assert duration(answer) > 60


def test_unknown_fields_are_ignored(voice: httpx.Client) -> None:
    fields = {"text": "Hello", "element": "fire", "mood": "warm", "context": None}
    assert voice.post(ROUTE, json=fields).status_code == 200


def test_half_an_emoji_does_not_silence_maya(voice: httpx.Client) -> None:
    answer = voice.post(
        ROUTE,
        content=rb'{"text":"well done \ud83d"}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("kind", [None, "application/json; charset=utf-8", "application/x+json"])
def test_json_is_read_under_every_name_it_has(kind: str | None, voice: httpx.Client) -> None:
    headers = {"Content-Type": kind} if kind else {}
    assert voice.post(ROUTE, content=b'{"text":"Hello"}', headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code", "told"),
    [
        ('{"text":""}', 422, "text_empty", "nothing that can be spoken"),
        ('{"text":" \\n\\t "}', 422, "text_empty", "nothing that can be spoken"),
        ('{"text":"<pause-200ms> <em></em>"}', 422, "text_empty", "nothing that can be spoken"),
        ('{"text":"\\ud800"}', 422, "text_empty", "nothing that can be spoken"),
        ('{"text":"\\u0000\\u0001"}', 422, "text_empty", "nothing that can be spoken"),
        ('{"text":"%s"}' % ("a" * 5_001), 422, "text_too_long", "at most 5000"),
        ("{}", 422, "field_refused", "text is missing"),
        ('{"text":null}', 422, "field_refused", "text: Input should be a valid string"),
        ('{"text":7}', 422, "field_refused", "text: Input should be a valid string"),
        ('{"text":["a"]}', 422, "field_refused", "text: Input should be a valid string"),
        ('{"text":"a","voice":"hal"}', 422, "voice_unknown", "voice='hal' is unknown"),
        ('{"text":"a","voice":"\\ud800"}', 422, "voice_unknown", r"voice='\ud800' is unknown"),
        ('{"text":"a","voice":7}', 422, "field_refused", "voice=7: Input should be a valid string"),
        (
            '{"text":"a","format":"m4a"}',
            422,
            "field_refused",
            "format='m4a': Input should be 'wav', 'mp3', 'opus'",
        ),
        ('{"text":"a","sample_rate":true}', 422, "field_refused", "sample_rate=True: "),
        ('{"text":"a","sample_rate":11025}', 422, "field_refused", "8000, 16000, 22050, 24000"),
        ('{"text":"a","sample_rate":"16000"}', 422, "field_refused", "sample_rate='16000': "),
        ('{"text":"a","speed":NaN}', 422, "field_refused", "speed=nan: "),
        ('{"text":"a","speed":Infinity}', 422, "field_refused", "speed=inf: "),
        ('{"text":"a","speed":1e999}', 422, "field_refused", "speed=inf: "),
        ('{"text":"a","speed":0.24}', 422, "field_refused", "greater than or equal to 0.25"),
        ('{"text":"a","speed":4.1}', 422, "field_refused", "less than or equal to 4"),
        ('{"text":"a","speed":true}', 422, "field_refused", "speed=True: "),
        ('{"text":"a","speed":"1"}', 422, "field_refused", "speed='1': "),
        ('{"text":"a","stream":"yes"}', 422, "field_refused", "stream='yes': "),
        ('{"text":"a","temperature":-0.1}', 422, "field_refused", "temperature=-0.1: "),
        ('{"text":"a","temperature":2.1}', 422, "field_refused", "less than or equal to 2"),
        ('{"text":"a","top_k":0}', 422, "field_refused", "greater than or equal to 1"),
        ('{"text":"a","top_k":2052}', 422, "field_refused", "less than or equal to 2051"),
        ('{"text":"a","seed":-1}', 422, "field_refused", "seed=-1: "),
        (
            '{"text":"a","seed":9223372036854775808}',
            422,
            "field_refused",
            "seed=9223372036854775808",
        ),
        ('{"text":"a","seed":true}', 422, "field_refused", "seed=True: "),
        ('{"text":"a","max_audio_length_ms":79}', 422, "field_refused", "equal to 80"),
        ("[]", 422, "field_refused", "the body is no JSON object"),
        ('"Hello"', 422, "field_refused", "the body is no JSON object"),
        ("null", 422, "field_refused", "the body is no JSON object"),
        ("", 422, "field_refused", "the body is no JSON object"),
        ("{text:1}", 400, "not_json", "the body is not JSON"),
        ('{"text":"a"', 400, "not_json", "the body is not JSON"),
        ('{"text":"a","speed":%s}' % ("9" * 5_000), 400, "not_json", "the body is not JSON"),
        ("[" * 100_000, 400, "not_json", "the body is not JSON"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(
    body: str, status: int, code: str, told: str, voice: httpx.Client
) -> None:
    answer = voice.post(ROUTE, content=body, headers={"Content-Type": "application/json"})
    error = answer.json()
    assert (answer.status_code, error["success"], error["code"]) == (status, False, code)
    assert told in error["error"]
    assert error["hint"]
    assert answer.headers["x-request-id"]


def test_bytes_that_are_no_text_are_not_json(voice: httpx.Client) -> None:
    answer = voice.post(
        ROUTE, content=b'{"text":"\xff\xfe"}', headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "not_json")


def test_an_unknown_voice_is_told_the_voices(voice: httpx.Client) -> None:
    error = voice.post(ROUTE, json={"text": "a", "voice": "hal"}).json()
    assert error["hint"] == "voices are: maya, mystic, neutral, warm"


def test_request_text_is_not_shown_in_an_error(voice: httpx.Client) -> None:
    answer = voice.post(ROUTE, json={"text": ["a secret of mine"]})
    assert "secret" not in answer.text


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", "nonsense"])
def test_a_content_type_that_is_not_json_is_refused(kind: str, voice: httpx.Client) -> None:
    answer = voice.post(ROUTE, content=b'{"text":"a"}', headers={"Content-Type": kind})
    error = answer.json()
    assert (answer.status_code, error["code"]) == (415, "content_type_refused")
    assert kind in error["error"]


def test_curl_with_its_default_content_type_is_answered(voice: httpx.Client) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = voice.post(ROUTE, content=b'{"text":"a"}', headers=headers)
    assert (answer.status_code, answer.content[:4]) == (200, b"RIFF")


def test_a_form_that_a_browser_posts_is_refused(voice: httpx.Client) -> None:
    ours = str(voice.base_url).rstrip("/")
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": ours}
    answer = voice.post(ROUTE, content=b'{"text":"a"}', headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "content_type_refused")


def test_errors_are_compact_json(voice: httpx.Client) -> None:
    assert '"success":false,"error":"' in voice.post(ROUTE, json={}).text


def test_a_rung_that_hangs_is_a_deadline(caplog: pytest.LogCaptureFixture) -> None:
    answer = answer_of(Rung(hangs=True), deadline_seconds=0.1)
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    assert answer.headers["x-speech-attempts"] == "basic=timeout"
    assert "timeout" in caplog.text


@pytest.mark.parametrize(
    ("rung", "attempts"),
    [
        (Rung(np.zeros(48_000, np.float32)), "basic=silent"),
        (Rung(np.full(480, np.nan, np.float32)), "basic=not_finite"),
        (broken(), "basic=failed"),
        (Rung(state=EngineState("off", "not installed")), "basic=off"),
    ],
)
def test_a_rung_that_does_not_speak_is_a_voice_offline(rung: Rung, attempts: str) -> None:
    answer = answer_of(rung)
    assert (answer.status_code, answer.json()["code"]) == (503, "voice_offline")
    assert attempts in answer.json()["error"]
    assert answer.headers["x-speech-attempts"] == attempts
    assert answer.headers["retry-after"]


def test_a_voice_that_breaks_off_never_looks_complete() -> None:
    answer = answer_of(Rung(tone(), hangs=True), stall_seconds=0.1)
    assert (answer.status_code, answer.json()["code"]) == (503, "speech_cut_off")


def test_an_endless_voice_is_broken_off() -> None:
    rung = Rung(*[tone(10)] * 99)
    answer = answer_of(rung)
    assert (answer.status_code, answer.json()["code"]) == (503, "speech_cut_off")
    assert answer.headers["x-speech-attempts"] == "basic=too_long"
    assert rung.ended.is_set()


def test_audio_that_a_slow_tempo_makes_too_long_is_refused() -> None:
    rung = Rung(*[tone(60)] * 11)
    with serving(create_app(ServiceSettings(), [rung])) as client:
        answer = client.post(ROUTE, json={"text": "word " * 500, "speed": 0.25})
    assert (answer.status_code, answer.json()["code"]) == (422, "audio_too_long")


def test_a_voice_that_is_switched_off_is_offline() -> None:
    with serving(create_app(ServiceSettings(enabled=False))) as client:
        answer = client.post(ROUTE, json={"text": "Hello"})
    assert (answer.status_code, answer.json()["code"]) == (503, "voice_offline")
    assert "SESAME_ENABLED" in answer.json()["hint"]


def test_the_log_tells_engine_lengths_and_times_but_not_the_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = create_app(ServiceSettings(), [Rung(tone(1))])
    with caplog.at_level(logging.INFO), serving(app) as client:
        client.post(ROUTE, json={"text": "a secret of mine"})
    assert "engine=basic" in caplog.text
    assert "characters=16" in caplog.text
    assert "first_audio_ms=" in caplog.text
    assert "secret" not in caplog.text
