import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from checks.report import Report, Result, Verdict
from checks.run import run
from tests.checks.fake_service import HEALTHY, FakeService, drilled, rung, rungs

pytestmark = pytest.mark.anyio

Checked = Callable[..., Awaitable[Report]]
Named = Callable[[Report, str], Result]

HOST = "api.elevenlabs.io"
NO_CREDENTIAL = "SESAME_FALLBACK_ENABLED=true and no credential is given"


def eleven(finding: str = "ready", **changes: Any) -> dict[str, Any]:
    return rung("elevenlabs", finding, host=HOST, **changes)


async def test_a_strict_offline_host_meets_everything_and_sends_text_to_nobody(
    checked: Checked, named: Named
) -> None:
    report = await checked("fallback")
    assert [result for result in report.results if result.verdict is not Verdict.MET] == []
    private = named(report, "fallback.private")
    assert private.detail == "strict offline: no rung sends text to another host"
    assert private.facts == {"hosts": []}


async def test_who_may_receive_text_is_told(
    fake: FakeService, checked: Checked, named: Named
) -> None:
    fake.rungs = rungs(eleven())
    private = named(await checked("fallback"), "fallback.private")
    assert (private.verdict, private.detail) == (Verdict.MET, f"text may go to: {HOST}")
    assert private.facts == {"hosts": [HOST]}


@pytest.mark.parametrize(
    ("told", "verdict"),
    [
        (eleven("ready"), Verdict.MET),
        (eleven("narrow"), Verdict.MET),
        (eleven("invalid"), Verdict.NOT_MET),
        (eleven("unreachable"), Verdict.UNKNOWN),
        (rung("elevenlabs", "off"), Verdict.MET),
        (rung("elevenlabs", "off", asked_for=True), Verdict.NOT_MET),
        (eleven("ready", state="latched", reason="the key is refused"), Verdict.NOT_MET),
        (eleven("ready", state="open", reason="too slow"), Verdict.MET),
        (rung("csm", "off", asked_for=True), Verdict.MET),
        (rung("csm", "invalid", state="open"), Verdict.NOT_MET),
        (rung("csm", "unreachable", state="loading"), Verdict.UNKNOWN),
        (rung("remote", "invalid", host="voice.example"), Verdict.NOT_MET),
    ],
)
async def test_a_rung_is_judged_by_whether_it_was_asked_for_and_would_speak(
    fake: FakeService, checked: Checked, named: Named, told: dict[str, Any], verdict: Verdict
) -> None:
    fake.rungs = rungs(told)
    result = named(await checked("fallback"), f"fallback.{told['name']}")
    assert result.verdict is verdict
    assert bool(result.next_step) is (verdict is not Verdict.MET)


async def test_what_is_left_of_a_quota_is_told(
    fake: FakeService, checked: Checked, named: Named
) -> None:
    fake.rungs = rungs(eleven(quota={"used": 188, "limit": 10_000, "left": 9_812}))
    result = named(await checked("fallback"), "fallback.elevenlabs")
    assert result.detail == "ready: 9,812 characters left; as it should be"
    assert result.facts == {"finding": "ready", "asked_for": True, "characters_left": 9_812}


async def test_the_next_step_is_the_services_own(
    fake: FakeService, checked: Checked, named: Named
) -> None:
    fake.rungs = rungs(eleven("invalid", detail="the key is refused", next_step="make a new one"))
    result = named(await checked("fallback"), "fallback.elevenlabs")
    assert (result.detail, result.next_step) == ("invalid: the key is refused", "make a new one")


@pytest.mark.parametrize(
    ("told", "enabled", "verdict"),
    [
        ((), True, Verdict.NOT_MET),
        ((eleven("invalid"),), True, Verdict.NOT_MET),
        ((eleven("ready"),), True, Verdict.MET),
        ((), False, Verdict.MET),
    ],
)
async def test_a_warning_counts_where_a_fallback_is_on_and_no_rung_disproves_it(
    fake: FakeService,
    checked: Checked,
    named: Named,
    told: tuple[dict[str, Any], ...],
    enabled: bool,
    verdict: Verdict,
) -> None:
    fallback = {"enabled": enabled, "asked": True, "hosts": []}
    fake.rungs = rungs(*told, fallback=fallback, warnings=[NO_CREDENTIAL])
    result = named(await checked("fallback"), "fallback.settings")
    assert (result.verdict, result.detail) == (verdict, NO_CREDENTIAL)


@pytest.mark.parametrize("engine", ["remote", "huggingface", "elevenlabs"])
async def test_a_cloud_in_health_contradicts_a_report_of_strict_offline(
    fake: FakeService, checked: Checked, named: Named, engine: str
) -> None:
    engines = [*HEALTHY["engines"], {"name": engine, "state": "ready"}]
    fake.health = HEALTHY | {"engines": engines}
    private = named(await checked("fallback"), "fallback.private")
    assert private.verdict is Verdict.NOT_MET
    assert private.detail.endswith(f"yet /health lists {engine}")


async def test_a_host_of_a_rung_contradicts_a_fallback_that_is_off(
    fake: FakeService, checked: Checked, named: Named
) -> None:
    off = {"enabled": False, "asked": False, "hosts": []}
    fake.rungs = rungs(eleven(), fallback=off)
    private = named(await checked("fallback"), "fallback.private")
    assert (private.verdict, private.facts) == (Verdict.NOT_MET, {"hosts": [HOST]})


async def test_an_older_service_has_no_report(fake: FakeService, checked: Checked) -> None:
    fake.acts["/rungs"] = lambda exchange: exchange.answer_json(404, {})
    (result,) = (await checked("fallback")).results
    assert (result.name, result.verdict) == ("fallback.report", Verdict.UNKNOWN)
    assert "make deploy" in result.next_step


@pytest.mark.parametrize(
    ("status", "body", "verdict", "words"),
    [
        (401, {}, Verdict.UNKNOWN, "a server key is demanded"),
        (500, {}, Verdict.NOT_MET, "/rungs answers HTTP 500"),
        (200, {"mode": "offline"}, Verdict.NOT_MET, "/rungs: fallback: Field required"),
        (200, [], Verdict.NOT_MET, "/rungs: the body:"),
    ],
)
async def test_an_answer_that_is_no_report_is_told_as_what_it_is(
    fake: FakeService, checked: Checked, status: int, body: object, verdict: Verdict, words: str
) -> None:
    fake.acts["/rungs"] = lambda exchange: exchange.answer_json(status, body)
    (result,) = (await checked("fallback")).results
    assert (result.name, result.verdict) == ("fallback.report", verdict)
    assert words in result.detail


async def test_the_report_is_asked_for_with_the_key(fake: FakeService, checked: Checked) -> None:
    await checked("fallback", key="our-key")
    assert fake.seen[-1].path == "/rungs"
    assert fake.seen[-1].headers["authorization"] == "Bearer our-key"


async def test_no_drill_is_made_unless_it_is_asked_for(fake: FakeService, checked: Checked) -> None:
    await checked("fallback")
    assert [exchange.path for exchange in fake.seen] == ["/health", "/rungs"]


async def _drill(fake: FakeService) -> tuple[Report, list[str], list[str]]:
    """Check with a drill; give the report, what was said first, and what had been asked by then."""
    said: list[str] = []
    posted_before: list[str] = []

    def announce(line: str) -> None:
        said.append(line)
        posted_before.extend(exchange.method for exchange in fake.seen)

    report = await run(fake.url, time_limit=5, only=["fallback"], drill=announce)
    return report, said, posted_before


async def test_a_drill_says_what_it_spends_before_it_does(fake: FakeService) -> None:
    _, said, before = await _drill(fake)
    assert said == [
        "drill: csm broken, elevenlabs speaks; spends 16 characters at api.elevenlabs.io",
        "drill: csm, elevenlabs broken, basic speaks; spends nothing",
    ]
    assert "POST" not in before
    assert json.loads(fake.seen[-1].body) == {}


async def test_a_drill_tells_who_spoke_and_how_long_the_switch_took(
    fake: FakeService, named: Named
) -> None:
    report, _, _ = await _drill(fake)
    result = named(report, "fallback.drill")
    assert result.verdict is Verdict.MET
    assert result.detail == "csm broken: elevenlabs spoke; csm, elevenlabs broken: basic spoke"
    assert result.figures == {"switch_ms": 12.5}


async def test_a_rung_that_stays_silent_in_a_drill_is_not_met(
    fake: FakeService, named: Named
) -> None:
    fake.drilled = drilled(failing="elevenlabs")
    report, _, _ = await _drill(fake)
    result = named(report, "fallback.drill")
    assert result.verdict is Verdict.NOT_MET
    assert "csm broken: nobody spoke (csm=transient)" in result.detail


async def test_a_chain_of_one_rung_cannot_be_drilled(fake: FakeService, named: Named) -> None:
    fake.drilled = {"steps": [], "ok": False, "detail": "nothing stands behind csm"}
    report, _, _ = await _drill(fake)
    result = named(report, "fallback.drill")
    assert (result.verdict, result.detail) == (Verdict.NOT_MET, "nothing stands behind csm")


async def test_a_drill_of_somebody_else_is_waited_for(fake: FakeService, named: Named) -> None:
    fake.acts["/rungs/drill"] = lambda exchange: exchange.answer_json(409, {})
    report, _, _ = await _drill(fake)
    assert named(report, "fallback.drill").verdict is Verdict.UNKNOWN


async def test_the_facts_are_in_the_json_report(fake: FakeService, checked: Checked) -> None:
    fake.rungs = rungs(eleven())
    document = json.loads((await checked("fallback")).to_json())
    facts = {check["name"]: check["facts"] for check in document["checks"] if "facts" in check}
    assert facts["fallback.elevenlabs"] == {"finding": "ready", "asked_for": True}
    assert facts["fallback.private"] == {"hosts": [HOST]}
