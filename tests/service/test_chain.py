import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import numpy as np
import pytest

from service.audio import Samples, silence
from service.engines.chain import Chain
from service.engines.engine import EngineState, SpeechRequest
from service.errors import (
    DeadlineError,
    EngineError,
    SpeechCutOffError,
    VoiceOfflineError,
)
from service.voices import Personas
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
