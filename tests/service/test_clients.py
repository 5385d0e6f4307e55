"""Maya's own clients, each sending exactly what it sends and reading what it reads.

The rows are those of the contract; what differs between clients is kept, headers included.
"""

import base64
import io
import wave
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from service.app import create_app
from service.settings import ServiceSettings
from tests.service.rungs import Rung, tone
from tests.service.serving import serving

AXIOS = {"Accept": "application/json, text/plain, */*"}
FETCH = {"Accept": "*/*"}
GUIDES_URL = "/api/v1/generate"


def seconds(wav: bytes) -> float:
    with wave.open(io.BytesIO(wav)) as file:
        return float(file.getnframes() / file.getframerate())


def test_a_northflank_sesame_reads_raw_audio(voice: httpx.Client) -> None:
    asked = {
        "text": "Hello from Maya",
        "voice": "maya",
        "format": "wav",
        "sample_rate": 16_000,
        "speed": 1.0,
    }
    answer = voice.post(GUIDES_URL, json=asked, headers=FETCH)
    assert "audio" in answer.headers["content-type"]
    with wave.open(io.BytesIO(answer.content)) as file:
        assert file.getframerate() == 16_000


def test_a_northflank_sesame_also_fetches_an_absolute_address(voice: httpx.Client) -> None:
    asked = {"text": "Hello from Maya", "format": "json"}
    address = voice.post(GUIDES_URL, json=asked).json()["audio_url"]
    assert address.startswith(f"{voice.base_url}/audio/".replace("//audio", "/audio"))
    assert seconds(httpx.get(address, trust_env=False).content) > 0.8


def test_a_lists_voices_as_an_array(voice: httpx.Client) -> None:
    listed = voice.get("/voices", headers=FETCH).json()["voices"]
    assert [entry["id"] for entry in listed] == ["maya", "mystic", "neutral", "warm"]


@pytest.mark.parametrize("shown", [{}, {"Authorization": "Bearer local"}])
def test_b_sesame_service_reads_audio_data(voice: httpx.Client, shown: Mapping[str, str]) -> None:
    asked = {
        "text": "Hello from Maya",
        "speaker_id": 0,
        "max_audio_length_ms": 10_000,
        "format": "base64",
    }
    answer = voice.post("/generate", json=asked, headers={**AXIOS, **shown}).json()
    assert answer["success"] is True
    assert 0.8 < seconds(base64.b64decode(answer["audio_data"])) < 10


def test_b_reads_an_error_as_a_string(voice: httpx.Client) -> None:
    answer = voice.post("/generate", json={"text": "", "format": "base64"}, headers=AXIOS).json()
    assert answer["success"] is False
    assert isinstance(answer["error"], str)


@pytest.mark.parametrize("text", ["test", "Hello from Maya"])
def test_b_as_the_guide_sets_it_reads_an_array(voice: httpx.Client, text: str) -> None:
    asked = {"inputs": text, "parameters": {"temperature": 0.8, "speaker": 3, "voice": "warm"}}
    answer = voice.post(GUIDES_URL, json=asked, headers={"Authorization": "Bearer local", **AXIOS})
    assert answer.headers["x-speech-voice"] == "warm"
    (first,) = answer.json()
    assert seconds(base64.b64decode(first["generated_audio"])) > 0.2


@pytest.mark.parametrize(
    "asked",
    [
        {"text": "Hello", "voice": "maya"},
        {"text": "Hello", "voice": "maya", "output_format": "wav", "element": "fire"},
        {"text": "Hello", "voice": "oracle", "format": "wav", "speed": 1.1, "pitch": 1},
        {"text": "Hello", "voice": "maya", "output_format": "mp3_44100_128"},
    ],
)
def test_c_reads_audio_format_and_duration(voice: httpx.Client, asked: dict[str, Any]) -> None:
    answer = voice.post("/tts", json=asked, headers=AXIOS).json()
    assert answer["success"] is True
    assert answer["format"] == ("mp3" if "mp3" in str(asked) else "wav")
    assert 0.2 < answer["duration"] < 3
    assert len(base64.b64decode(answer["audio"])) > 3_000


@pytest.mark.parametrize(
    "named", ["maya-oracle", "phoenix-bold", "river-gentle", "stone-steady", "wind-clear"]
)
def test_c_orchestrator_fetches_the_address(voice: httpx.Client, named: str) -> None:
    asked = {"text": "Hello", "voice": named, "speed": 1.0, "pitch": 1.0}
    answer = voice.post("/tts", json=asked, headers=FETCH).json()
    assert answer["audioUrl"] == answer["url"]
    assert seconds(httpx.get(answer["audioUrl"], trust_env=False).content) > 0.2


def test_d_sesame_tts_reads_raw_bytes_of_ssml(voice: httpx.Client) -> None:
    answer = voice.post(
        "/v1/text-to-speech/maya",
        headers={"xi-api-key": "local", "Accept": "audio/mpeg"},
        json={
            "text": '<speak><prosody rate="slow">Hello</prosody><break time="200ms"/>Maya</speak>',
            "model": "sesame-maya",
            "output_format": "mp3_44100_128",
            "voice_settings": {"stability": 0.5, "similarity_boost": 0.75},
        },
    )
    assert (answer.status_code, answer.headers["content-type"]) == (200, "audio/mpeg")


@pytest.mark.parametrize("token", ["", "undefined", "a-token"])
def test_e_pipeline_gets_its_text_shaped(voice: httpx.Client, token: str) -> None:
    asked = {
        "text": "Breathe. You are *here*.",
        "style": "conversational",
        "archetype": "sage",
        "meta": {"source": "chat"},
    }
    named = {"X-Maya-Element": "fire", "X-Maya-Archetype": "sage"}
    headers = {**FETCH, **named, "Authorization": f"Bearer {token}".strip()}
    answer = voice.post("/ci/shape", json=asked, headers=headers).json()
    assert answer["text"] == 'Breathe.<pause duration="150ms"/> You are <em>here</em>.'
    assert answer["shaped"] == answer["shaped_text"] == answer["text"]
    assert answer["raw"] == asked["text"]
    assert answer["shapingApplied"] is True
    assert answer["tags"] == ['<pause duration="150ms"/>', "<em>"]
    assert answer["processingTime"] >= 0


@pytest.mark.parametrize("asked", [{}, {"text": ""}, {"text": "<em>a</em>. B", "meta": 7}])
def test_e_is_never_refused_for_good_json(voice: httpx.Client, asked: dict[str, Any]) -> None:
    answer = voice.post("/ci/shape", json=asked)
    assert answer.status_code == 200
    assert answer.json()["text"] == asked.get("text", "")
    assert answer.json()["shapingApplied"] is False


def test_f_monitor_finds_everything_well(voice: httpx.Client) -> None:
    assert voice.get("/health", headers=AXIOS).status_code == 200
    test = voice.post("/tts", json={"text": "test", "voice": "maya"}, headers=AXIOS)
    assert test.status_code == 200
    assert voice.get("/model/status", headers=AXIOS).json()["model_loaded"] is False
    assert voice.get("/metrics", headers=AXIOS).json()["memoryUsageMB"] > 10


def test_prometheus_still_reads_its_own_form(voice: httpx.Client) -> None:
    scraper = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1"}
    assert voice.get("/metrics", headers=scraper).text.startswith("# HELP")


def test_g_stream_chunk_reads_mp3(voice: httpx.Client) -> None:
    asked = {
        "model": "tts-1-hd",
        "voice": "nova",
        "input": "Hello from Maya",
        "response_format": "mp3",
        "speed": 0.95,
    }
    answer = voice.post("/v1/audio/speech", json=asked, headers=FETCH)
    assert answer.content[:2] == b"\xff\xf3"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health"),
        ("GET", "/voices"),
        ("GET", "/model/status"),
        ("GET", "/metrics"),
        ("POST", "/tts"),
        ("POST", "/ci/shape"),
    ],
)
def test_what_clients_append_to_the_guides_url_is_found(
    voice: httpx.Client, method: str, path: str
) -> None:
    body = {"text": "Hello"} if method == "POST" else None
    answer = voice.request(method, GUIDES_URL + path, json=body)
    assert answer.status_code == 200


def test_shell_scripts_find_their_words_and_bytes(voice: httpx.Client) -> None:
    assert '"model_loaded":false' in voice.get("/health").text
    form = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "*/*"}
    answer = voice.post(GUIDES_URL, content=b'{"text":"Hello from Maya"}', headers=form)
    assert answer.content[:4] == b"RIFF"


@pytest.fixture
def guarded() -> Iterator[httpx.Client]:
    settings = ServiceSettings(server_key=SecretStr("a-key-of-sixteen-characters"))
    with serving(create_app(settings, [Rung(tone(1))])) as client:
        yield client


def test_with_a_key_the_audio_behind_an_address_stays_open(guarded: httpx.Client) -> None:
    shown = {"Authorization": "Bearer a-key-of-sixteen-characters"}
    answer = guarded.post("/tts", json={"text": "Hello"}, headers=shown).json()
    assert guarded.get(answer["audio_url"]).status_code == 200
    assert guarded.get("/voices").status_code == 401
    assert guarded.post(f"{GUIDES_URL}/tts", json={"text": "Hello"}).status_code == 401
    assert guarded.get(f"{GUIDES_URL}/health").status_code == 200


@pytest.mark.parametrize("name", ["none", "..%2f..%2fetc%2fpasswd", "%00"])
def test_an_address_that_was_never_given_leads_nowhere(voice: httpx.Client, name: str) -> None:
    assert voice.get(f"/audio/{name}").status_code == 404
