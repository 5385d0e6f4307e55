import shutil
import subprocess

import numpy as np
import pytest

from checks.riff import Wave, read_wave
from checks.speech import PHRASE
from checks.waveform import measure
from tests.checks.fake_service import spoken

RATE = 16000


def test_the_level_is_that_of_the_spoken_part_alone() -> None:
    tone = np.full(RATE, 3277, dtype=np.int16)
    tone[::2] = -3277
    silence = np.zeros(3 * RATE, dtype=np.int16)
    measured = measure(Wave(RATE, np.concatenate([silence, tone, silence])))
    assert measured.level == pytest.approx(-20.0, abs=0.1)
    assert measured.span == pytest.approx(1.0, abs=0.05)


def test_an_offset_is_measured_and_is_no_level() -> None:
    measured = measure(Wave(RATE, np.full(RATE, 16384, dtype=np.int16)))
    assert measured.offset == 0.5
    assert measured.level == -100.0


def test_a_few_samples_at_full_scale_are_no_clipping() -> None:
    samples = spoken(RATE)
    samples[100:110] = 32767
    assert measure(Wave(RATE, samples)).problems() == []


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
@pytest.mark.parametrize("words_per_minute", [80, 175, 300])
def test_real_speech_has_no_problem(words_per_minute: int) -> None:
    command = ["espeak-ng", "-s", str(words_per_minute), "-w", "/dev/stdout", PHRASE]
    body = subprocess.run(command, check=True, capture_output=True).stdout
    sized = body[:4] + (len(body) - 8).to_bytes(4, "little") + body[8:40]
    sized += (len(body) - 44).to_bytes(4, "little") + body[44:]
    assert measure(read_wave(sized)).problems() == []
