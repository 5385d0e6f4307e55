import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.audio import Samples, silence
from service.engines import breaker
from service.engines import chain as chain_module
from service.engines.breaker import Breaker
from service.engines.chain import Chain
from service.engines.engine import EngineState, SpeechRequest
from service.engines.failures import FAILURES
from service.errors import (
    DeadlineError,
    EngineError,
    LoopError,
    SpeechCutOffError,
    VoiceOfflineError,
)
from service.metrics import Metrics
from service.voices import Persona, Personas
from tests.service.rungs import Rung, broken, request_for, tone

pytestmark = pytest.mark.anyio

NOT_A_NUMBER = np.full(100, np.nan, dtype=np.float32)


def chain(*rungs: Rung, deadline: float = 5, stall: float = 5) -> Chain:
    return Chain(rungs, deadline_seconds=deadline, stall_seconds=stall)


async def spoken(of: Chain, personas: Personas) -> tuple[str, str, Samples]:
    """Let a chain speak to its end; give engine, attempts and audio."""
    async with of.speak(request_for(personas["maya"])) as speech:
        blocks = [block async for block in speech.blocks]
    return speech.engine, speech.attempts, np.concatenate(blocks)


async def test_the_first_rung_speaks_and_is_named(personas: Personas) -> None:
    first, second = Rung(tone(), tone(), name="csm"), Rung(tone())
    engine, attempts, audio = await spoken(chain(first, second), personas)
    assert (engine, attempts, second.asked) == ("csm", "csm=ok", 0)
    np.testing.assert_array_equal(audio, np.concatenate([tone(), tone()]))


@pytest.mark.parametrize(
    ("rung", "outcome"),
    [
        (broken("csm"), "failed"),
        (Rung(name="csm", error=ZeroDivisionError()), "failed"),
        (Rung(name="csm"), "silent"),
        (Rung(*[silence(1)] * 9, name="csm"), "silent"),
        (Rung(NOT_A_NUMBER, name="csm"), "not_finite"),
        (Rung(100 * tone(), name="csm"), "implausible"),
        (Rung(name="csm", state=EngineState("off", "not built")), "off"),
        (
            Rung(
                name="csm", state=EngineState("open", "failed before"), error=EngineError("again")
            ),
            "failed",
        ),
    ],
)
async def test_the_next_rung_speaks_when_one_does_not(
    rung: Rung, outcome: str, personas: Personas
) -> None:
    engine, attempts, _ = await spoken(chain(rung, Rung(tone())), personas)
    assert (engine, attempts) == ("basic", f"csm={outcome};basic=ok")


async def test_a_rung_that_hangs_leaves_time_for_the_next(personas: Personas) -> None:
    hanging = Rung(name="csm", hangs=True)
    _, attempts, _ = await spoken(chain(hanging, Rung(tone()), deadline=0.2), personas)
    assert attempts == "csm=timeout;basic=ok"
    assert hanging.ended.is_set()


async def test_an_open_rung_is_tried_again(personas: Personas) -> None:
    rung = Rung(tone(), state=EngineState("open", "failed before"))
    assert (await spoken(chain(rung), personas))[1] == "basic=ok"


async def test_silence_before_the_first_sound_is_kept(personas: Personas) -> None:
    *_, audio = await spoken(chain(Rung(silence(1), tone())), personas)
    np.testing.assert_array_equal(audio, np.concatenate([silence(1), tone()]))


async def test_without_rungs_the_voice_is_offline(personas: Personas) -> None:
    with pytest.raises(VoiceOfflineError, match="there is none"):
        await spoken(chain(), personas)


async def test_when_every_rung_fails_the_attempts_are_told(personas: Personas) -> None:
    with pytest.raises(VoiceOfflineError) as offline:
        await spoken(chain(broken("csm"), Rung(NOT_A_NUMBER)), personas)
    assert offline.value.attempts == "csm=failed;basic=not_finite"


async def test_when_time_runs_out_the_deadline_is_told(personas: Personas) -> None:
    hanging = Rung(hangs=True)
    with pytest.raises(DeadlineError, match=r"within 0.05 s: basic=timeout"):
        await spoken(chain(hanging, deadline=0.05), personas)
    assert hanging.ended.is_set()


async def test_a_stall_ends_the_speech_and_asks_nobody_else(personas: Personas) -> None:
    stalling, other = Rung(tone(), name="csm", hangs=True), Rung(tone())
    with pytest.raises(SpeechCutOffError) as cut_off:
        await spoken(chain(broken("remote"), stalling, other, stall=0.05), personas)
    assert cut_off.value.attempts == "remote=failed;csm=stalled"
    assert (stalling.ended.is_set(), other.asked) == (True, 0)


@pytest.mark.parametrize(
    ("rung", "outcome"),
    [
        (Rung(tone(), error=EngineError("out of breath")), "failed"),
        (Rung(tone(), error=ZeroDivisionError()), "failed"),
        (Rung(tone(), NOT_A_NUMBER), "not_finite"),
    ],
)
async def test_a_failure_after_the_first_block_ends_the_speech(
    rung: Rung, outcome: str, personas: Personas
) -> None:
    with pytest.raises(SpeechCutOffError) as cut_off:
        await spoken(chain(rung), personas)
    assert cut_off.value.attempts == f"basic={outcome}"


async def test_leaving_early_ends_the_work(personas: Personas) -> None:
    rung = Rung(tone(), tone(), tone())
    async with chain(rung).speak(request_for(personas["maya"])) as speech:
        await anext(speech.blocks)
        assert not rung.ended.is_set()
    assert rung.ended.is_set()


@pytest.mark.parametrize("blocks", [(), (tone(),)])
async def test_cancelling_goes_through_to_the_engine(
    blocks: tuple[Samples, ...], personas: Personas
) -> None:
    rung = Rung(*blocks, hangs=True)
    task = asyncio.create_task(spoken(chain(rung), personas))
    await asyncio.to_thread(rung.speaking.wait, 5)
    task.cancel()
    await asyncio.wait([task])
    assert (task.cancelled(), rung.ended.is_set()) == (True, True)


async def test_who_comes_when_all_permits_are_taken_waits(personas: Personas) -> None:
    rung = Rung(tone(), tone(), permits=1)
    one = chain(rung)
    async with one.speak(request_for(personas["maya"])):
        waiting = asyncio.create_task(spoken(one, personas))
        await asyncio.sleep(0)
        assert rung.asked == 1
    assert (await waiting)[0] == "basic"
    assert rung.asked == 2


async def test_the_wait_for_a_permit_counts_towards_the_deadline(personas: Personas) -> None:
    rung = Rung(tone(), tone(), permits=1)
    one = chain(rung, deadline=0.05)
    async with one.speak(request_for(personas["maya"])):
        with pytest.raises(DeadlineError):
            await spoken(one, personas)


async def test_the_speaker_is_the_first_rung_that_is_ready() -> None:
    off, ready = Rung(name="csm", state=EngineState("off", "not built")), Rung()
    assert chain(off, ready).speaker is ready
    assert chain(off).speaker is None


async def test_an_answer_ends_where_the_caller_says(personas: Personas) -> None:
    rung = Rung(tone(0.2), tone(0.2), tone(0.2), name="csm")
    request = replace(request_for(personas["maya"]), longest_seconds=0.3)
    async with chain(rung).speak(request) as speech:
        blocks = [block.size async for block in speech.blocks]
    assert blocks == [4_800, 2_400]
    assert rung.ended.is_set()


async def test_who_asks_for_less_than_the_silence_at_the_start_gets_silence(
    personas: Personas,
) -> None:
    request = replace(request_for(personas["maya"]), longest_seconds=0.1)
    one = chain(Rung(silence(0.2), tone(), name="csm"))
    async with one.speak(request) as speech:
        assert [block.size async for block in speech.blocks] == [2_400]
    assert speech.attempts == "csm=ok"


async def test_a_rung_that_is_loading_is_not_asked(personas: Personas) -> None:
    loading = Rung(tone(), name="csm", state=EngineState("loading", "reading"))
    engine, attempts, _ = await spoken(chain(loading, Rung(tone())), personas)
    assert (engine, attempts, loading.asked) == ("basic", "csm=loading;basic=ok", 0)


async def test_signs_of_life_are_not_passed_on_and_keep_the_deadline_off(
    personas: Personas,
) -> None:
    rung = Slow(*[silence(0)] * 4, tone(), silence(0), tone(), name="csm")
    _, _, audio = await spoken(chain(rung, deadline=0.2, stall=0.2), personas)
    np.testing.assert_array_equal(audio, np.concatenate([tone(), tone()]))


class Slow(Rung):
    """A rung that takes two thirds of the deadline for each block."""

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        async for block in super().speak(request):
            await asyncio.sleep(0.13)
            yield block


def failing(failure: str, *, times: int = 99, name: str = "csm", **about: Any) -> "Failing":
    return Failing(EngineError("no", failure=failure, **about), times, name)


class Failing(Rung):
    """A rung that fails so many times, and then speaks."""

    def __init__(self, failure: EngineError, times: int, name: str) -> None:
        super().__init__(tone(), name=name)
        self._failure = failure
        self._times = times

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        if self.asked < self._times:
            self.asked += 1
            raise self._failure
        async for block in super().speak(request):
            yield block

    async def probe(self) -> None:
        self.probes += 1
        if self.probes < self._times:
            raise self._failure


@pytest.mark.parametrize(
    ("failure", "asked"),
    [(name, 2 if failure.again == "once" else 1) for name, failure in FAILURES.items()],
)
async def test_only_what_may_pass_by_itself_is_tried_twice(
    failure: str, asked: int, personas: Personas
) -> None:
    rung = failing(failure)
    engine, attempts, _ = await spoken(chain(rung, Rung(tone())), personas)
    assert (engine, rung.asked) == ("basic", asked)
    assert attempts == f"csm={failure};" * asked + "basic=ok"


async def test_a_second_try_that_succeeds_is_told(personas: Personas) -> None:
    rung = failing("transient", times=1)
    assert (await spoken(chain(rung), personas))[1] == "csm=transient;csm=ok"


async def test_who_is_busy_for_less_than_its_share_is_waited_for(personas: Personas) -> None:
    rung = failing("busy", times=1, retry_after=0.05)
    assert (await spoken(chain(rung, Rung(tone())), personas))[1] == "csm=busy;csm=ok"


async def test_who_is_busy_for_longer_is_passed_over_until_then(personas: Personas) -> None:
    one = chain(failing("busy", retry_after=60), Rung(tone()))
    assert (await spoken(one, personas))[1] == "csm=busy;basic=ok"
    assert (await spoken(one, personas))[1] == "csm=open;basic=ok"


async def test_when_much_fails_little_is_tried_twice(personas: Personas) -> None:
    rung = failing("transient")
    one = chain(rung, Rung(tone()))
    for _ in range(40):
        one.breakers["csm"] = Breaker()
        await spoken(one, personas)
    # Ten saved up, and a tenth for each request.
    assert rung.asked - 40 in (13, 14)


async def test_a_rung_that_hung_costs_the_next_listener_nothing(personas: Personas) -> None:
    hanging = Rung(name="csm", hangs=True)
    one = chain(hanging, Rung(tone()), deadline=0.2)
    await spoken(one, personas)
    assert (await spoken(one, personas))[1] == "csm=open;basic=ok"
    assert hanging.asked == 1
    await one.stop()


async def test_a_refused_key_is_logged_loudly_once(
    personas: Personas, caplog: pytest.LogCaptureFixture
) -> None:
    one = chain(failing("credentials"), Rung(tone()))
    for _ in range(3):
        await spoken(one, personas)
    assert (await spoken(one, personas))[1] == "csm=latched;basic=ok"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "its breaker is latched" in caplog.text


async def test_the_voice_comes_home_by_itself(
    personas: Personas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.01)
    home = failing("timeout", times=1)
    one = chain(home, Rung(tone()))
    assert one.speaker is home
    await spoken(one, personas)
    assert one.speaker is not home
    await one._recovery._nurses["csm"]
    assert one.speaker is home
    assert (await spoken(one, personas))[:2] == ("csm", "csm=ok")
    await one.stop()


async def test_a_rung_that_stays_down_is_probed_with_nobodys_words(
    personas: Personas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.002)
    down = failing("timeout", times=3)
    one = chain(down, Rung(tone()))
    await spoken(one, personas)
    await one._recovery._nurses["csm"]
    assert (down.asked, down.probes) == (1, 3)


async def test_a_primary_on_another_host_is_looked_at_from_the_start_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(breaker, "FIRST_PAUSE", 0.01)
    away = failing("transient", times=3, name="remote")
    away.host = "sesame.example"
    one = chain(away, Rung(tone()))
    await one.start()
    while "remote" not in one._recovery._nurses:  # noqa: ASYNC110 (a few turns of the loop)
        await asyncio.sleep(0)
    assert one.speaker is not away
    await one._recovery._nurses["remote"]
    assert one.speaker is away
    assert (away.asked, away.probes) == (0, 3)
    await one.stop()


async def test_a_cloud_is_looked_at_once() -> None:
    cloud = failing("credentials", name="elevenlabs")
    cloud.host = "api.elevenlabs.io"
    one = chain(Rung(tone(), name="csm"), cloud)
    await one.start()
    await asyncio.gather(*one._recovery._watchers)
    assert (one.breakers["elevenlabs"].state, cloud.probes) == ("latched", 1)
    await one.stop()


@pytest.mark.parametrize(
    "rung",
    [
        Rung(tone(), name="csm", error=EngineError("out of breath")),
        Rung(tone(), NOT_A_NUMBER, name="csm"),
        Rung(tone(), name="csm", hangs=True),
        Rung(tone(0.01), name="csm"),
    ],
    ids=["fails", "not finite", "stalls", "too short"],
)
async def test_a_whole_answer_that_nobody_has_heard_goes_to_the_next_rung(
    rung: Rung, personas: Personas
) -> None:
    request = replace(request_for(personas["maya"]), whole=True)
    async with chain(rung, Rung(tone(1)), stall=0.05).speak(request) as speech:
        blocks = [block async for block in speech.blocks]
    assert speech.engine == "basic"
    spoken = np.concatenate(blocks)
    # At the first rung's level: the same sound, softer.
    np.testing.assert_allclose(spoken / np.abs(spoken).max(), tone(1) * 2, atol=1e-3)


async def test_who_gave_signs_of_life_and_stalled_leaves_the_next_its_time(
    personas: Personas,
) -> None:
    lively = Slow(silence(0), name="csm", hangs=True)
    rest = Rung(tone())
    rest.reserve_seconds = 1
    request = replace(request_for(personas["maya"]), whole=True)
    async with chain(lively, rest, deadline=0.5, stall=0.2).speak(request) as speech:
        assert speech.attempts == "csm=stalled;basic=ok"


async def test_audio_too_short_for_its_text_is_broken_off(personas: Personas) -> None:
    request = request_for(personas["maya"], "A sentence of some length is not said in this.")
    one = chain(Rung(tone(0.1)))
    with pytest.raises(SpeechCutOffError) as cut_off:
        async with one.speak(request) as speech:
            _ = [block async for block in speech.blocks]
    assert cut_off.value.attempts == "basic=too_short"


async def test_a_rung_without_the_personas_voice_is_passed_over(personas: Personas) -> None:
    one = chain(Voiceless(tone(), name="csm"), Rung(tone()))
    assert (await spoken(one, personas))[1] == "csm=no_voice;basic=ok"


class Voiceless(Rung):
    def speaks_for(self, persona: Persona) -> bool:
        del persona
        return False


async def test_a_request_that_only_came_back_is_a_loop(personas: Personas) -> None:
    with pytest.raises(LoopError, match="came back to where it began: csm=loop;basic=failed"):
        await spoken(chain(failing("loop"), broken()), personas)


async def test_when_all_permits_are_taken_the_rung_is_not_to_blame(personas: Personas) -> None:
    busy = Rung(tone(), tone(), name="csm", permits=1)
    one = chain(busy, Rung(tone()), deadline=0.1)
    async with one.speak(request_for(personas["maya"])):
        assert (await spoken(one, personas))[1] == "csm=queue_full;basic=ok"
    assert one.breakers["csm"].state == "closed"


async def test_a_listener_who_leaves_is_not_the_rungs_fault(personas: Personas) -> None:
    rung = Rung(hangs=True)
    one = chain(rung)
    for _ in range(4):
        task = asyncio.create_task(spoken(one, personas))
        await asyncio.to_thread(rung.speaking.wait, 5)
        task.cancel()
        await asyncio.wait([task])
    assert one.breakers["basic"].state == "closed"


async def test_every_try_is_counted(personas: Personas) -> None:
    metrics = Metrics()
    cloud = Rung(tone(), name="elevenlabs")
    cloud.host = "api.elevenlabs.io"
    one = Chain([broken("csm"), cloud], deadline_seconds=5, stall_seconds=5, metrics=metrics)
    await spoken(one, personas)
    text = metrics.exposition().decode()
    assert 'sesame_rung_attempts_total{outcome="failed",rung="csm"} 1.0' in text
    assert 'sesame_rung_attempts_total{outcome="ok",rung="elevenlabs"} 1.0' in text
    assert 'sesame_cloud_characters_total{rung="elevenlabs"} 5.0' in text
    assert 'sesame_switch_over_seconds_count{rung="elevenlabs"} 1.0' in text


@pytest.mark.parametrize(
    ("left", "reserves", "share"),
    [(8, [], 8), (8, [2, 1.5, 0.5], 4), (8, [0.5], 7.5), (2, [2, 1.5, 0.5], 0.5), (0, [1], 0)],
)
def test_each_rung_leaves_the_next_what_it_needs(
    left: float, reserves: list[float], share: float
) -> None:
    after = [Rung() for _ in reserves]
    for rung, seconds in zip(after, reserves, strict=True):
        rung.reserve_seconds = seconds
    assert chain_module._share(left, after) == share
