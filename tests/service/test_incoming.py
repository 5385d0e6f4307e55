import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import numpy as np
import pytest

from service.audio import SAMPLE_RATE, Samples, silence
from service.engines.incoming import LEAST_BLOCK, Incoming, blocks_of
from service.engines.wire import retry_after_of
from service.errors import RungError
from tests.checks.fake_service import spoken, streamed, wave_file
from tests.service.clouds import encoded, mp3, nan_wav, speech, wav

pytestmark = pytest.mark.anyio

SECONDS = 2.0


def decoded(
    content: bytes,
    piece: int = 1 << 20,
    *,
    media_type: str = "audio/wav",
    raw_rate: int | None = None,
    longest: float = 30,
) -> Samples:
    incoming = Incoming(media_type, longest=longest, raw_rate=raw_rate)
    pieces = [content[at : at + piece] for at in range(0, len(content), piece)]
    return np.concatenate([silence(0), *map(incoming.feed, pieces), incoming.finish()])


def reference() -> Samples:
    return np.frombuffer(speech(SECONDS), dtype="<i2").astype(np.float32) / np.float32(2**15)


def stereo_floats() -> bytes:
    """Give the reference as a WAV of two 32-bit float channels, with a chunk before its form."""
    data = np.repeat(reference(), 2).astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, 2, SAMPLE_RATE, SAMPLE_RATE * 8, 8, 32)
    chunks = b"WAVE" + b"LIST" + struct.pack("<I", 3) + b"abc\0"
    chunks += b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    "content",
    [wav(SECONDS), b"".join(streamed(wav(SECONDS))), stereo_floats()],
    ids=["whole", "streamed", "stereo floats"],
)
def test_a_wav_is_read_in_whatever_pieces_it_comes(content: bytes, piece: int) -> None:
    np.testing.assert_allclose(decoded(content, piece), reference(), atol=1e-6)


@pytest.mark.parametrize("codec", ["pcm_s24le", "pcm_u8", "pcm_mulaw", "pcm_s32le", "pcm_f32le"])
def test_a_wav_of_other_samples_is_read_too(codec: str) -> None:
    audio = decoded(encoded("wav", codec))
    np.testing.assert_allclose(audio, reference(), atol=0.03)


@pytest.mark.parametrize("piece", [1, 999, 1 << 20])
def test_samples_without_a_header_are_read_at_the_rate_that_was_asked_for(piece: int) -> None:
    audio = decoded(speech(SECONDS), piece, media_type="audio/pcm", raw_rate=SAMPLE_RATE)
    np.testing.assert_array_equal(audio, reference())


def test_another_rate_becomes_the_rate_of_the_house() -> None:
    audio = decoded(wave_file(spoken(16_000, seconds=SECONDS), 16_000))
    assert audio.size == pytest.approx(SECONDS * SAMPLE_RATE, abs=50)


def test_mp3_is_heard_while_it_comes() -> None:
    content = mp3()
    incoming = Incoming("audio/mpeg", longest=30)
    half = incoming.feed(content[: len(content) // 2])
    assert half.size > SECONDS * SAMPLE_RATE / 4
    rest = [incoming.feed(content[len(content) // 2 :]), incoming.finish()]
    assert half.size + sum(block.size for block in rest) == pytest.approx(
        SECONDS * SAMPLE_RATE, rel=0.06
    )


BAD: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("audio/wav", b"", "empty"),
    "no samples": ("audio/wav", wave_file(np.zeros(0, dtype=np.int16), 24_000), "empty"),
    "half a header": ("audio/wav", wav()[:20], "truncated"),
    "half a WAV": ("audio/wav", wav()[:5_000], "truncated"),
    "half a sample": ("audio/pcm", speech()[:-1], "truncated"),
    "not numbers": ("audio/wav", nan_wav(), "not_finite"),
    "half a FLAC header": ("audio/flac", encoded("flac", "flac")[:40], "unreadable"),
    "impossible form": ("audio/wav", wave_file(spoken(8_000), 1, channels=1), "unreadable"),
    "endless header": ("audio/wav", b"RIFF____WAVEjunk" + b"\xff" * 100_000, "unreadable"),
    "playlist": ("audio/wav", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "not_audio"),
    "a word": ("", b"Mock Sesame", "not_audio"),
    "JSON": ("application/octet-stream", '{"wörter":"ein Text über Töne"}'.encode(), "not_audio"),
    "JSON by name": ("application/problem+json", wav(), "not_audio"),
}


@pytest.mark.parametrize(("media_type", "content", "outcome"), [*BAD.values()], ids=[*BAD])
def test_what_is_no_whole_audio_is_refused(media_type: str, content: bytes, outcome: str) -> None:
    raw_rate = SAMPLE_RATE if media_type == "audio/pcm" else None
    with pytest.raises(RungError) as caught:
        decoded(content, 1_000, media_type=media_type, raw_rate=raw_rate)
    assert caught.value.outcome == outcome


@pytest.mark.parametrize(
    "content", [wav(), encoded("flac", "flac"), mp3()], ids=["wav", "flac", "mp3"]
)
def test_more_than_the_longest_is_refused(content: bytes) -> None:
    with pytest.raises(RungError) as caught:
        decoded(content, longest=1, media_type="application/octet-stream")
    assert caught.value.outcome == "too_long"


async def test_a_drip_of_bytes_gives_no_block_until_there_is_something_to_hear() -> None:
    async def drip() -> AsyncIterator[bytes]:
        content = speech(0.1)
        for at in range(0, len(content), 10):
            yield content[at : at + 10]

    incoming = Incoming("audio/pcm", longest=9, raw_rate=SAMPLE_RATE)
    sizes = [block.size async for block in blocks_of(drip(), incoming)]
    assert sum(sizes) == SAMPLE_RATE // 10
    assert min(sizes[:-1]) >= LEAST_BLOCK


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7), ("0", 0), ("999999999", 86_400), ("-1", None), ("soon", None), ("", None)],
)
def test_a_time_in_seconds_is_read(said: str, seconds: float | None) -> None:
    assert retry_after_of(httpx.Headers({"Retry-After": said})) == seconds


@pytest.mark.parametrize(("ahead", "seconds"), [(60, 60), (-60, 0)])
def test_a_time_as_a_date_is_read(ahead: int, seconds: float) -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=ahead), usegmt=True)
    assert retry_after_of(httpx.Headers({"Retry-After": at})) == pytest.approx(seconds, abs=5)
