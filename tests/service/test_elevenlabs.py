"""ElevenLabs' dialect, asked by ElevenLabs' own client."""

import io
from collections.abc import Iterator

import av
import httpx
import pytest
from elevenlabs import ElevenLabs
from elevenlabs.core import ApiError

from service.api.elevenlabs import read_output_format
from service.api.spoken import AudioForm
from service.errors import FieldError


@pytest.fixture
def client(voice: httpx.Client) -> Iterator[ElevenLabs]:
    with httpx.Client(trust_env=False) as http:
        yield ElevenLabs(api_key="local", base_url=str(voice.base_url), httpx_client=http)


def seconds(content: bytes) -> float:
    with av.open(io.BytesIO(content), "r") as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


def test_the_client_gets_an_mp3_by_default(client: ElevenLabs) -> None:
    audio = b"".join(client.text_to_speech.convert("maya", text="Hello from Maya"))
    assert 0.8 < seconds(audio) < 3


def test_the_client_streams(client: ElevenLabs) -> None:
    audio = client.text_to_speech.stream("warm", text="Hello", output_format="pcm_16000")
    assert len(b"".join(audio)) > 8_000


def test_a_telephone_gets_its_companded_samples(client: ElevenLabs) -> None:
    audio = b"".join(
        client.text_to_speech.convert("maya", text="Hello from Maya", output_format="ulaw_8000")
    )
    assert 0.8 < len(audio) / 8_000 < 3


def test_the_body_may_name_the_form_and_mark_up_is_not_spoken(voice: httpx.Client) -> None:
    answer = voice.post(
        "/v1/text-to-speech/maya",
        headers={"xi-api-key": "local"},
        json={
            "text": '<speak>Hello <break time="300ms"/> Maya</speak>',
            "model": "sesame",
            "output_format": "wav_24000",
            "voice_settings": {"stability": 0.5, "speed": 1.2},
        },
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/wav")


@pytest.mark.parametrize(
    ("named", "form"),
    [
        ("mp3_44100_128", AudioForm("mp3", 44_100, bit_rate=128_000)),
        ("mp3_22050_32", AudioForm("mp3", 22_050, bit_rate=32_000)),
        ("pcm_16000", AudioForm("pcm", 16_000)),
        ("ulaw_8000", AudioForm("ulaw", 8_000)),
        ("opus_48000_64", AudioForm("opus", 48_000, bit_rate=64_000)),
        ("wav_24000", AudioForm("wav", 24_000)),
        ("mp3", AudioForm("mp3", 24_000)),
    ],
)
def test_their_names_of_forms_are_understood(named: str, form: AudioForm) -> None:
    assert read_output_format(named) == form


@pytest.mark.parametrize("named", ["mp4_44100", "mp3_44100_128_1", "pcm_123", "opus_44100_64", ""])
def test_a_form_that_there_is_not_is_refused(named: str) -> None:
    with pytest.raises(FieldError):
        read_output_format(named)


def test_the_client_reads_what_is_wrong(client: ElevenLabs) -> None:
    with pytest.raises(ApiError) as caught:
        b"".join(client.text_to_speech.convert("hal", text="Hello"))
    assert caught.value.status_code == 422
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["detail"]["status"] == "voice_unknown"
    assert "voices are: maya" in caught.value.body["detail"]["message"]
