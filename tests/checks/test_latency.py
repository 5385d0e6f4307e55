import io
import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from rich.console import Console

from checks.client import Answer, Arrival
from checks.latency import Plan, measure
from checks.progress import shown_on
from checks.report import Report, Result, Timing, Verdict
from checks.run import run
from tests.checks.fake_service import (
    BASIC,
    HEALTHY,
    LOADING,
    Exchange,
    FakeService,
    answer_speech,
    streamed,
    wave_file,
)

pytestmark = pytest.mark.anyio

RATE = 24_000
ON_GPU = HEALTHY | {"device": "NVIDIA H100 80GB HBM3"}
NEVER_MET = {"first_audio_p50_ms": 1e-6}
ALWAYS_MET = {"first_audio_p50_ms": 1e9, "real_time_factor_p95": 1e9}


async def measured(fake: FakeService, **plan: Any) -> dict[str, Result]:
    report = await latency_report(fake, **plan)
    return {result.name: result for result in report.results}


async def latency_report(fake: FakeService, **plan: Any) -> Report:
    return await run(fake.url, only=["latency"], plan=Plan(**{"requests": 2} | plan))


def answer(*arrivals: tuple[float, int], audio: np.ndarray[Any, Any], total: float = 9.0) -> Answer:
    """Return a streamed answer whose arrivals are (seconds, samples by then)."""
    head, data = streamed(wave_file(audio.astype(np.int16), RATE))
    came = tuple(Arrival(seconds, len(head) + 2 * samples) for seconds, samples in arrivals)
    return Answer(200, httpx.Headers(), head + data, Timing(0.01, total), came)


def without_stream(body: bytes) -> bytes:
    fields = json.loads(body)
    del fields["stream"]
    return json.dumps(fields).encode()


def sound(seconds: float) -> np.ndarray[Any, Any]:
    return np.full(round(seconds * RATE), 10_000)


def silence(seconds: float) -> np.ndarray[Any, Any]:
    return np.zeros(round(seconds * RATE))


@pytest.mark.parametrize(
    ("audio", "arrivals", "heard"),
    [
        pytest.param(sound(1), [(0.5, RATE)], 500, id="as soon as it is there"),
        pytest.param(sound(1), [(0.1, 0), (0.5, RATE)], 500, id="a header is not heard"),
        pytest.param(
            np.concatenate([silence(0.3), sound(1)]),
            [(0.5, round(1.3 * RATE))],
            800,
            id="after the silence before it",
        ),
        pytest.param(
            np.concatenate([silence(0.3), sound(1)]),
            [(0.5, round(0.3 * RATE)), (2.0, round(1.3 * RATE))],
            2000,
            id="when it comes later than playback wants it",
        ),
        pytest.param(
            np.concatenate([silence(0.4), sound(1)]),
            [(0.5, round(0.1 * RATE)), (1.0, round(1.4 * RATE))],
            1300,
            id="after the gap in which playback waited",
        ),
        pytest.param(
            np.concatenate([np.full(RATE // 2, 300), sound(1)]),
            [(0.5, round(1.5 * RATE))],
            1000,
            id="a whisper under -40 dBFS is not heard",
        ),
        pytest.param(-sound(1), [(0.5, RATE)], 500, id="a negative half wave is heard"),
    ],
)
def test_first_audio_is_when_a_listener_hears_something(
    audio: np.ndarray[Any, Any], arrivals: list[tuple[float, int]], heard: float
) -> None:
    figures = measure(answer(*arrivals, audio=audio)).figures
    assert figures["first_audio"] == pytest.approx(heard)


def test_the_real_time_factor_is_the_total_over_the_audio() -> None:
    figures = measure(answer((0.5, 2 * RATE), audio=sound(2), total=3.0)).figures
    assert figures["real_time_factor"] == pytest.approx(1.5)
    assert (figures["first_byte"], figures["total"]) == (10, 3000)


def test_an_answer_in_which_nothing_is_heard_has_no_first_audio() -> None:
    found = measure(answer((0.5, RATE), audio=silence(1)))
    assert set(found.figures) == {"first_byte", "total"}
    assert found.missing == "nothing can be heard"


async def test_every_figure_is_reported_and_without_objectives_decides_nothing(
    fake: FakeService,
) -> None:
    report = await latency_report(fake)
    assert report.verdict is Verdict.MET
    timings = json.loads(report.to_json())["timings"]
    assert {name: set(figures) for name, figures in timings.items()} == {
        "latency.first_byte": {"p50_ms", "p95_ms"},
        "latency.first_audio": {"p50_ms", "p95_ms"},
        "latency.total": {"p50_ms", "p95_ms"},
        "latency.real_time_factor": {"p50", "p95"},
    }
    assert all(value > 0 for figures in timings.values() for value in figures.values())


async def test_the_first_request_warms_up_and_every_one_asks_for_a_stream(
    fake: FakeService,
) -> None:
    await latency_report(fake, requests=3)
    asked = [exchange for exchange in fake.seen if exchange.method == "POST"]
    assert len(asked) == 4
    assert {json.loads(exchange.body)["stream"] for exchange in asked} == {True}
    assert {exchange.headers["cache-control"] for exchange in asked} == {"no-cache"}


async def test_device_engine_and_count_are_told(fake: FakeService) -> None:
    fake.health = dict(ON_GPU)
    found = await measured(fake, objectives=ALWAYS_MET)
    assert (
        found["latency.engine"].detail
        == "engine csm on NVIDIA H100 80GB HBM3, requests measured: 2"
    )


@pytest.mark.parametrize(
    ("limits", "verdict"), [(ALWAYS_MET, Verdict.MET), (NEVER_MET, Verdict.NOT_MET)]
)
async def test_an_objective_that_was_set_decides(
    fake: FakeService, limits: dict[str, float], verdict: Verdict
) -> None:
    found = await measured(fake, objectives=limits)
    assert found["latency.first_audio"].verdict is verdict
    assert "objective: p50 at most" in found["latency.first_audio"].detail
    assert found["latency.total"].detail == "reported only"


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("NVIDIA H100 80GB HBM3", "objective: p95 at most 400 ms"),
        ("cpu: AMD EPYC 9354", "reported only"),
        ("CPU", "reported only"),
        (None, "reported only"),
    ],
)
async def test_the_guides_objective_holds_on_a_gpu_only(
    fake: FakeService, device: str | None, told: str
) -> None:
    fake.health["device"] = device
    assert told in (await measured(fake))["latency.first_audio"].detail


async def test_an_objective_that_was_set_replaces_the_guides(fake: FakeService) -> None:
    fake.health = dict(ON_GPU)
    found = await measured(fake, objectives={"first_audio_p95_ms": 1e9})
    assert found["latency.first_audio"].detail == "objective: p95 at most 1e+09 ms"


def alternating(*engines: str) -> Iterator[str]:
    while True:
        yield from engines


async def test_an_engine_that_changes_is_told_and_leaves_doubt(fake: FakeService) -> None:
    engines = alternating("csm", "basic")
    fake.acts["speech"] = lambda exchange: answer_speech(exchange, next(engines))
    who = (await measured(fake))["latency.engine"]
    assert who.verdict is Verdict.UNKNOWN
    assert "engine basic, csm" in who.detail
    assert "the engine changed" in who.detail


async def test_another_engine_than_health_names_leaves_doubt(fake: FakeService) -> None:
    fake.engine = "basic"
    who = (await measured(fake))["latency.engine"]
    assert who.verdict is Verdict.UNKNOWN
    assert who.detail.endswith("/health names csm")


async def test_a_server_that_ignores_stream_is_measured_and_told(fake: FakeService) -> None:
    fake.acts["speech"] = lambda exchange: answer_speech(
        Exchange(**vars(exchange) | {"body": without_stream(exchange.body)}), fake.engine
    )
    report = await latency_report(fake)
    assert report.verdict is Verdict.MET
    assert "the answers came whole: this server does not stream" in report.results[0].detail
    assert "latency.first_audio" in {result.name for result in report.results}


async def test_a_server_that_refuses_stream_is_asked_without_it(fake: FakeService) -> None:
    def refuse_stream(exchange: Exchange) -> None:
        if json.loads(exchange.body).get("stream"):
            exchange.answer_json(422, {"success": False, "error": "stream is unknown"})
        else:
            answer_speech(exchange, fake.engine)

    fake.acts["speech"] = refuse_stream
    report = await latency_report(fake)
    assert report.verdict is Verdict.MET
    assert "does not stream" in report.results[0].detail


async def test_audio_of_another_form_is_measured_as_far_as_it_can_be(fake: FakeService) -> None:
    fake.acts["speech"] = lambda exchange: exchange.answer(
        200, b"ID3\x04" + bytes(4_000), Content_Type="audio/mpeg", X_Speech_Engine="csm"
    )
    found = await measured(fake, objectives={"first_audio_p95_ms": 400})
    assert "no RIFF/WAVE file" in found["latency.engine"].detail
    assert found["latency.total"].verdict is Verdict.MET
    assert found["latency.first_audio"].verdict is Verdict.UNKNOWN
    assert "latency.real_time_factor" not in found


async def test_a_service_that_loads_is_not_measured(fake: FakeService) -> None:
    fake.health, fake.health_http = LOADING, 503
    report = await latency_report(fake)
    assert report.exit_code == 2
    assert "the model is loading" in report.results[0].detail
    assert [exchange for exchange in fake.seen if exchange.method == "POST"] == []


@pytest.mark.parametrize(
    ("act", "verdict", "told"),
    [
        (lambda exchange: exchange.answer_json(429, {}), Verdict.UNKNOWN, "the queue is full"),
        (lambda exchange: exchange.answer_json(401, {}), Verdict.UNKNOWN, "key is demanded"),
        (lambda exchange: exchange.answer_json(503, {"error": "no"}), Verdict.NOT_MET, "503"),
        (lambda exchange: exchange.answer_json(422, {"error": "no"}), Verdict.NOT_MET, "422"),
        (lambda exchange: exchange.cut(9_000), Verdict.NOT_MET, "cut off"),
    ],
)
async def test_a_service_that_does_not_speak_has_no_latency(
    fake: FakeService, act: Any, verdict: Verdict, told: str
) -> None:
    fake.acts["speech"] = act
    report = await latency_report(fake)
    assert [result.name for result in report.results] == ["latency"]
    assert report.verdict is verdict
    assert told in report.results[0].detail


async def test_a_voice_that_fails_after_the_warm_up_is_not_met(fake: FakeService) -> None:
    answered = iter([True])

    def once(exchange: Exchange) -> None:
        if next(answered, False):
            answer_speech(exchange, fake.engine)
        else:
            exchange.answer_json(503, {"error": "every rung failed"})

    fake.acts["speech"] = once
    report = await latency_report(fake)
    assert report.verdict is Verdict.NOT_MET
    assert "every rung failed" in report.results[0].detail


async def test_what_was_measured_before_the_time_of_the_run_was_spent_is_reported(
    fake: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    skipped = iter([0, 0, 1_000])  # seconds, at each answer
    now = [time.monotonic()]

    def speak(exchange: Exchange) -> None:
        now[0] += next(skipped)
        answer_speech(exchange, fake.engine)

    monkeypatch.setattr("checks.client.time", SimpleNamespace(monotonic=lambda: now[0]))
    fake.acts["speech"] = speak
    report = await latency_report(fake, requests=9)
    assert report.verdict is Verdict.MET
    assert "requests measured: 2 of 9, for want of time" in report.results[0].detail


async def test_where_there_is_time_for_one_answer_only_it_is_measured(
    fake: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [time.monotonic()]

    def speak(exchange: Exchange) -> None:
        now[0] += 70  # of the 120 s of a run
        answer_speech(exchange, fake.engine)

    monkeypatch.setattr("checks.client.time", SimpleNamespace(monotonic=lambda: now[0]))
    fake.acts["speech"] = speak
    report = await latency_report(fake, requests=3)
    assert report.verdict is Verdict.MET
    assert "requests measured: 1 of 3, for want of time" in report.results[0].detail


async def test_the_basic_voice_is_measured_like_any_other(fake: FakeService) -> None:
    fake.health, fake.engine = dict(BASIC), "basic"
    assert (await latency_report(fake)).verdict is Verdict.MET


async def test_progress_is_told_request_by_request(fake: FakeService) -> None:
    told: list[tuple[int, int]] = []
    await latency_report(fake, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_is_for_terminals(terminal: bool) -> None:
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=terminal, width=80)
    with shown_on(console, "latency") as show:
        show(2, 6)
    assert ("2/6" in drawn.getvalue()) is terminal
