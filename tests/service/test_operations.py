import threading
import time
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from service import __version__
from service.app import create_app
from service.engines.engine import EngineState, ModelReport
from service.errors import SettingsError
from service.settings import ServiceSettings
from tests.service.rungs import Rung, tone
from tests.service.serving import serving

NOT_INSTALLED = EngineState("off", "espeak-ng is not installed; apt-get install espeak-ng")


def test_a_basic_voice_alone_is_degraded(voice: httpx.Client) -> None:
    answer = voice.get("/health")
    health = answer.json()
    assert answer.status_code == 200
    assert health.pop("uptime_seconds") >= 0
    assert health == {
        "status": "degraded",
        "model_loaded": False,
        "mode": "offline",
        "engine": "basic",
        "badge": {"icon": "🟠", "label": "Basic Voice"},
        "device": None,
        "model": None,
        "version": __version__,
        "voices": ["maya", "mystic", "neutral", "warm"],
        "engines": [{"name": "basic", "state": "ready"}],
    }


def test_health_is_compact_for_scripts_that_grep(voice: httpx.Client) -> None:
    assert '{"status":"degraded","model_loaded":false,"mode":"offline"' in voice.get("/health").text


@pytest.mark.parametrize("state", [NOT_INSTALLED, EngineState("open", "no sound")])
def test_a_voice_that_cannot_speak_is_offline_with_the_reason(state: EngineState) -> None:
    with serving(create_app(ServiceSettings(), [Rung(state=state)])) as client:
        answer, ready = client.get("/health"), client.get("/readyz")
    health = answer.json()
    assert answer.status_code == 503
    assert (health["status"], health["engine"]) == ("offline", None)
    assert health["badge"] == {"icon": "🔴", "label": "Voice Offline"}
    assert health["engines"] == [{"name": "basic", "state": state.name, "reason": state.reason}]
    assert ready.status_code == 503
    assert ready.json() == {"ready": False, "engine": None, "reason": f"basic: {state.reason}"}


SAMPLING = {"temperature", "top_k", "seed", "max_audio_length_ms", "context"}
MODEL = ModelReport("sesame/csm-1b@c0ffee", "cpu: a processor", "int8", 2.4186)
READING = EngineState("loading", "reading csm-1b into int8, 7 s in")


def test_a_model_that_speaks_is_healthy() -> None:
    rungs = [Rung(name="csm", state=EngineState("ready", model=MODEL)), Rung()]
    with serving(create_app(ServiceSettings(), rungs)) as client:
        answer = client.get("/health")
    health = answer.json()
    assert answer.status_code == 200
    assert '{"status":"healthy","model_loaded":true,' in answer.text
    assert health["badge"] == {"icon": "🟢", "label": "Sesame Local"}
    assert (health["engine"], health["model"]) == ("csm", MODEL.name)
    assert (health["device"], health["precision"]) == (MODEL.device, "int8")
    assert health["real_time_factor"] == 2.419


def test_a_model_that_loads_is_loading_though_another_rung_speaks() -> None:
    rungs = [Rung(name="csm", state=READING), Rung()]
    with serving(create_app(ServiceSettings(), rungs)) as client:
        answer, ready = client.get("/health"), client.get("/readyz")
    health = answer.json()
    assert (answer.status_code, health["status"], health["model_loaded"]) == (503, "loading", False)
    assert health["badge"] == {"icon": "🔴", "label": "Voice Offline"}
    assert health["progress"] == READING.reason
    assert (ready.status_code, ready.json()["engine"]) == (200, "basic")


def test_readiness_tells_how_far_loading_is_when_nothing_else_speaks() -> None:
    with serving(create_app(ServiceSettings(), [Rung(name="csm", state=READING)])) as client:
        ready = client.get("/readyz")
    assert (ready.status_code, ready.json()["reason"]) == (503, f"csm: {READING.reason}")


def test_speech_goes_to_the_next_rung_while_the_model_loads() -> None:
    rungs = [Rung(name="csm", state=READING), Rung(tone())]
    with serving(create_app(ServiceSettings(), rungs)) as client:
        answer = client.post("/api/v1/generate", json={"text": "Hello"})
    assert answer.headers["X-Speech-Attempts"] == "csm=loading;basic=ok"


def test_a_real_model_is_loaded_and_speaks(tiny_checkpoint: Path) -> None:
    settings = ServiceSettings(model=str(tiny_checkpoint), precision="fp32", basic_voice=False)
    with serving(create_app(settings)) as client:
        while client.get("/health").json()["status"] == "loading":
            time.sleep(0.05)
        health = client.get("/health").json()
        answer = client.post("/api/v1/generate", json={"text": "Hello."})
    assert health["badge"]["label"] == "Sesame Local"
    assert health["device"].startswith("cpu")
    assert answer.headers["X-Speech-Engine"] == "csm"
    assert "X-Speech-Substitution" not in answer.headers


def test_without_its_files_the_model_says_how_to_get_them(tmp_path: Path) -> None:
    with serving(create_app(ServiceSettings(hf_home=tmp_path))) as client:
        health = client.get("/health").json()
    assert health["status"] == "degraded"
    assert health["engines"][0]["state"] == "off"
    assert "accept its licence" in health["engines"][0]["reason"]


def test_a_service_that_could_never_speak_is_refused(tmp_path: Path) -> None:
    settings = ServiceSettings(hf_home=tmp_path, basic_voice=False)
    with pytest.raises(SettingsError, match="no rung could ever speak: csm: sesame/csm-1b is not"):
        create_app(settings)


def test_a_voice_that_is_switched_off_is_offline_and_says_so() -> None:
    with serving(create_app(ServiceSettings(enabled=False))) as client:
        answer, ready, alive = (client.get(path) for path in ("/health", "/readyz", "/livez"))
    assert (answer.status_code, answer.json()["status"]) == (503, "offline")
    assert (ready.status_code, ready.json()["reason"]) == (503, "SESAME_ENABLED=false")
    assert alive.status_code == 200


def test_health_follows_what_is_observed() -> None:
    rung = Rung()
    with serving(create_app(ServiceSettings(), [rung])) as client:
        before = client.get("/health").status_code
        rung.state = EngineState("open", "died")
        after = client.get("/health").status_code
    assert (before, after) == (200, 503)


def test_a_ready_voice_is_ready(voice: httpx.Client) -> None:
    answer = voice.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"ready": True, "engine": "basic", "reason": None}


def test_the_process_is_alive(voice: httpx.Client) -> None:
    answer = voice.get("/livez")
    assert (answer.status_code, answer.json()) == (200, {"alive": True})


def test_health_does_not_wait_for_a_rung_that_hangs() -> None:
    rung = Rung(tone(), hangs=True)
    app = create_app(ServiceSettings(stall_seconds=1), [rung])
    with serving(app) as client:
        speaking = threading.Thread(
            target=client.post, args=["/api/v1/generate"], kwargs={"json": {"text": "Hello"}}
        )
        speaking.start()
        assert rung.speaking.wait(5)
        answer = client.get("/health")
        assert not rung.ended.is_set()
        speaking.join()
    assert answer.status_code == 200


def test_health_is_answered_while_a_long_text_is_spoken(voice: httpx.Client) -> None:
    text = ("The quick brown fox jumps over the lazy dog. " * 111)[:5_000]
    speaking = threading.Thread(
        target=voice.post, args=["/api/v1/generate"], kwargs={"json": {"text": text, "speed": 0.5}}
    )
    speaking.start()
    seconds = []
    while speaking.is_alive():
        seconds.append(voice.get("/health").elapsed.total_seconds())
    # Not the slowest: on a busy machine any single answer may wait for a core.
    assert len(seconds) > 3
    assert min(seconds) < 0.05


def test_the_document_describes_what_is_answered(voice: httpx.Client) -> None:
    document = voice.get("/openapi.json").json()
    assert set(document["paths"]) == {
        "/",
        "/health",
        "/livez",
        "/readyz",
        "/metrics",
        "/rungs",
        "/rungs/drill",
        "/api/v1/generate",
        "/audio/{name}",
        "/ci/shape",
        "/generate",
        "/model/status",
        "/tts",
        "/voices",
        "/v1/audio/speech",
        "/v1/audio/voices",
        "/v1/models",
        "/v1/text-to-speech/{voice_id}",
        "/v1/text-to-speech/{voice_id}/stream",
    }
    generate = document["paths"]["/api/v1/generate"]["post"]
    refusals = {"400", "401", "408", "413", "415", "422", "429", "503", "504", "508"}
    assert set(generate["responses"]) == {"200", *refusals}
    assert set(generate["responses"]["200"]["content"]) >= {"audio/wav", "audio/mpeg"}
    for status in refusals:
        schema = generate["responses"][status]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ErrorBody"}
    assert set(document["paths"]["/health"]["get"]["responses"]) == {"200", "503"}


def test_the_document_describes_every_field(voice: httpx.Client) -> None:
    schemas = voice.get("/openapi.json").json()["components"]["schemas"]
    fields = schemas["GenerateRequest"]["properties"]
    assert (
        set(fields)
        == {"text", "voice", "format", "sample_rate", "speed", "stream", "inputs"} | SAMPLING
    )
    assert all(field["description"] for field in fields.values())


def test_the_document_names_a_key_only_when_one_is_demanded() -> None:
    with serving(create_app(ServiceSettings(server_key=SecretStr("k3y")))) as client:
        headers = {"Authorization": "Bearer k3y"}
        document = client.get("/openapi.json", headers=headers).json()
    security = document["paths"]["/api/v1/generate"]["post"]["security"]
    assert security == [{"HTTPBearer": []}, {"xi-api-key": []}, {"X-API-Key": []}]


def test_the_documentation_can_be_read(voice: httpx.Client) -> None:
    assert voice.get("/docs").status_code == 200
