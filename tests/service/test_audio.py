import io
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from service.audio import (
    SAMPLE_RATE,
    SAMPLE_RATES,
    Converter,
    Samples,
    check_block,
    is_silent,
    read_audio,
    silence,
    to_pcm16,
    wav_header,
)
from service.errors import AudioError
from tests.service.rungs import tone


def convert(samples: Samples, converter: Converter, block: int = 1_000) -> Samples:
    starts = range(0, samples.size, block)
    blocks = [converter.convert(samples[start : start + block]) for start in starts]
    return np.concatenate([*blocks, converter.flush()])


def loudest_frequency(samples: Samples, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(np.argmax(spectrum) * rate / samples.size)


@pytest.mark.parametrize("rate", SAMPLE_RATES)
def test_resampling_keeps_length_and_pitch(rate: int) -> None:
    converted = convert(tone(2), Converter(SAMPLE_RATE, rate))
    assert converted.size == pytest.approx(2 * rate, abs=2)
    assert loudest_frequency(converted, rate) == pytest.approx(440, abs=1)


@pytest.mark.parametrize("speed", [0.25, 0.5, 0.9, 1.0001, 1.5, 2, 3, 4])
def test_tempo_changes_length_and_keeps_pitch(speed: float) -> None:
    converted = convert(tone(4), Converter(SAMPLE_RATE, SAMPLE_RATE, speed))
    assert converted.size == pytest.approx(4 * SAMPLE_RATE / speed, rel=0.03)
    assert loudest_frequency(converted, SAMPLE_RATE) == pytest.approx(440, abs=3)


def test_blocks_join_without_a_seam() -> None:
    whole = convert(tone(1), Converter(SAMPLE_RATE, 16_000), block=SAMPLE_RATE)
    pieces = convert(tone(1), Converter(SAMPLE_RATE, 16_000), block=77)
    np.testing.assert_allclose(pieces, whole, atol=1e-6)


def test_audio_that_needs_no_change_is_left_alone() -> None:
    np.testing.assert_array_equal(convert(tone(), Converter(SAMPLE_RATE, SAMPLE_RATE)), tone())


def test_what_overshoots_full_scale_is_clipped() -> None:
    block = np.array([0, 1, -1, 1.5, -1.5], dtype=np.float32)
    assert np.frombuffer(to_pcm16(block), "<i2").tolist() == [0, 32767, -32767, 32767, -32767]


def test_a_wav_tells_its_true_form_and_size() -> None:
    pcm = to_pcm16(tone(0.5))
    with wave.open(io.BytesIO(wav_header(len(pcm), 24_000) + pcm)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
        assert file.getnframes() == 12_000
        assert file.readframes(12_001) == pcm


@pytest.mark.parametrize(
    ("block", "outcome"),
    [
        (np.array([0, np.nan], dtype=np.float32), "not_finite"),
        (np.array([0, np.inf], dtype=np.float32), "not_finite"),
        (np.array([0, 20], dtype=np.float32), "implausible"),
        (np.zeros((2, 10), dtype=np.float32), "implausible"),
        (np.zeros(10, dtype=np.float64), "implausible"),
    ],
)
def test_what_is_no_audio_is_rejected(block: npt.NDArray[np.float32], outcome: str) -> None:
    with pytest.raises(AudioError) as rejected:
        check_block(block)
    assert rejected.value.outcome == outcome


@pytest.mark.parametrize("block", [tone(), silence(0.1), silence(0)])
def test_good_blocks_pass(block: Samples) -> None:
    check_block(block)


def test_a_tone_is_not_silent() -> None:
    assert not is_silent(tone())


@pytest.mark.parametrize("block", [silence(0), silence(1), silence(1) + np.float32(0.7)])
def test_nothing_zeros_and_a_constant_offset_are_silent(block: Samples) -> None:
    assert is_silent(block)


def wav(samples: Samples, rate: int, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(to_pcm16(np.repeat(samples, channels)))
    return file.getvalue()


@pytest.mark.parametrize(("rate", "channels"), [(24_000, 1), (8_000, 1), (44_100, 2), (48_000, 6)])
def test_a_recording_of_any_form_becomes_mono_at_our_rate(rate: int, channels: int) -> None:
    time = np.arange(rate) / rate
    recorded = (0.25 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    samples = read_audio(io.BytesIO(wav(recorded, rate, channels)), longest=5)
    assert samples.ndim == 1
    assert samples.size == pytest.approx(SAMPLE_RATE, abs=64)
    assert loudest_frequency(samples, SAMPLE_RATE) == pytest.approx(440, abs=2)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no audio that can be decoded"),
        (b"RIFF nonsense", "no audio that can be decoded"),
        (wav(silence(2), 24_000), "longer than 1 s"),
    ],
)
def test_a_recording_that_cannot_be_used_says_why(content: bytes, why: str) -> None:
    with pytest.raises(AudioError, match=why):
        read_audio(io.BytesIO(content), longest=1)


def test_a_recording_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="No such file"):
        read_audio(tmp_path / "gone.wav", longest=1)


def test_an_empty_recording_has_no_samples() -> None:
    assert read_audio(io.BytesIO(wav(silence(0), 24_000)), longest=1).size == 0
