"""The configuration report and the drill, from rungs that are what a test says."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from service.audio import Samples
from service.engines.absent import Absent
from service.engines.chain import Chain
from service.engines.engine import Engine, EngineState, Finding, Quota, SpeechRequest
from service.engines.failures import FAILURES
from service.errors import EngineError
from service.metrics import Metrics
from service.rungs import report as reporting
from service.rungs.drill import TEXT, Drill, spending
from service.rungs.report import Inspection, RungReport, RungsReport
from service.settings import ServiceSettings
from service.voices import Persona, Personas
from tests.service.rungs import Rung, tone

pytestmark = pytest.mark.anyio

SPEECH = tone(1.5)
RESETS = datetime(2026, 12, 1, tzinfo=UTC)
READY = Finding("ready", "creator tier", quota=Quota(188, 10_000, RESETS))
NARROW = Finding("narrow", "the key may speak, and not be asked about more")
INVALID = Finding("invalid", "the key is refused", "make a new one")


class Cloud(Rung):
    """A rung elsewhere, with a look of its own."""

    def __init__(
        self,
        *blocks: Samples,
        name: str = "elevenlabs",
        finding: Finding | Exception | None = READY,
        error: Exception | None = None,
        speaks: bool = True,
    ) -> None:
        super().__init__(*(blocks or (SPEECH,)), name=name, error=error)
        self.host = f"{name}.example"
        self.looks = 0
        self._finding = finding
        self._speaks = speaks

    def speaks_for(self, persona: Persona) -> bool:
        del persona
        return self._speaks

    async def look(self) -> Finding:
        self.looks += 1
        if self._finding is None:
            await asyncio.Event().wait()
        if isinstance(self._finding, Exception):
            raise self._finding
        assert self._finding is not None
        return self._finding


def on(**more: Any) -> ServiceSettings:
    return ServiceSettings(elevenlabs_api_key=SecretStr("sk_" + 32 * "a"), **more)


def chain_of(*rungs: Rung | Absent) -> Chain:
    return Chain(rungs, deadline_seconds=2, stall_seconds=1)


async def reported(*rungs: Rung | Absent, settings: ServiceSettings | None = None) -> RungsReport:
    return await Inspection(chain_of(*rungs), settings or on()).report()


def row(report: RungsReport, name: str) -> RungReport:
    return next(rung for rung in report.rungs if rung.name == name)


async def test_every_rung_there_could_be_is_told_in_the_order_in_which_they_are_asked() -> None:
    report = await reported(Rung(name="csm"), Cloud(), Rung())
    assert [(rung.name, rung.asked_for, rung.finding) for rung in report.rungs] == [
        ("csm", True, "ready"),
        ("remote", False, "off"),
        ("huggingface", False, "off"),
        ("elevenlabs", True, "ready"),
        ("basic", True, "ready"),
    ]
    assert report.ok


async def test_a_quota_is_told_with_what_is_left_and_when_it_starts_anew() -> None:
    quota = row(await reported(Cloud()), "elevenlabs").quota
    assert quota is not None
    assert (quota.left, quota.resets_at) == (9_812, RESETS)


async def test_the_hosts_that_may_receive_text_are_named() -> None:
    fallback = (await reported(Cloud(), Cloud(name="huggingface"), Rung())).fallback
    assert (fallback.enabled, fallback.asked) == (True, None)
    assert fallback.hosts == ["elevenlabs.example", "huggingface.example"]


async def test_a_strict_offline_host_sends_text_to_nobody() -> None:
    report = await reported(Rung(name="csm"), Rung(), settings=ServiceSettings())
    assert (report.mode, report.fallback.enabled, report.fallback.hosts) == ("offline", False, [])
    assert row(report, "elevenlabs").detail == "there is no ELEVENLABS_API_KEY"


@pytest.mark.parametrize(
    ("settings", "name", "why"),
    [
        (ServiceSettings(enabled=False), "basic", "SESAME_ENABLED=false"),
        (ServiceSettings(model=""), "csm", "SESAME_MODEL is empty: no model runs here"),
        (ServiceSettings(mode="online", url="https://voice.example"), "csm", "SESAME_MODE=online"),
        (ServiceSettings(), "remote", "SESAME_MODE=offline: the primary voice runs here"),
        (ServiceSettings(fallback_enabled=False), "huggingface", "SESAME_FALLBACK_ENABLED=false"),
        (ServiceSettings(), "huggingface", "there is no HF_TOKEN"),
        (ServiceSettings(basic_voice=False), "basic", "SESAME_BASIC_VOICE=false"),
    ],
)
async def test_a_rung_that_is_not_asked_for_says_why(
    settings: ServiceSettings, name: str, why: str
) -> None:
    told = row(await reported(settings=settings), name)
    assert (told.asked_for, told.finding, told.detail) == (False, "off", why)


@pytest.mark.parametrize(
    ("rung", "ok"),
    [
        (Cloud(finding=READY), True),
        (Cloud(finding=NARROW), True),
        (Cloud(finding=INVALID), False),
        (Cloud(finding=Finding("unreachable", "no route")), False),
        (Absent("huggingface", "HF_HUB_OFFLINE=1"), False),
        (Absent("csm", "there is no folder"), True),
        (Rung(name="csm", state=EngineState("open", "out of memory")), False),
    ],
)
async def test_all_is_well_when_what_was_asked_for_would_speak(
    rung: Rung | Absent, ok: bool
) -> None:
    assert (await reported(rung, Rung())).ok is ok


async def test_a_look_that_does_not_end_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporting, "LOOK_SECONDS", 0.01)
    told = row(await reported(Cloud(finding=None), Rung()), "elevenlabs")
    assert told.finding == "unreachable"
    assert told.detail == "elevenlabs.example gave no answer within 0.01 s"


async def test_a_defect_in_one_look_hides_nothing_of_the_others() -> None:
    report = await reported(Cloud(finding=KeyError("x")), Rung())
    assert row(report, "elevenlabs").detail == "the look at it has a defect (KeyError)"
    assert row(report, "basic").finding == "ready"


async def test_a_rung_that_the_chain_has_shut_out_is_told_so_though_its_key_works_again() -> None:
    chain = chain_of(Cloud(), Rung())
    breaker = chain.breakers["elevenlabs"]
    assert breaker.take()
    breaker.failed(FAILURES["credentials"], "the key is refused", seconds=0.1)
    report = await Inspection(chain, on()).report()
    told = row(report, "elevenlabs")
    assert (told.state, told.finding, report.ok) == ("latched", "ready", False)
    assert told.detail == "creator tier; the chain has shut it out: the key is refused"
    assert "docker restart" in told.next_step


async def test_clouds_are_looked_at_once_in_a_while_and_states_are_always_new() -> None:
    cloud, basic, now = Cloud(), Rung(), [0.0]
    inspection = Inspection(chain_of(cloud, basic), on(), clock=lambda: now[0])
    await asyncio.gather(inspection.report(), inspection.report())
    now[0] = 29
    basic.state = EngineState("open", "no sound")
    report = await inspection.report()
    assert (cloud.looks, report.age_seconds) == (1, 29)
    assert row(report, "basic").state == "open"
    now[0] = 31
    await inspection.report()
    assert cloud.looks == 2


async def test_no_report_spends_a_character() -> None:
    cloud = Cloud()
    await reported(cloud)
    assert (cloud.asked, cloud.probes) == (0, 0)


async def test_warnings_of_the_settings_are_in_the_report() -> None:
    report = await reported(Rung(), settings=ServiceSettings(fallback_enabled=True))
    assert "no credential is given" in report.warnings[0]
    assert report.fallback.asked is True


def drill_of(personas: Personas, *rungs: Engine, metrics: Metrics | None = None) -> Drill:
    return Drill(
        rungs,
        personas.resolve("maya"),
        deadline_seconds=2,
        stall_seconds=1,
        metrics=metrics,
    )


async def test_a_drill_breaks_each_rung_in_turn_and_hears_the_next_one(personas: Personas) -> None:
    csm, hugging, eleven = Rung(SPEECH, name="csm"), Cloud(name="huggingface"), Cloud()
    drilled = await drill_of(personas, csm, hugging, eleven, Rung(SPEECH)).run()
    assert [(step.broken, step.spoke, step.ok) for step in drilled.steps] == [
        (["csm"], "huggingface", True),
        (["csm", "huggingface"], "elevenlabs", True),
        (["csm", "huggingface", "elevenlabs"], "basic", True),
    ]
    assert drilled.ok
    assert csm.asked == 0


async def test_a_drill_says_what_it_spends_and_spends_no_more(personas: Personas) -> None:
    hugging, eleven = Cloud(name="huggingface"), Cloud()
    drill = drill_of(personas, Rung(name="csm"), hugging, eleven, Rung(SPEECH))
    plan = drill.plan()
    assert [step.spends for step in plan.plan] == [
        {"huggingface.example": len(TEXT)},
        {"elevenlabs.example": len(TEXT)},
        {},
    ]
    assert plan.spends == {"huggingface.example": len(TEXT), "elevenlabs.example": len(TEXT)}
    assert (hugging.asked, eleven.asked) == (0, 0)
    await drill.run()
    assert (hugging.asked, eleven.asked) == (1, 1)


def test_the_text_of_a_drill_is_short() -> None:
    assert len(TEXT) <= 20


async def test_a_rung_that_does_not_speak_is_asked_once_and_no_other_cloud_pays_for_it(
    personas: Personas,
) -> None:
    refused = EngineError("connection refused", failure="transient")
    hugging, eleven = Cloud(name="huggingface", error=refused), Cloud()
    hugging._blocks = ()
    drill = drill_of(personas, Rung(name="csm"), hugging, eleven, Rung(SPEECH))
    drilled = await drill.run()
    first = drilled.steps[0]
    assert (first.expected, first.spoke, first.ok) == ("huggingface", "basic", False)
    assert "huggingface=transient" in first.detail
    assert (hugging.asked, eleven.asked) == (1, 1)
    assert not drilled.ok


@pytest.mark.parametrize("block", [tone(0.01), 0 * tone(9)])
async def test_audio_that_no_listener_would_take_for_speech_fails_the_drill(
    personas: Personas, block: Samples
) -> None:
    drilled = await drill_of(personas, Rung(name="csm"), Cloud(block)).run()
    assert not drilled.ok


async def test_the_switch_is_timed(personas: Personas) -> None:
    step = (await drill_of(personas, Rung(name="csm"), Rung(SPEECH)).run()).steps[0]
    assert step.switch_ms is not None
    assert step.first_audio_ms is not None
    assert 0 <= step.switch_ms <= step.first_audio_ms


async def test_rungs_that_cannot_speak_for_the_persona_or_are_off_are_left_out(
    personas: Personas,
) -> None:
    rungs = (
        Rung(name="csm"),
        Absent("huggingface", "HF_HUB_OFFLINE=1"),
        Cloud(speaks=False),
        Rung(SPEECH),
    )
    plan = drill_of(personas, *rungs).plan()
    assert [(step.broken, step.speaks) for step in plan.plan] == [(["csm"], "basic")]


async def test_a_single_rung_has_nothing_behind_it(personas: Personas) -> None:
    drilled = await drill_of(personas, Rung(name="csm")).run()
    assert (drilled.detail, drilled.steps, drilled.ok) == ("nothing stands behind csm", [], False)


async def test_a_drill_counts_what_it_spends(personas: Personas) -> None:
    metrics = Metrics()
    await drill_of(personas, Rung(name="csm"), Cloud(), metrics=metrics).run()
    counted = f'sesame_cloud_characters_total{{rung="elevenlabs"}} {len(TEXT)}.0'
    assert counted in metrics.exposition().decode()


async def test_a_drill_leaves_the_chain_that_speaks_as_it_was(personas: Personas) -> None:
    stopped: list[str] = []

    class Watched(Rung):
        async def stop(self) -> None:
            stopped.append(self.name)

    slow = EngineError("out of breath", failure="timeout")  # a private breaker opens, and probes
    chain = chain_of(Watched(name="csm"), Watched(name="basic", error=slow))
    before = asyncio.all_tasks()
    await drill_of(personas, *chain.rungs).run()
    assert stopped == []
    assert {breaker.state for breaker in chain.breakers.values()} == {"closed"}
    assert asyncio.all_tasks() == before


async def test_a_rung_that_trickles_ends_its_step(
    personas: Personas, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trickle(Rung):
        async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
            del request
            while True:
                yield tone(0.0001)
                await asyncio.sleep(0.001)

    monkeypatch.setattr("service.rungs.drill.STEP_SECONDS", 0.2)
    drilled = await drill_of(personas, Rung(name="csm"), Trickle()).run()
    assert drilled.steps[0].detail == "it did not end within 0.2 s"


@pytest.mark.parametrize(
    ("spends", "words"),
    [
        ({}, "spends nothing"),
        ({"a": 16}, "spends 16 characters at a"),
        ({"a": 16, "b": 2}, "spends 16 characters at a and 2 characters at b"),
    ],
)
def test_what_is_spent_is_said_in_words(spends: dict[str, int], words: str) -> None:
    assert spending(spends) == words
