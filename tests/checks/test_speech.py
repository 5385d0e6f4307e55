import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from checks.report import Report, Result, Verdict
from tests.checks.fake_service import (
    BASIC,
    HEALTHY,
    LOADING,
    OFFLINE,
    Act,
    Exchange,
    FakeService,
    Samples,
    answer_speech,
    spoken,
    wave_file,
)

pytestmark = pytest.mark.anyio

Checked = Callable[..., Awaitable[Report]]
Named = Callable[[Report, str], Result]


async def test_every_persona_and_for_the_first_other_rates_are_asked_for(
    fake: FakeService, checked: Checked
) -> None:
    report = await checked("speech")
    bodies = [json.loads(e.body) for e in fake.seen if e.path == "/api/v1/generate"]
    assert report.verdict is Verdict.MET
    assert {(body["voice"], body["sample_rate"]) for body in bodies} == {
        ("maya", 24000),
        ("warm", 24000),
        ("maya", 16000),
        ("maya", 44100),
    }


@pytest.mark.parametrize(("factor", "at_once"), [(0.5, 4), (2.5, 1)])
async def test_a_voice_that_is_slower_than_sound_is_asked_for_one_thing_at_a_time(
    fake: FakeService, checked: Checked, factor: float, at_once: int
) -> None:
    together, speaking, most = threading.Barrier(at_once), set[int](), 0

    def speak(exchange: Exchange) -> None:
        nonlocal most
        speaking.add(id(exchange))
        together.wait(timeout=10)
        most = max(most, len(speaking))
        speaking.discard(id(exchange))
        answer_speech(exchange, "csm")

    fake.health = HEALTHY | {"real_time_factor": factor}
    fake.acts["speech"] = speak
    assert (await checked("speech")).verdict is Verdict.MET
    assert most == at_once


async def test_no_answer_is_taken_from_a_cache(fake: FakeService, checked: Checked) -> None:
    await checked()
    assert {exchange.headers.get("cache-control") for exchange in fake.seen} == {"no-cache"}


def _noise(rate: int) -> Samples:
    return np.asarray(np.random.default_rng(0).normal(0, 3000, 2 * rate), dtype=np.int16)


def _loud(rate: int) -> Samples:
    return np.asarray(np.clip(spoken(rate).astype(np.int32) * 4, -32768, 32767), dtype=np.int16)


def _with_offset(rate: int) -> Samples:
    return np.asarray(spoken(rate, peak=0.3) + 6000, dtype=np.int16)


def _click_in_silence(rate: int) -> Samples:
    samples = np.zeros(2 * rate, dtype=np.int16)
    samples[rate : rate + 200] = 10000
    return samples


@pytest.mark.parametrize(
    ("wave", "reason"),
    [
        pytest.param(
            lambda rate: wave_file(spoken(rate), rate)[:-1000], "promises", id="truncated"
        ),
        pytest.param(lambda rate: wave_file(spoken(rate), rate // 2), "Hz, expected", id="rate"),
        pytest.param(
            lambda rate: wave_file(spoken(rate), rate, channels=2), "2 channel(s)", id="stereo"
        ),
        pytest.param(lambda rate: wave_file(spoken(rate), rate, bits=8), "8 bits", id="8 bits"),
        pytest.param(
            lambda rate: wave_file(np.zeros(2 * rate, dtype=np.int16), rate), "silent", id="silence"
        ),
        pytest.param(
            lambda rate: wave_file(np.zeros(0, dtype=np.int16), rate), "silent", id="no samples"
        ),
        pytest.param(
            lambda rate: wave_file(spoken(rate, peak=0.001), rate), "silent", id="a whisper"
        ),
        pytest.param(
            lambda rate: wave_file(np.full(2 * rate, -32768, dtype=np.int16), rate),
            "offset of -100%",
            id="constant",
        ),
        pytest.param(lambda rate: wave_file(_with_offset(rate), rate), "offset", id="offset"),
        pytest.param(lambda rate: wave_file(_loud(rate), rate), "clipped", id="clipped"),
        pytest.param(lambda rate: wave_file(_noise(rate), rate), "steady", id="hiss"),
        pytest.param(
            lambda rate: wave_file(spoken(rate, seconds=0.5), rate), "too short", id="too short"
        ),
        pytest.param(
            lambda rate: wave_file(_click_in_silence(rate), rate), "too short", id="one click"
        ),
        pytest.param(
            lambda rate: wave_file(spoken(rate, seconds=12), rate), "too long", id="too long"
        ),
        pytest.param(lambda _: b"ID3\x04" + bytes(4000), "no RIFF/WAVE", id="mp3"),
        pytest.param(lambda _: b"", "no RIFF/WAVE", id="empty"),
    ],
)
async def test_audio_that_cannot_be_the_phrase_is_not_met(
    fake: FakeService,
    checked: Checked,
    named: Named,
    wave: Callable[[int], bytes],
    reason: str,
) -> None:
    fake.speaks(wave=wave)
    result = named(await checked("speech"), "speech.maya")
    assert result.verdict is Verdict.NOT_MET
    assert reason in result.detail


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"X_Speech_Voice": "neutral"}, "X-Speech-Voice is neutral, expected maya"),
        ({"X_Speech_Voice": ""}, "X-Speech-Voice is missing"),
        ({"X_Speech_Engine": ""}, "X-Speech-Engine is missing"),
        ({"Content_Type": "application/octet-stream"}, "Content-Type is application/octet-stream"),
    ],
)
async def test_a_header_that_is_not_the_contract_s_is_not_met(
    fake: FakeService, checked: Checked, named: Named, headers: dict[str, str], reason: str
) -> None:
    fake.speaks(headers=headers)
    result = named(await checked("speech"), "speech.maya")
    assert result.verdict is Verdict.NOT_MET
    assert reason in result.detail


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        pytest.param(
            lambda exchange: exchange.answer_json(200, {"success": True, "audio": "UklGRg=="}),
            "Content-Type is application/json",
            id="JSON instead of audio",
        ),
        pytest.param(
            lambda exchange: exchange.answer_json(
                503, {"success": False, "error": "every rung failed", "code": "voice_offline"}
            ),
            "HTTP 503, expected 200: every rung failed",
            id="every rung failed",
        ),
        pytest.param(lambda exchange: exchange.answer(500, b"oops"), "HTTP 500", id="a crash"),
        pytest.param(lambda exchange: exchange.answer_json(404, {}), "HTTP 404", id="no route"),
        pytest.param(
            lambda exchange: exchange.answer(302, b"", Location="/"), "HTTP 302", id="a redirect"
        ),
        pytest.param(lambda exchange: exchange.hang(), "no whole answer within", id="hangs"),
        pytest.param(lambda exchange: exchange.drip(), "no whole answer within", id="drips"),
        pytest.param(lambda exchange: exchange.cut(9000), "cut off after 4500", id="is cut off"),
        pytest.param(lambda exchange: exchange.leave(), "without an HTTP answer", id="leaves"),
    ],
)
async def test_an_answer_that_is_no_speech_is_not_met(
    fake: FakeService, checked: Checked, named: Named, act: Act, reason: str
) -> None:
    fake.acts["speech"] = act
    report = await checked("speech", time_limit=0.5)
    result = named(report, "speech.maya")
    assert result.verdict is Verdict.NOT_MET
    assert reason in result.detail


@pytest.mark.parametrize("health", [HEALTHY, BASIC])
async def test_a_service_that_says_it_speaks_and_cannot_is_not_truthful(
    fake: FakeService, checked: Checked, named: Named, health: dict[str, Any]
) -> None:
    fake.health = health
    fake.acts["speech"] = lambda exchange: exchange.answer_json(503, {})
    result = named(await checked("speech"), "health.engine")
    assert result.verdict is Verdict.NOT_MET
    assert health["status"] in result.detail


@pytest.mark.parametrize(
    ("health", "http", "engine", "reason"),
    [
        pytest.param(HEALTHY, 200, "elevenlabs", "not call it ready: elevenlabs", id="not listed"),
        pytest.param(HEALTHY, 200, "basic", "names csm", id="another than the one named"),
        pytest.param(OFFLINE, 503, "basic", "not call it ready: basic", id="offline, yet speaking"),
    ],
)
async def test_an_engine_that_health_does_not_expect_is_not_met(
    fake: FakeService,
    checked: Checked,
    named: Named,
    health: dict[str, Any],
    http: int,
    engine: str,
    reason: str,
) -> None:
    fake.health, fake.health_http, fake.engine = health, http, engine
    result = named(await checked("speech"), "health.engine")
    assert result.verdict is Verdict.NOT_MET
    assert reason in result.detail


async def test_an_engine_that_takes_over_meanwhile_is_no_contradiction(
    fake: FakeService, checked: Checked, named: Named
) -> None:
    fake.engine = "basic"
    only_csm = HEALTHY | {"engines": [{"name": "csm", "state": "ready"}]}
    healths = iter([only_csm, BASIC])
    fake.acts["/health"] = lambda exchange: exchange.answer_json(200, next(healths))
    assert named(await checked("speech"), "health.engine").verdict is Verdict.MET


async def test_silence_that_health_announces_is_truthful_and_still_not_met(
    fake: FakeService, checked: Checked, named: Named
) -> None:
    fake.health, fake.health_http = OFFLINE, 503
    fake.acts["speech"] = lambda exchange: exchange.answer_json(503, {})
    report = await checked("speech")
    assert named(report, "health.engine").verdict is Verdict.MET
    assert named(report, "speech.maya").verdict is Verdict.NOT_MET


async def test_a_model_that_still_loads_cannot_be_judged(
    fake: FakeService, checked: Checked
) -> None:
    fake.health, fake.health_http, fake.readyz_http = LOADING, 503, 503
    fake.acts["speech"] = lambda exchange: exchange.answer_json(503, {})
    report = await checked("health", "speech")
    assert report.verdict is Verdict.UNKNOWN
    assert report.exit_code == 2


@pytest.mark.parametrize(
    ("status", "key", "reason"),
    [
        (401, "", "a server key is demanded"),
        (401, "wr0ng", "the server key is refused"),
        (429, "", "the queue is full"),
    ],
)
async def test_a_missing_key_and_a_full_queue_cannot_be_judged(
    fake: FakeService, checked: Checked, named: Named, status: int, key: str, reason: str
) -> None:
    fake.acts["/api/v1/generate"] = lambda exchange: exchange.answer_json(status, {})
    report = await checked(key=key)
    assert report.verdict is Verdict.UNKNOWN
    assert reason in named(report, "speech.maya").detail


async def test_a_missing_key_says_how_to_give_it(
    fake: FakeService, checked: Checked, named: Named
) -> None:
    fake.acts["/api/v1/generate"] = lambda exchange: exchange.answer_json(401, {})
    next_step = named(await checked(), "speech.maya").next_step
    assert "--key-file" in next_step
    assert "SESAME_SERVER_KEY" in next_step


async def test_the_key_goes_to_the_routes_that_want_it_only(
    fake: FakeService, checked: Checked
) -> None:
    await checked(key="k3y")
    shown = {exchange.path for exchange in fake.seen if "authorization" in exchange.headers}
    assert shown == {"/api/v1/generate", "/rungs"}
    assert fake.seen[-1].headers["authorization"] == "Bearer k3y"


async def test_a_key_that_the_service_repeats_is_not_reported(
    fake: FakeService, checked: Checked
) -> None:
    fake.acts["speech"] = lambda exchange: exchange.answer_json(
        500, {"error": f"bad {exchange.headers['authorization']}", "hint": "not k3y"}
    )
    fake.acts["unknown_voice"] = lambda exchange: exchange.answer_json(
        422, {"success": False, "error": "k3y", "code": "k3y"}
    )
    report = await checked(key="k3y")
    assert "bad Bearer [key]" in report.to_json()
    assert "k3y" not in report.to_json() + report.to_junit()
