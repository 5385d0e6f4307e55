from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from checks.report import Report, Result, Verdict
from tests.checks.fake_service import BASIC, HEALTHY, LOADING, OFFLINE, FakeService

pytestmark = pytest.mark.anyio

Checked = Callable[..., Awaitable[Report]]
Named = Callable[[Report, str], Result]


def _cloud(engine: str, label: str) -> dict[str, Any]:
    engines = [{"name": "csm", "state": "open"}, {"name": engine, "state": "ready"}]
    return BASIC | {
        "engine": engine,
        "badge": {"icon": "🟠", "label": label},
        "engines": engines,
    }


REMOTE = HEALTHY | {
    "mode": "online",
    "engine": "remote",
    "badge": {"icon": "🔵", "label": "Sesame API"},
    "engines": [{"name": "remote", "state": "ready"}],
}
LOADING_WITH_BASIC = LOADING | {
    "engine": "basic",
    "badge": {"icon": "🔴", "label": "Voice Offline (loading, 40 %)"},
    "engines": [{"name": "csm", "state": "loading"}, {"name": "basic", "state": "ready"}],
}


@pytest.mark.parametrize(
    ("health", "http", "readyz"),
    [
        pytest.param(HEALTHY, 200, 200, id="csm"),
        pytest.param(REMOTE, 200, 200, id="remote"),
        pytest.param(_cloud("elevenlabs", "ElevenLabs"), 200, 200, id="elevenlabs"),
        pytest.param(_cloud("huggingface", "Hugging Face"), 200, 200, id="huggingface"),
        pytest.param(BASIC, 200, 200, id="basic"),
        pytest.param(OFFLINE, 503, 503, id="offline"),
        pytest.param(HEALTHY | {"real_time_factor": 1.8}, 200, 200, id="slower than real time"),
    ],
)
async def test_every_state_of_the_contract_is_met(
    fake: FakeService, checked: Checked, health: dict[str, Any], http: int, readyz: int
) -> None:
    fake.health, fake.health_http, fake.readyz_http = health, http, readyz
    report = await checked("health")
    assert [r for r in report.results if r.verdict is not Verdict.MET] == []


@pytest.mark.parametrize(
    ("health", "readyz"),
    [
        pytest.param(LOADING, 503, id="loading"),
        pytest.param(LOADING_WITH_BASIC, 200, id="loading while basic speaks"),
    ],
)
async def test_a_service_that_loads_its_model_cannot_be_judged_yet(
    fake: FakeService, checked: Checked, named: Named, health: dict[str, Any], readyz: int
) -> None:
    fake.health, fake.health_http, fake.readyz_http = health, 503, readyz
    report = await checked("health")
    loaded = named(report, "health.loaded")
    assert [r for r in report.results if r.verdict is not Verdict.MET] == [loaded]
    assert report.exit_code == 2
    assert "run it again" in loaded.next_step


async def test_the_progress_of_loading_is_told(
    fake: FakeService, checked: Checked, named: Named
) -> None:
    engines = [{"name": "csm", "state": "loading", "reason": "shard 1 of 2"}]
    fake.health, fake.health_http, fake.readyz_http = LOADING | {"engines": engines}, 503, 503
    assert named(await checked("health"), "health.loaded").detail == "loading: csm (shard 1 of 2)"


async def test_what_is_slower_than_real_time_is_in_the_report(
    fake: FakeService, checked: Checked
) -> None:
    fake.health["real_time_factor"] = 1.8
    service = (await checked("health")).service
    assert service is not None
    assert service["real_time_factor"] == 1.8


@pytest.mark.parametrize(
    ("health", "http", "reason"),
    [
        pytest.param(HEALTHY, 503, "HTTP is 503", id="healthy with 503"),
        pytest.param(LOADING, 200, "HTTP is 200", id="loading with 200"),
        pytest.param(OFFLINE, 200, "HTTP is 200", id="offline with 200"),
        pytest.param(
            HEALTHY | {"status": "degraded"}, 200, "status is degraded", id="degraded csm"
        ),
        pytest.param(BASIC | {"status": "healthy"}, 200, "status is healthy", id="healthy basic"),
        pytest.param(
            BASIC | {"model_loaded": True}, 200, "model_loaded is true", id="basic, model loaded"
        ),
        pytest.param(
            HEALTHY | {"model_loaded": False}, 200, "model_loaded is false", id="csm, no model"
        ),
        pytest.param(
            BASIC | {"badge": HEALTHY["badge"]}, 200, "🟢 Sesame Local", id="a better badge"
        ),
        pytest.param(
            HEALTHY | {"badge": {"icon": "🟢", "label": "Sesame API"}},
            200,
            "badge is 🟢 Sesame API",
            id="icon and label of two states",
        ),
        pytest.param(
            HEALTHY | {"engines": [{"name": "csm", "state": "latched"}]},
            200,
            "engine csm speaks and is not ready",
            id="the speaking engine is not ready",
        ),
        pytest.param(
            BASIC | {"engines": HEALTHY["engines"]},
            200,
            "csm comes before it",
            id="a better engine is ready",
        ),
        pytest.param(
            OFFLINE | {"engines": BASIC["engines"]},
            503,
            "status is offline, yet ready: basic",
            id="offline with a ready engine",
        ),
        pytest.param(
            LOADING | {"engines": HEALTHY["engines"]}, 503, "csm is ready", id="loading, csm ready"
        ),
        pytest.param(
            HEALTHY | {"engine": None}, 200, "engine None is none that can speak", id="no engine"
        ),
        pytest.param(HEALTHY | {"engine": "mock"}, 200, "'mock' is none", id="an unknown engine"),
    ],
)
async def test_a_health_that_contradicts_itself_is_not_met(
    fake: FakeService,
    checked: Checked,
    named: Named,
    health: dict[str, Any],
    http: int,
    reason: str,
) -> None:
    fake.health, fake.health_http = health, http
    result = named(await checked("health"), "health.truthful")
    assert result.verdict is Verdict.NOT_MET
    assert reason in result.detail


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"status": "fine"}, "status", id="an unknown status"),
        pytest.param({"model_loaded": "yes"}, "model_loaded", id="a word for a boolean"),
        pytest.param({"badge": "🟢"}, "badge", id="a badge without a label"),
        pytest.param({"voices": []}, "voices", id="no voices"),
        pytest.param({"engines": {"csm": "ready"}}, "engines", id="engines that are no list"),
        pytest.param({"uptime_seconds": -1}, "uptime_seconds", id="a negative uptime"),
        pytest.param({"real_time_factor": 0}, "real_time_factor", id="no time at all"),
        pytest.param({"mode": "hybrid"}, "mode", id="an unknown mode"),
    ],
)
async def test_a_field_of_another_form_is_not_met(
    fake: FakeService, checked: Checked, named: Named, change: dict[str, Any], reason: str
) -> None:
    fake.health |= change
    result = named(await checked("health"), "health.form")
    assert result.verdict is Verdict.NOT_MET
    assert reason in result.detail


@pytest.mark.parametrize("missing", ["engine", "badge", "version", "engines", "uptime_seconds"])
async def test_a_missing_field_is_not_met(
    fake: FakeService, checked: Checked, named: Named, missing: str
) -> None:
    del fake.health[missing]
    assert named(await checked("health"), "health.form").verdict is Verdict.NOT_MET


async def test_truth_cannot_be_told_from_an_answer_of_another_form(
    fake: FakeService, checked: Checked, named: Named
) -> None:
    fake.health["engines"] = None
    assert named(await checked("health"), "health.truthful").verdict is Verdict.UNKNOWN


async def test_a_dead_livez_is_not_met(fake: FakeService, checked: Checked, named: Named) -> None:
    fake.acts["/livez"] = lambda exchange: exchange.answer_json(503, {})
    assert named(await checked("health"), "health.livez").verdict is Verdict.NOT_MET


@pytest.mark.parametrize(("health", "http", "readyz"), [(HEALTHY, 200, 503), (OFFLINE, 503, 200)])
async def test_a_readyz_that_disagrees_with_health_is_not_met(
    fake: FakeService,
    checked: Checked,
    named: Named,
    health: dict[str, Any],
    http: int,
    readyz: int,
) -> None:
    fake.health, fake.health_http, fake.readyz_http = health, http, readyz
    assert named(await checked("health"), "health.readyz").verdict is Verdict.NOT_MET


async def test_a_model_that_becomes_ready_between_two_looks_is_no_contradiction(
    fake: FakeService, checked: Checked, named: Named
) -> None:
    fake.health, fake.health_http = LOADING, 503

    def becomes_ready(exchange: Any) -> None:
        fake.health, fake.health_http = HEALTHY, 200
        exchange.answer_json(200, {})

    fake.acts["/readyz"] = becomes_ready
    assert named(await checked("health"), "health.readyz").verdict is Verdict.MET


async def test_what_the_service_says_of_itself_cannot_harm_who_reads_the_report(
    fake: FakeService, checked: Checked
) -> None:
    nested: list[Any] = []
    for _ in range(400):
        nested = [nested]
    fake.health |= {"version": "1\x1b[2J\ud800", "model": nested, "device": "x" * 10_000}
    report = await checked("health")
    assert report.service is not None
    assert report.service["version"] == "1\\x1b[2J\\ud800"
    assert report.service["model"] is None
    assert len(str(report.service["device"])) == 200
    assert report.to_json().encode()
