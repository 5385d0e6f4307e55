"""WAV files, read strictly: a size that is not true is an error. Knows nothing of speech."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_PCM = 1
_EXTENSIBLE = 0xFFFE
_PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
_FORMAT = struct.Struct("<HHIIHH")


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


def read_wave(body: bytes) -> Wave:
    """Return the audio of a WAV file (IBM and Microsoft, "Multimedia Programming Interface", 1991).

    Raises `WaveError` for another file, a size field that differs from the bytes that are there,
    and any form but 16-bit mono PCM.
    """
    if body[:4] != b"RIFF" or body[8:12] != b"WAVE":
        raise WaveError(f"no RIFF/WAVE file: it starts with {body[:12]!r}")
    (riff_size,) = struct.unpack_from("<I", body, 4)
    if riff_size + 8 != len(body):
        raise WaveError(f"the RIFF header promises {riff_size + 8} bytes, {len(body)} came")
    chunks = dict(_chunks(body))
    if b"fmt " not in chunks or b"data" not in chunks:
        raise WaveError("the chunk 'fmt ' or 'data' is missing")
    rate = _rate(chunks[b"fmt "])
    data = chunks[b"data"]
    if len(data) % 2:
        raise WaveError(f"the data ends within a sample: {len(data)} bytes")
    return Wave(rate, np.frombuffer(data, dtype="<i2").astype(np.int16))


def _chunks(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 12
    while position < len(body):
        head = body[position : position + 8]
        if len(head) < 8:
            raise WaveError(f"{len(head)} bytes follow the last chunk")
        name, size = head[:4], int.from_bytes(head[4:], "little")
        content = body[position + 8 : position + 8 + size]
        if len(content) < size:
            raise WaveError(f"chunk {name!r} promises {size} bytes, {len(content)} came")
        yield name, content
        position += 8 + size + size % 2


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
