"""The rung of the self-hosted model, on a small random checkpoint: it says noise, for real."""

import asyncio
import io
import logging
import re
import shutil
import threading
import wave
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from service.audio import SAMPLE_RATE, Samples, silence, to_pcm16, wav_header
from service.csm import FRAME_SECONDS, Voice, frame_budget
from service.engines import csm
from service.engines.chain import Chain
from service.engines.csm import CsmVoice
from service.engines.csm_model import CsmModel
from service.engines.engine import ContextTurn, EngineState, SpeechRequest
from service.engines.snapshot import Snapshot
from service.errors import EngineError, SettingsError
from service.text import segments
from service.voices import Personas, load_personas

pytestmark = pytest.mark.anyio

PATIENCE = 60  # seconds; only ever waited out when something is wrong
TEXT = "Hello from Maya."


async def settled(voice: CsmVoice) -> EngineState:
    """Wait until it has loaded, with all its voices, or given up."""
    await voice.start()
    await asyncio.wait(voice._tasks[:1], timeout=PATIENCE)
    return voice.state


@pytest.fixture(scope="module")
async def voice(tiny_checkpoint: Path, personas: Personas) -> AsyncGenerator[CsmVoice]:
    voice = CsmVoice(Snapshot(tiny_checkpoint, "tiny"), personas, precision="fp32", streams=2)
    assert (await settled(voice)).name == "ready"
    yield voice
    await voice.stop()


@pytest.fixture
def model(voice: CsmVoice) -> CsmModel:
    assert voice._model is not None
    return voice._model


def asked(
    personas: Personas,
    text: str = TEXT,
    *,
    seed: int = 1,
    longest: float | None = 1.0,
    context: tuple[ContextTurn, ...] = (),
    whole: bool = False,
) -> SpeechRequest:
    return SpeechRequest(
        segments(text),
        personas["maya"],
        seed=seed,
        longest_seconds=longest,
        context=context,
        whole=whole,
    )


def wav(seconds: float, *, rate: int = 24_000, channels: int = 1, loudness: float = 0.1) -> bytes:
    noise = np.random.default_rng(0).normal(0, loudness, round(seconds * rate) * channels)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(to_pcm16(noise.astype(np.float32)))
    return file.getvalue()


def with_hal(folder: Path, clip: bytes | None, *, more: str = "") -> Personas:
    """Give the house's personas and an operator's own, with a clip or without."""
    (folder / "hal").mkdir()
    table = 'description = "Hal."\n[csm]\nclip = "hal.wav"\ntranscript = "I am sorry, Dave."\n'
    table += more
    (folder / "hal" / "voice.toml").write_text(table)
    if clip is not None:
        (folder / "hal" / "hal.wav").write_bytes(clip)
    return load_personas(folder)


async def spoken(voice: CsmVoice, request: SpeechRequest) -> Samples:
    async with aclosing(voice.speak(request)) as blocks:
        return np.concatenate([silence(0), *[block async for block in blocks]])


async def test_it_speaks_within_the_budget_of_the_text(voice: CsmVoice, personas: Personas) -> None:
    audio = await spoken(voice, asked(personas, longest=None))
    assert 0.2 < audio.size / SAMPLE_RATE <= frame_budget(TEXT) * FRAME_SECONDS


async def test_the_first_block_is_that_of_two_frames(voice: CsmVoice, personas: Personas) -> None:
    async with aclosing(voice.speak(asked(personas))) as blocks:
        first = await anext(blocks)
    assert first.size <= 2 * 1_920


async def test_a_seed_gives_the_same_audio_again(voice: CsmVoice, personas: Personas) -> None:
    first, again = [await spoken(voice, asked(personas, seed=5)) for _ in range(2)]
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    "change", [{"seed": 6}, {"temperature": 0.1}, {"top_k": 1}, {"seed": None}], ids=str
)
async def test_what_is_asked_for_is_heard(
    voice: CsmVoice, personas: Personas, change: dict[str, Any]
) -> None:
    plain = await spoken(voice, asked(personas, seed=5))
    other = await spoken(voice, replace(asked(personas, seed=5), **change))
    size = min(plain.size, other.size)
    assert np.abs(plain[:size] - other[:size]).max() > 1e-3


async def test_every_code_may_be_drawn(voice: CsmVoice, personas: Personas) -> None:
    assert (await spoken(voice, replace(asked(personas), top_k=2051))).size


async def test_each_persona_has_a_voice_of_its_own(voice: CsmVoice, personas: Personas) -> None:
    heard = []
    for persona in personas.values():
        request = SpeechRequest(segments(TEXT), persona, seed=5, longest_seconds=0.5)
        heard.append((await spoken(voice, request))[:4_000])
    for number, one in enumerate(heard):
        for other in heard[:number]:
            assert np.abs(one - other).max() > 1e-3


async def test_a_whole_answer_waits_for_its_voice_to_be_read_in(
    voice: CsmVoice, model: CsmModel, personas: Personas, monkeypatch: pytest.MonkeyPatch
) -> None:
    unread: Future[Voice] = Future()
    monkeypatch.setattr(voice, "_model", replace(model, voices={"maya": unread}))
    async with aclosing(voice.speak(asked(personas, longest=0.3, whole=True))) as blocks:
        assert (await anext(blocks)).size == 0
        unread.set_result(await asyncio.wrap_future(model.voices["maya"]))
        assert sum([block.size async for block in blocks])


async def test_a_pause_is_silence_of_its_length(voice: CsmVoice, personas: Personas) -> None:
    text = f'{TEXT} <break time="400ms"/> {TEXT}'
    async with aclosing(voice.speak(asked(personas, text, longest=None))) as blocks:
        silent = [block.size async for block in blocks if not block.any()]
    assert silent == [0.4 * SAMPLE_RATE]


async def test_what_was_said_before_changes_how_it_goes_on(
    voice: CsmVoice, personas: Personas
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    before = (ContextTurn("And you?", 1, noise), ContextTurn("Well.", personas["warm"], noise))
    plain = await spoken(voice, asked(personas))
    after = await spoken(voice, asked(personas, context=before))
    assert np.abs(plain[:4_000] - after[:4_000]).max() > 1e-3


async def test_a_listener_who_leaves_frees_the_slot(
    voice: CsmVoice, model: CsmModel, personas: Personas
) -> None:
    async with aclosing(voice.speak(asked(personas, TEXT * 20, longest=None))) as blocks:
        await anext(blocks)
        assert model.worker.busy == 1
    # The next task runs after the frame in hand.
    assert await asyncio.wrap_future(model.worker.run(lambda: model.worker.busy)) == 0


async def test_fifty_requests_at_once_are_all_answered(voice: CsmVoice, personas: Personas) -> None:
    chain = Chain([voice], deadline_seconds=PATIENCE, stall_seconds=PATIENCE)

    async def speak(seed: int) -> int:
        async with chain.speak(asked(personas, "Yes.", seed=seed, longest=0.3)) as speech:
            return sum([block.size async for block in speech.blocks])

    lengths = await asyncio.gather(*(speak(seed) for seed in range(50)))
    assert len(lengths) == 50
    assert all(lengths)


@pytest.mark.parametrize(("factor", "tries"), [(0.5, 2), (1.5, 1)])
async def test_a_whole_answer_that_went_on_too_long_is_tried_once_more_where_it_is_quick(
    voice: CsmVoice,
    model: CsmModel,
    personas: Personas,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    factor: float,
    tries: int,
) -> None:
    caplog.set_level(logging.INFO)
    report = replace(model.report, real_time_factor=factor)
    monkeypatch.setattr(voice, "_model", replace(model, report=report))
    request = asked(personas, longest=0.5, whole=True)
    async with aclosing(voice.speak(request)) as blocks:
        signs = [block.size async for block in blocks]
    # Signs of life while a piece is held back, then all of it.
    assert signs[0] == 0
    assert sum(signs) > 0
    # The budget of random weights always runs out.
    assert caplog.text.count("went wrong: budget") == tries
    assert TEXT not in caplog.text


@pytest.mark.parametrize("whole", [True, False])
async def test_a_model_that_says_nothing_is_an_error(
    voice: CsmVoice,
    model: CsmModel,
    personas: Personas,
    monkeypatch: pytest.MonkeyPatch,
    *,
    whole: bool,
) -> None:
    def mute(batch: int, _reach: int, _candidates: int) -> Tensor:
        return torch.zeros(batch, 32, dtype=torch.int64)

    monkeypatch.setattr(model.worker.scheduler, "_step", mute)
    with pytest.raises(EngineError, match="said nothing for 16 characters, twice"):
        await spoken(voice, asked(personas, whole=whole))


async def test_a_second_try_that_succeeds_is_what_is_heard(
    voice: CsmVoice, model: CsmModel, personas: Personas, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = model.worker.scheduler._step
    calls = 0

    def mute_at_first(batch: int, reach: int, candidates: int) -> Tensor:
        nonlocal calls
        calls += 1
        codes = real(batch, reach, candidates)
        return torch.zeros_like(codes) if calls == 1 else codes

    monkeypatch.setattr(model.worker.scheduler, "_step", mute_at_first)
    assert (await spoken(voice, asked(personas))).size


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (
            lambda folder: (folder / "prompts" / "conversational_a.wav").unlink(),
            "the clip of maya cannot be used: .*No such file",
        ),
        (
            lambda folder: (folder / "prompts" / "conversational_a.wav").write_bytes(b"noise"),
            "the clip of maya cannot be used: .*no audio that can be decoded",
        ),
        (
            lambda folder: next(folder.glob("transformers-*.safetensors")).unlink(),
            "shards .* are not in",
        ),
    ],
)
async def test_a_model_that_cannot_be_loaded_says_why(
    tiny_checkpoint: Path,
    tmp_path: Path,
    personas: Personas,
    spoil: Callable[[Path], object],
    reason: str,
) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "spoilt")
    spoil(folder)
    voice = CsmVoice(Snapshot(folder, "tiny"), personas, precision="fp32", streams=1)
    state = await settled(voice)
    await voice.stop()
    assert state.name == "off"
    assert re.search(reason, state.reason or "")


@pytest.mark.parametrize(
    ("clip", "why"),
    [
        (None, "No such file"),
        (b"", "no audio that can be decoded"),
        (b"RIFF and then noise", "no audio that can be decoded"),
        (wav(0.5), r"0\.50 s; give at least 1 s"),
        (wav(2.0, loudness=0), "nothing can be heard"),
    ],
    ids=["missing", "empty", "corrupt", "short", "silent"],
)
async def test_an_operators_clip_that_cannot_be_used_is_refused_at_once(
    tiny_checkpoint: Path, tmp_path: Path, clip: bytes | None, why: str
) -> None:
    with pytest.raises(SettingsError, match=f"the clip of hal cannot be used: .*{why}"):
        CsmVoice(Snapshot(tiny_checkpoint, "tiny"), with_hal(tmp_path, clip), streams=1)


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (48_000, 2)])
async def test_an_operators_clip_of_any_form_becomes_a_voice(
    tiny_checkpoint: Path, tmp_path: Path, rate: int, channels: int
) -> None:
    personas = with_hal(tmp_path, wav(2.0, rate=rate, channels=channels))
    voice = CsmVoice(Snapshot(tiny_checkpoint, "tiny"), personas, precision="fp32", streams=1)
    assert (await settled(voice)).name == "ready"
    request = SpeechRequest(segments(TEXT), personas["hal"], longest_seconds=0.3)
    assert (await spoken(voice, request)).size
    await voice.stop()


async def test_what_a_clip_says_beyond_its_transcript_is_not_heard(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    pcm = wav(2.0, loudness=0)[44:] + wav(2.0)[44:]
    clip = wav_header(len(pcm), SAMPLE_RATE) + pcm
    personas = with_hal(tmp_path, clip, more="clip_seconds = 2.0\n")
    with pytest.raises(SettingsError, match="nothing can be heard"):
        CsmVoice(Snapshot(tiny_checkpoint, "tiny"), personas, streams=1)


async def test_a_gpu_that_is_not_there_is_named(
    tiny_checkpoint: Path, personas: Personas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    voice = CsmVoice(Snapshot(tiny_checkpoint, "tiny"), personas, device="cuda", streams=1)
    state = await settled(voice)
    await voice.stop()
    assert state.name == "off"
    assert "SESAME_DEVICE=cuda, and PyTorch sees no GPU" in (state.reason or "")


async def test_before_it_has_loaded_it_says_how_far_it_is(
    tiny_checkpoint: Path, personas: Personas
) -> None:
    voice = CsmVoice(Snapshot(tiny_checkpoint, "tiny"), personas, streams=1)
    assert voice.state.name == "loading"
    with pytest.raises(EngineError):
        await spoken(voice, asked(personas))


class Hanging:
    """A step that never comes back, until the test is over."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def __call__(self, batch: int, _reach: int, _candidates: int) -> Tensor:
        self.over.wait(PATIENCE)
        return torch.zeros(batch, 32, dtype=torch.int64)


@pytest.mark.parametrize("broken", [False, True], ids=["hangs", "breaks"])
async def test_a_model_that_hangs_or_breaks_takes_the_process_down_and_cuts_answers_off(
    tiny_checkpoint: Path,
    personas: Personas,
    monkeypatch: pytest.MonkeyPatch,
    *,
    broken: bool,
) -> None:
    for name, value in (("STILL_SECONDS", 0.3), ("WATCH_PAUSE", 0.05), ("LAST_WORDS", 0.0)):
        monkeypatch.setattr(csm, name, value)
    reasons: asyncio.Queue[str] = asyncio.Queue()
    voice = CsmVoice(
        Snapshot(tiny_checkpoint, "tiny"),
        personas,
        precision="fp32",
        streams=1,
        end_process=reasons.put_nowait,
    )
    # Loading takes longer than the test's patience with a frame.
    with monkeypatch.context() as patient:
        patient.setattr(csm, "STILL_SECONDS", PATIENCE)
        assert (await settled(voice)).name == "ready"
    assert voice._model is not None
    hanging = Hanging()
    monkeypatch.setattr(voice._model.worker.scheduler, "_step", None if broken else hanging)
    with pytest.raises(EngineError, match="thread has ended" if broken else "no frame came"):
        async with asyncio.timeout(PATIENCE):
            await spoken(voice, asked(personas))
    async with asyncio.timeout(PATIENCE):
        why = await reasons.get()
    assert voice.state == EngineState("open", why)
    hanging.over.set()
    await voice.stop()
