"""WAV files, read strictly: a size that is not true is an error, but for a stream's.

Knows nothing of speech.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PCM = 1
_EXTENSIBLE = 0xFFFE
_PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
_FORMAT = struct.Struct("<HHIIHH")
_UNKNOWN_SIZE = 0xFFFFFFFF  # of a stream, whose length was not known when it began


class WaveError(ValueError):
    """The bytes are no WAV file of 16-bit mono PCM, or one whose sizes are not true."""


@dataclass(frozen=True)
class Wave:
    """16-bit mono PCM: `samples` is int16 of shape [N], `rate` is in Hz."""

    rate: int
    samples: NDArray[np.int16]

    @property
    def seconds(self) -> float:
        """How long it plays."""
        return len(self.samples) / self.rate


@dataclass(frozen=True)
class StreamedWave:
    """Audio, and the place of its first sample in what came: `start` bytes before it."""

    wave: Wave
    start: int


def read_wave(body: bytes) -> Wave:
    """Return the audio of a WAV file (IBM and Microsoft, "Multimedia Programming Interface", 1991).

    Raises `WaveError` for another file, a size field that differs from the bytes that are there,
    and any form but 16-bit mono PCM.
    """
    _refuse_others(body)
    (riff_size,) = struct.unpack_from("<I", body, 4)
    if riff_size + 8 != len(body):
        raise WaveError(f"the RIFF header promises {riff_size + 8} bytes, {len(body)} came")
    chunks = {name: _content(body, name, start, size) for name, start, size in _chunks(body)}
    if b"fmt " not in chunks or b"data" not in chunks:
        raise WaveError("the chunk 'fmt ' or 'data' is missing")
    return _wave(_rate(chunks[b"fmt "]), chunks[b"data"])


def read_streamed_wave(body: bytes) -> StreamedWave:
    """Return the audio of a WAV file that may have been written before its length was known.

    A data chunk of the largest size there is then goes on to the end, as ffmpeg writes it to a
    pipe. Raises `WaveError` as `read_wave` does; the size of the whole is not looked at.
    """
    _refuse_others(body)
    rate = None
    for name, start, size in _chunks(body):
        if name == b"fmt ":
            rate = _rate(_content(body, name, start, size))
        if name == b"data" and rate is not None:
            streamed = size == _UNKNOWN_SIZE
            data = body[start:] if streamed else _content(body, name, start, size)
            return StreamedWave(_wave(rate, data), start)
    raise WaveError("the chunk 'fmt ' is missing, or 'data' after it")


def _refuse_others(body: bytes) -> None:
    if body[:4] != b"RIFF" or body[8:12] != b"WAVE":
        raise WaveError(f"no RIFF/WAVE file: it starts with {body[:12]!r}")


def _wave(rate: int, data: bytes) -> Wave:
    if len(data) % 2:
        raise WaveError(f"the data ends within a sample: {len(data)} bytes")
    return Wave(rate, np.frombuffer(data, dtype="<i2").astype(np.int16))


def _chunks(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name of each chunk, the place of its content and the size that it promises."""
    position = 12
    while position < len(body):
        head = body[position : position + 8]
        if len(head) < 8:
            raise WaveError(f"{len(head)} bytes follow the last chunk")
        name, size = head[:4], int.from_bytes(head[4:], "little")
        yield name, position + 8, size
        position += 8 + size + size % 2


def _content(body: bytes, name: bytes, start: int, size: int) -> bytes:
    content = body[start : start + size]
    if len(content) < size:
        raise WaveError(f"chunk {name!r} promises {size} bytes, {len(content)} came")
    return content


def _rate(fmt: bytes) -> int:
    if len(fmt) < _FORMAT.size:
        raise WaveError(f"the 'fmt ' chunk has {len(fmt)} bytes instead of at least 16")
    rate: int
    tag, channels, rate, byte_rate, block, bits = _FORMAT.unpack_from(fmt)
    if tag == _EXTENSIBLE and fmt[24:40] == _PCM_GUID:
        tag = _PCM
    if (tag, channels, bits) != (_PCM, 1, 16):
        raise WaveError(
            f"not 16-bit mono PCM: format {tag}, {channels} channel(s), {bits} bits a sample"
        )
    if rate == 0 or (byte_rate, block) != (2 * rate, 2):
        raise WaveError(
            f"the header contradicts itself: {rate} Hz, {byte_rate} bytes/s, {block}-byte blocks"
        )
    return rate
