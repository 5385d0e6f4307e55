"""OpenAI's dialect, asked by OpenAI's own client."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Literal, get_args

import av
import httpx
import openai
import pytest
from pydantic import SecretStr

from service.app import create_app
from service.errors import EngineError
from service.settings import ServiceSettings
from tests.service.rungs import Rung, tone
from tests.service.serving import serving

Form = Literal["mp3", "opus", "aac", "flac", "wav"]


@pytest.fixture
def client(voice: httpx.Client) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="local", base_url=f"{voice.base_url}/v1", max_retries=0) as client:
        yield client


def seconds(content: bytes) -> float:
    with av.open(io.BytesIO(content), "r") as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


@pytest.mark.parametrize("form", get_args(Form))
def test_the_client_gets_speech_in_every_form(client: openai.OpenAI, form: Form) -> None:
    answer = client.audio.speech.create(
        model="tts-1-hd", voice="nova", input="Hello from Maya", response_format=form, speed=0.95
    )
    assert 0.8 < seconds(answer.content) < 3


def test_pcm_is_bare_samples_at_24_khz(client: openai.OpenAI) -> None:
    answer = client.audio.speech.create(
        model="tts-1", voice="maya", input="Hello from Maya", response_format="pcm"
    )
    assert 0.8 < len(answer.content) / 48_000 < 3


def test_a_client_that_streams_reads_as_it_comes(client: openai.OpenAI) -> None:
    asking = client.audio.speech.with_streaming_response.create(
        model="tts-1", voice="alloy", input="Hello from Maya"
    )
    with asking as answer:
        assert answer.headers["content-type"] == "audio/mpeg"
        assert "content-length" not in answer.headers
        assert seconds(b"".join(answer.iter_bytes())) > 0.8


def test_events_carry_the_audio_and_end(voice: httpx.Client) -> None:
    asked = {"input": "Hello", "stream_format": "sse", "response_format": "pcm"}
    answer = voice.post("/v1/audio/speech", json=asked)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line]
    assert [event["type"] for event in events[-1:]] == ["speech.audio.done"]
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"}
    audio = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert len(audio) > 10_000


def test_a_voice_that_breaks_off_is_an_event() -> None:
    rung = Rung(tone(1), error=EngineError("broken"))
    with serving(create_app(ServiceSettings(), [rung])) as client:
        asked = {"input": "Hello", "stream_format": "sse", "response_format": "pcm"}
        answer = client.post("/v1/audio/speech", json=asked)
    last = json.loads(answer.text.split("\n\n")[-2][6:])
    assert last["type"] == "speech.audio.error"
    assert last["error"]["message"]


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        ({"voice": "hal"}, openai.UnprocessableEntityError, "voices are: maya"),
        ({"speed": 5}, openai.UnprocessableEntityError, "speed=5"),
        ({"response_format": "ogg"}, openai.UnprocessableEntityError, "response_format='ogg'"),
        ({"input": "a" * 4_097}, openai.UnprocessableEntityError, "at most 4096"),
        ({"input": " "}, openai.UnprocessableEntityError, "text"),
    ],
)
def test_the_client_reads_what_is_wrong(
    client: openai.OpenAI,
    asked: dict[str, object],
    kind: type[openai.APIStatusError],
    words: str,
) -> None:
    with pytest.raises(kind, match=words) as caught:
        client.post(
            "/audio/speech",
            body={"model": "tts-1", "voice": "maya", "input": "Hello", **asked},
            cast_to=object,
        )
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "invalid_request_error"


def test_a_wrong_key_is_an_authentication_error() -> None:
    settings = ServiceSettings(server_key=SecretStr("a-key-of-sixteen-characters"))
    with (
        serving(create_app(settings, [Rung(tone())])) as served,
        openai.OpenAI(api_key="wrong", base_url=f"{served.base_url}/v1", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["code"] == "key_refused"


def test_voices_and_models_are_listed(client: openai.OpenAI, voice: httpx.Client) -> None:
    assert "tts-1" in {model.id for model in client.models.list()}
    listed = voice.get("/v1/audio/voices").json()["voices"]
    assert [entry["id"] for entry in listed] == ["maya", "mystic", "neutral", "warm"]


def test_a_voice_may_be_an_object_with_its_id(voice: httpx.Client) -> None:
    answer = voice.post("/v1/audio/speech", json={"input": "Hello", "voice": {"id": "warm"}})
    assert answer.headers["x-speech-voice"] == "warm"
