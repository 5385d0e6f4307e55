"""Every form of an answer, decoded again by FFmpeg: what was said is what is heard."""

import io
from collections.abc import Iterator
from typing import get_args

import av
import numpy as np
import pytest

from service.audio import Converter, Samples
from service.encoding import FORMATS, FormatName, encoder
from tests.service.rungs import tone
from tests.service.test_audio import convert, loudest_frequency

NAMES: tuple[FormatName, ...] = get_args(FormatName)
BARE = {"pcm": "s16le", "ulaw": "mulaw"}
"""What FFmpeg must be told of forms that say nothing of themselves."""

CODEC_DELAY = 2_200  # samples; what mp3 and aac put before and after the sound


def encoded(name: FormatName, rate: int, samples: Samples, *, streamed: bool) -> list[bytes]:
    encoding = encoder(name, rate, streamed=streamed)
    starts = range(0, samples.size, 1_920)
    pieces = [encoding.encode(samples[start : start + 1_920]) for start in starts]
    return [*pieces, encoding.finish()]


def decoded(name: FormatName, rate: int, content: bytes) -> Samples:
    told = {"sample_rate": str(rate), "ch_layout": "mono"} if name in BARE else {}
    resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
    with av.open(io.BytesIO(content), "r", format=BARE.get(name), options=told) as container:
        return np.concatenate([part.to_ndarray()[0] for part in _heard(container, resampler)])


def _heard(
    container: av.container.InputContainer, resampler: av.AudioResampler
) -> Iterator[av.AudioFrame]:
    for frame in container.decode(audio=0):
        yield from resampler.resample(frame)
    yield from resampler.resample(None)


def loudness(samples: Samples) -> float:
    """Give the root mean square of the middle; codecs ring where a sound begins and ends."""
    quarter = samples.size // 4
    return float(np.sqrt(np.mean(samples[quarter:-quarter] ** 2)))


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("name", "rate"), [(name, rate) for name in NAMES for rate in FORMATS[name].rates]
)
def test_what_goes_in_comes_out(name: FormatName, rate: int, streamed: bool) -> None:
    sound = convert(tone(1), Converter(24_000, rate))
    heard = decoded(name, rate, b"".join(encoded(name, rate, sound, streamed=streamed)))
    assert heard.size == pytest.approx(rate, abs=CODEC_DELAY)
    assert loudest_frequency(heard, rate) == pytest.approx(440, abs=2)
    assert loudness(heard) == pytest.approx(loudness(sound), rel=0.08)


@pytest.mark.parametrize("name", NAMES)
def test_a_streamed_form_begins_within_the_first_blocks(name: FormatName) -> None:
    pieces = encoded(name, 24_000, tone(1), streamed=True)
    assert any(pieces[:2])
    assert sum(map(bool, pieces[:-1])) > len(pieces) / 2


@pytest.mark.parametrize("name", ["mp3", "opus", "flac", "wav"])
def test_a_whole_form_says_how_long_it_is(name: FormatName) -> None:
    content = b"".join(encoded(name, 24_000, tone(1.5), streamed=False))
    with av.open(io.BytesIO(content), "r") as container:
        assert container.duration is not None
        assert container.duration / 1e6 == pytest.approx(1.5, abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_said_is_still_a_form_that_can_be_read(name: FormatName) -> None:
    for streamed in (True, False):
        encoding = encoder(name, 24_000, streamed=streamed)
        encoding.finish()


def test_a_rate_that_a_form_cannot_have_is_refused() -> None:
    with pytest.raises(ValueError, match="opus has no rate of 44100 Hz"):
        encoder("opus", 44_100, streamed=True)


def test_a_bit_rate_changes_the_size() -> None:
    sizes = []
    for bit_rate in (32_000, 128_000):
        encoding = encoder("mp3", 44_100, streamed=False, bit_rate=bit_rate)
        encoding.encode(convert(tone(2), Converter(24_000, 44_100)))
        sizes.append(len(encoding.finish()))
    assert sizes[1] > 3 * sizes[0]
