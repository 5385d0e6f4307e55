import asyncio
import logging
from contextlib import aclosing
from pathlib import Path

import numpy as np
import pytest

from service.audio import SAMPLE_RATE, Samples, check_block, is_silent, wav_header
from service.engines import basic
from service.engines.basic import BasicVoice
from service.engines.engine import EngineState, SpeechRequest
from service.errors import EngineError
from service.text import Pause, Words, segments
from service.voices import Persona, Personas
from tests.service.held import HeldEspeak, about, is_running, wait_for_exit
from tests.service.rungs import request_for

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def maya(personas: Personas) -> Persona:
    return personas["maya"]


def voice(*personas: Persona, command: str | Path = "espeak-ng") -> BasicVoice:
    return BasicVoice(personas, str(command))


async def spoken(by: BasicVoice, request: SpeechRequest) -> Samples:
    blocks = [block async for block in by.speak(request)]
    for block in blocks:
        check_block(block)
    return np.concatenate([np.zeros(0, np.float32), *blocks])


def script(folder: Path, body: str) -> Path:
    """Write an executable that stands in for an espeak-ng that misbehaves."""
    command = folder / "espeak-ng"
    command.write_text(f"#!/bin/sh\n{body}\n")
    command.chmod(0o755)
    return command


async def test_a_sentence_is_spoken_at_a_natural_pace(maya: Persona) -> None:
    audio = await spoken(voice(maya), request_for(maya, "Hello, this is the voice of Maya."))
    assert 1.5 < audio.size / SAMPLE_RATE < 3.5
    assert not is_silent(audio)


async def test_a_long_text_comes_in_blocks_as_it_is_spoken(maya: Persona) -> None:
    async with aclosing(voice(maya).speak(request_for(maya, "word " * 900))) as blocks:
        first = await anext(blocks)
    assert 0 < first.size / SAMPLE_RATE < 0.5


async def test_every_persona_speaks_in_its_own_way(personas: Personas) -> None:
    spoken_by = [
        await spoken(voice(), request_for(persona, "one and the same text"))
        for persona in personas.values()
    ]
    assert len({audio.tobytes() for audio in spoken_by}) == len(personas)


async def test_a_pause_is_silence_of_its_length(maya: Persona) -> None:
    parts = [Words("before"), Words("after")]
    apart = [await spoken(voice(), SpeechRequest((part,), maya)) for part in parts]
    request = SpeechRequest((parts[0], Pause(1.5), parts[1], Pause(0.5)), maya)
    together = await spoken(voice(), request)
    assert together.size == sum(part.size for part in apart) + 2 * SAMPLE_RATE
    assert is_silent(together[-SAMPLE_RATE // 2 :])


@pytest.mark.parametrize(
    "text",
    [
        "-v de",
        "--version",
        "-f /etc/passwd",
        "; reboot",
        "$(reboot) `reboot`",
        "%s %n 100%",
        "A." * 2_400,
        "https://example.org/" + "a/" * 1_000,
        "日本語",
        "a\u0301" * 200,
        "1,234,567.89",
    ],
)
async def test_odd_text_is_harmless(text: str, maya: Persona) -> None:
    async with aclosing(voice().speak(SpeechRequest(segments(text), maya))) as blocks:
        assert (await anext(blocks)).size > 0


async def test_phonemes_in_the_text_are_read_out_like_any_text(maya: Persona) -> None:
    phonemes = await spoken(voice(), request_for(maya, "hello [[h@'loU]] there"))
    text = await spoken(voice(), request_for(maya, "hello [ [h@'loU]] there"))
    np.testing.assert_array_equal(phonemes, text)


@pytest.mark.parametrize(
    "digits", ["١٢٣", "\uff11\uff12\uff13", "१२३", "\U0001d7d9\U0001d7da\U0001d7db"]
)
async def test_the_digits_of_every_script_are_read_out(digits: str, maya: Persona) -> None:
    ours = await spoken(voice(), request_for(maya, "123"))
    np.testing.assert_array_equal(await spoken(voice(), request_for(maya, digits)), ours)


async def test_mark_up_in_the_text_is_not_interpreted(maya: Persona) -> None:
    comparison = await spoken(voice(), request_for(maya, "x <break time='3s'/> y"))
    assert not any(map(is_silent, np.array_split(comparison, 8)))


async def test_the_text_is_in_no_command_line(maya: Persona, held_espeak: HeldEspeak) -> None:
    held_espeak.hold()
    speaking = voice(command=held_espeak.command).speak(request_for(maya, "a secret of mine"))
    task = asyncio.ensure_future(anext(speaking))
    pid = await asyncio.to_thread(held_espeak.started)
    command_line = about(pid, "cmdline")
    environment = about(pid, "environ")
    held_espeak.let_go()
    await task
    await speaking.aclose()
    assert b"--stdin" in command_line
    assert b"secret" not in command_line
    assert b"PATH" not in environment


async def test_cancelling_kills_and_reaps_espeak(maya: Persona, held_espeak: HeldEspeak) -> None:
    held_espeak.hold()
    speaking = asyncio.create_task(spoken(voice(command=held_espeak.command), request_for(maya)))
    pid = await asyncio.to_thread(held_espeak.started)
    speaking.cancel()
    await asyncio.wait([speaking])
    assert not is_running(pid)


async def test_leaving_in_mid_speech_kills_and_reaps_espeak(maya: Persona, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    command = script(tmp_path, f'echo $$ > {pid_file}; exec /usr/bin/env espeak-ng "$@"')
    async with aclosing(voice(command=command).speak(request_for(maya, "word " * 900))) as blocks:
        await anext(blocks)
        pid = int(pid_file.read_text())
        assert is_running(pid)
    assert not is_running(pid)


async def test_an_espeak_that_hangs_is_given_up_and_killed(
    maya: Persona, held_espeak: HeldEspeak, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(basic, "LONGEST_WAIT", 0.2)
    held_espeak.hold()
    with pytest.raises(EngineError, match=r"espeak-ng gave nothing for 0.2 s"):
        await spoken(voice(command=held_espeak.command), request_for(maya))
    wait_for_exit(held_espeak.started())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("exit 3", "espeak-ng ended with exit code 3"),
        ("kill -SEGV $$", "espeak-ng ended with signal SIGSEGV"),
        ("echo nonsense", "espeak-ng gave no WAV header"),
        ("head -c 44 /dev/zero", "espeak-ng gave no WAV header"),
        ("head -c 3000000 /dev/zero >&2; exit 1", "espeak-ng ended with exit code 1"),
        ("exec cat {folder}/22050.wav /dev/zero", "more than 18 s of audio for the text"),
        ("exec cat {folder}/1.wav /dev/zero", "espeak-ng gave a WAV of 1 Hz"),
    ],
)
async def test_a_misbehaving_espeak_is_an_engine_error(
    body: str, message: str, maya: Persona, tmp_path: Path
) -> None:
    for rate in (1, 22_050):
        (tmp_path / f"{rate}.wav").write_bytes(wav_header(0, rate))
    command = script(tmp_path, body.format(folder=tmp_path))
    with pytest.raises(EngineError, match=message):
        await spoken(voice(command=command), request_for(maya))


async def test_a_healthy_espeak_is_observed_as_ready(personas: Personas) -> None:
    engine = voice(*personas.values())
    await engine.start()
    state = engine.state
    await engine.stop()
    assert state == EngineState("ready")


async def test_an_espeak_that_is_not_there_is_off_with_the_way_out(
    maya: Persona, tmp_path: Path
) -> None:
    engine = voice(maya, command=tmp_path / "absent")
    await engine.start()
    await engine.stop()
    assert engine.state == EngineState(
        "off", "espeak-ng is not installed; apt-get install espeak-ng"
    )


async def test_a_voice_that_espeak_lacks_is_observed_with_what_espeak_says(maya: Persona) -> None:
    lacking = maya.model_copy(update={"basic": maya.basic.model_copy(update={"voice": "xx"})})
    engine = voice(lacking)
    await engine.start()
    await engine.stop()
    assert engine.state.name == "open"
    assert engine.state.reason is not None
    assert "The specified espeak-ng voice does not exist" in engine.state.reason


async def test_an_espeak_that_makes_no_sound_is_not_ready(maya: Persona, tmp_path: Path) -> None:
    engine = voice(maya, command=script(tmp_path, "cat > /dev/null"))
    await engine.start()
    await engine.stop()
    assert engine.state == EngineState("open", "en-us+f3: espeak-ng makes no sound")


class Bell(logging.Handler):
    """Tell an event when something is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.rung = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        del record
        self.rung.set()


async def test_an_espeak_that_dies_is_observed_after_the_first_failure(
    maya: Persona, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dead = tmp_path / "dead"
    dies = f"[ -e {dead} ] && cat >&2 && exit 9"
    command = script(tmp_path, f'{dies}; exec /usr/bin/env espeak-ng "$@"')
    engine = voice(maya, command=command)
    await engine.start()
    assert engine.state == EngineState("ready")
    bell = Bell()
    with caplog.at_level(logging.INFO, basic.__name__):
        basic.logger.addHandler(bell)
        dead.touch()
        with pytest.raises(EngineError) as failed:
            await spoken(engine, request_for(maya, "a secret of mine"))
        await asyncio.wait_for(bell.rung.wait(), 10)
        basic.logger.removeHandler(bell)
    await engine.stop()
    said = f"en-us+f3: espeak-ng ended with exit code 9; {basic.SELF_TEST_TEXT}"
    assert engine.state == EngineState("open", said)
    # What it says of a request may quote the text.
    assert (failed.value.message, failed.value.hint) == ("espeak-ng ended with exit code 9", "")
