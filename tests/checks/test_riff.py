import struct

import numpy as np
import pytest

from checks.riff import WaveError, read_streamed_wave, read_wave
from tests.checks.fake_service import spoken, streamed, wave_file

RATE = 8000
GOOD = wave_file(spoken(RATE), RATE)


def _riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


FORMAT = _chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16))
DATA = _chunk(b"data", bytes(100))


def test_samples_rate_and_length_are_read() -> None:
    wave = read_wave(GOOD)
    assert (wave.rate, wave.seconds) == (RATE, 2.0)
    np.testing.assert_array_equal(wave.samples, spoken(RATE))


def test_other_chunks_of_even_and_odd_length_are_skipped() -> None:
    body = _riff(FORMAT, _chunk(b"LIST", b"odd"), DATA, _chunk(b"id3 ", b"even"))
    assert len(read_wave(body).samples) == 50


def test_the_extensible_form_of_pcm_is_read() -> None:
    guid = bytes.fromhex("0100000000001000800000aa00389b71")
    form = struct.pack("<HHIIHHHHI", 0xFFFE, 1, RATE, 2 * RATE, 2, 16, 22, 16, 4) + guid
    assert read_wave(_riff(_chunk(b"fmt ", form), DATA)).rate == RATE


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "no RIFF/WAVE", id="nothing"),
        pytest.param(b"RIFF", "no RIFF/WAVE", id="only a mark"),
        pytest.param(GOOD[:-2], "promises", id="truncated"),
        pytest.param(GOOD + b"xx", "promises", id="trailing bytes"),
        pytest.param(GOOD[:4] + b"\xff" * 4 + GOOD[8:], "promises 4294967303", id="streamed size"),
        pytest.param(
            _riff(FORMAT, b"data" + struct.pack("<I", 2**32 - 1) + bytes(100)),
            "chunk b'data' promises",
            id="streamed data size",
        ),
        pytest.param(_riff(FORMAT), "is missing", id="no data"),
        pytest.param(_riff(DATA), "is missing", id="no form"),
        pytest.param(_riff(FORMAT, DATA, b"end"), "3 bytes follow", id="half a chunk"),
        pytest.param(_riff(FORMAT, _chunk(b"data", bytes(3))), "within a sample", id="half"),
        pytest.param(_riff(_chunk(b"fmt ", bytes(4)), DATA), "4 bytes", id="short form"),
        pytest.param(
            _riff(_chunk(b"fmt ", struct.pack("<HHIIHH", 3, 1, RATE, 4 * RATE, 4, 32)), DATA),
            "format 3",
            id="float",
        ),
        pytest.param(
            _riff(_chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, RATE, RATE, 2, 16)), DATA),
            "contradicts itself",
            id="a wrong byte rate",
        ),
        pytest.param(
            _riff(_chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 0, 0, 2, 16)), DATA),
            "contradicts itself",
            id="no rate",
        ),
    ],
)
def test_a_file_that_is_not_whole_pcm_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(WaveError, match=reason):
        read_wave(body)


def test_a_stream_of_unknown_size_is_read_to_its_end() -> None:
    head, data = streamed(GOOD)
    audio = read_streamed_wave(head + data)
    assert (audio.start, audio.wave.rate) == (44, RATE)
    np.testing.assert_array_equal(audio.wave.samples, spoken(RATE))


def test_a_stream_of_known_size_ends_with_its_data() -> None:
    body = _riff(FORMAT, _chunk(b"LIST", b"odd"), DATA, _chunk(b"id3 ", b"even"))
    audio = read_streamed_wave(body)
    assert (audio.start, len(audio.wave.samples)) == (56, 50)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"ID3\x04", "no RIFF/WAVE", id="mp3"),
        pytest.param(GOOD[:-2], "promises", id="truncated"),
        pytest.param(_riff(FORMAT), "is missing", id="no data"),
        pytest.param(_riff(DATA, FORMAT), "is missing", id="form after data"),
        pytest.param(b"".join(streamed(GOOD))[:-1], "within a sample", id="half a sample"),
    ],
)
def test_a_stream_of_another_form_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(WaveError, match=reason):
        read_streamed_wave(body)
