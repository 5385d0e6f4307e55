"""The level of a voice stays when another rung takes over."""

from collections.abc import Mapping

import httpx
import numpy as np
import pytest

from service.app import create_app
from service.audio import SAMPLE_RATE, Samples
from service.engines.basic import BasicVoice
from service.engines.engine import EngineState, SpeechRequest
from service.engines.levels import MOST, UNHEARD
from service.loudness import KNEE, Meter, amplify, loudness_of
from service.settings import ServiceSettings
from service.text import segments
from service.voices import load_personas
from tests.service.rungs import Rung
from tests.service.serving import serving

TEXT = "The rain has stopped, and the garden smells of earth; shall we go out for a while?"
CLOSE = 0.5  # LU
STREAM = {"text": TEXT, "stream": True, "format": "pcm"}
WHOLE = {"text": TEXT, "format": "pcm"}


def speech(lufs: float, seconds: float = 4.0) -> Samples:
    """Give what has syllables and a loudness: noise that comes and goes four times a second."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise = np.random.default_rng(3).normal(0, 0.05, time.size)
    syllables = (noise * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * time))).astype(np.float32)
    level = loudness_of(np.tile(syllables, 4))
    assert level is not None
    return amplify(syllables, lufs - level)


def blocks(audio: Samples) -> list[Samples]:
    return np.array_split(audio, 50)


def ask(client: httpx.Client, request: Mapping[str, object]) -> float:
    """Have something said and give its loudness."""
    answer = client.post("/api/v1/generate", json=request)
    assert answer.status_code == 200
    samples = np.frombuffer(answer.content, "<i2").astype(np.float32)
    level = loudness_of((samples / np.float32(32768)).astype(np.float32))
    assert level is not None
    return level


def test_a_sine_has_the_loudness_that_the_recommendation_gives_it() -> None:
    """ITU-R BS.1770-5, Annex 1: 997 Hz at full scale in one channel is -3.01 LUFS."""
    time = np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE
    sine = np.sin(2 * np.pi * 997 * time).astype(np.float32)
    assert loudness_of(sine) == pytest.approx(-3.01, abs=0.05)


def test_blocks_are_measured_as_the_whole_is() -> None:
    audio, meter = speech(-20), Meter()
    for block in blocks(audio):
        meter.hear(block)
    assert meter.loudness == pytest.approx(loudness_of(audio), abs=0.05)


@pytest.mark.parametrize("audio", [speech(-20, 0.5), np.zeros(48_000, np.float32)])
def test_too_little_and_silence_have_no_loudness(audio: Samples) -> None:
    assert loudness_of(audio) is None


def test_what_is_made_louder_does_not_clip_and_quiet_parts_are_only_louder() -> None:
    louder = amplify(np.array([0.05, -0.3, 0.9, -1.0], np.float32), 12.0)
    assert np.abs(louder).max() <= 1
    assert louder[0] == pytest.approx(0.05 * 10 ** (12 / 20))
    assert np.abs(louder[1:]).min() > KNEE


@pytest.mark.parametrize("request_", [WHOLE, STREAM])
def test_who_stands_in_speaks_at_the_level_of_the_first(request_: Mapping[str, object]) -> None:
    first = Rung(*blocks(speech(-24)), name="csm")
    loud = Rung(*blocks(speech(-15)), name="elevenlabs")
    with serving(create_app(ServiceSettings(), [first, loud])) as client:
        assert ask(client, request_) == pytest.approx(-24, abs=CLOSE)
        first.fall_silent()
        ask(client, request_)
        assert ask(client, request_) == pytest.approx(-24, abs=CLOSE)


def test_an_answer_that_is_all_there_is_level_the_first_time() -> None:
    quiet = Rung(*blocks(speech(-33)), name="elevenlabs")
    silent = Rung(name="csm", state=EngineState("loading", "not yet"))
    with serving(create_app(ServiceSettings(), [silent, quiet])) as client:
        assert ask(client, WHOLE) == pytest.approx(UNHEARD["csm"], abs=CLOSE)


def test_the_first_rung_is_never_altered() -> None:
    off = Rung(name="csm", state=EngineState("off", "no model"))
    alone = Rung(*blocks(speech(-12)), name="basic")
    with serving(create_app(ServiceSettings(), [off, alone])) as client:
        for request in (WHOLE, STREAM, WHOLE):
            assert ask(client, request) == pytest.approx(-12, abs=CLOSE)


def test_what_is_too_far_off_is_brought_nearer_only() -> None:
    faint = Rung(*blocks(speech(-50)), name="elevenlabs")
    silent = Rung(name="csm", state=EngineState("loading", "not yet"))
    with serving(create_app(ServiceSettings(), [silent, faint])) as client:
        assert ask(client, WHOLE) == pytest.approx(-50 + MOST, abs=CLOSE)


@pytest.mark.anyio
async def test_the_basic_voice_is_as_loud_as_it_is_said_to_be() -> None:
    personas = load_personas(None)
    voice = BasicVoice(personas.values())
    spoken = voice.speak(SpeechRequest(segments(TEXT), personas["maya"]))
    level = loudness_of(np.concatenate([block async for block in spoken]))
    assert level == pytest.approx(UNHEARD["basic"], abs=2)
