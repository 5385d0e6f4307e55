"""The one internal audio form, float32 mono PCM at 24 kHz, and every way in, out and through it.

It knows nothing of who spoke or of who asked.
"""

import math
import struct
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import av.filter
import numpy as np
import numpy.typing as npt

from service.errors import AudioError

__all__ = [
    "SAMPLE_RATE",
    "SAMPLE_RATES",
    "Converter",
    "Samples",
    "check_block",
    "is_silent",
    "read_audio",
    "silence",
    "to_pcm16",
    "wav_header",
]

SAMPLE_RATE = 24_000  # Hz, between every rung and the encoder; also the rate of the Mimi codec
SAMPLE_RATES = (8_000, 16_000, 22_050, 24_000, 44_100, 48_000)  # Hz, of an answer

Samples = npt.NDArray[np.float32]  # [samples], mono, full scale is ±1

SILENT_BELOW = 2e-3  # peak to peak: -60 dBFS, far under a whisper and over dither
UNKNOWN_SIZE = 0xFFFF_FFFF  # bytes, in a RIFF header
PLAUSIBLE_PEAK = 2.0  # twice full scale: resamplers overshoot a little, broken decoders a lot


class Converter:
    """Change rate and tempo of a stream, block by block; pitch is kept.

    + from_rate, to_rate: Hz
    + speed: 0.25 to 4; 2 is twice as fast
    """

    def __init__(self, from_rate: int, to_rate: int, speed: float = 1.0) -> None:
        self._rate = from_rate
        self._position = 0
        self._graph = (
            None if from_rate == to_rate and speed == 1 else _graph(from_rate, to_rate, speed)
        )

    def convert(self, block: Samples) -> Samples:
        """Take a block [samples] at `from_rate`; give what is ready [samples] at `to_rate`."""
        if self._graph is None or not block.size:
            return block
        frame = av.AudioFrame.from_ndarray(block[np.newaxis, :], format="flt", layout="mono")
        frame.sample_rate = self._rate
        frame.time_base = Fraction(1, self._rate)
        frame.pts = self._position
        self._position += block.size
        self._graph.push(frame)
        return _pull(self._graph)

    def flush(self) -> Samples:
        """Give what the filters still hold back. Nothing may be converted after it."""
        if self._graph is None:
            return silence(0)
        self._graph.push(None)
        return _pull(self._graph)


def _graph(from_rate: int, to_rate: int, speed: float) -> av.filter.Graph:
    graph = av.filter.Graph()
    chain = [graph.add_abuffer(sample_rate=from_rate, format="flt", layout="mono")]
    chain += [graph.add("atempo", f"{factor:.6f}") for factor in _tempo_factors(speed)]
    form = f"sample_fmts=flt:sample_rates={to_rate}:channel_layouts=mono"
    chain += [graph.add("aformat", form), graph.add("abuffersink")]
    graph.link_nodes(*chain).configure()
    return graph


def _tempo_factors(speed: float) -> list[float]:
    """Split a tempo into equal steps of 0.5 to 2, the range in which atempo drops no samples."""
    steps = math.ceil(abs(math.log2(speed)))
    return [speed ** (1 / steps) for _ in range(steps)]


def _pull(graph: av.filter.Graph) -> Samples:
    pulled = [silence(0)]
    while True:
        try:
            frame = graph.pull()
        except (BlockingIOError, EOFError):
            return np.concatenate(pulled)
        pulled.append(frame.to_ndarray()[0])


def read_audio(source: Path | BinaryIO, *, longest: float) -> Samples:
    """Decode a recording of any form that FFmpeg reads: `[samples]`, mono, 24 kHz.

    + longest: seconds; a longer one is not read to its end

    Raises AudioError that says why it cannot be used.
    """
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    blocks: list[Samples] = []
    left = round(longest * SAMPLE_RATE)
    try:
        # A path is opened here, so that it is never taken for a URL.
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
            with av.open(file, mode="r") as container:
                for frame in container.decode(audio=0):
                    blocks += [part.to_ndarray()[0] for part in resampler.resample(frame)]
                    left -= blocks[-1].size if blocks else 0
                    if left < 0:
                        raise AudioError(f"it is longer than {longest:g} s", "too_long")
            blocks += [part.to_ndarray()[0] for part in resampler.resample(None)]
    except (av.FFmpegError, IndexError) as error:
        raise AudioError("it holds no audio that can be decoded", "unreadable") from error
    except OSError as error:
        raise AudioError(f"it cannot be read: {error.strerror}", "unreadable") from error
    return np.concatenate([silence(0), *blocks])


def silence(seconds: float) -> Samples:
    """Give `seconds` of digital silence."""
    return np.zeros(round(seconds * SAMPLE_RATE), dtype=np.float32)


def check_block(block: Samples) -> None:
    """Raise AudioError unless a block is finite mono float32 within a plausible range."""
    if block.ndim != 1 or block.dtype != np.float32:
        raise AudioError(f"a block of {block.dtype} {block.shape}", "implausible")
    if not np.isfinite(block).all():
        raise AudioError("a block with NaN or infinite samples", "not_finite")
    peak = float(np.abs(block).max(initial=0))
    if peak > PLAUSIBLE_PEAK:
        raise AudioError(f"a block with a peak of {peak:.1f}", "implausible")


def is_silent(block: Samples) -> bool:
    """Tell whether nothing moves in a block: no samples, zeros, or a constant offset."""
    return block.size == 0 or float(np.ptp(block)) < SILENT_BELOW


def to_pcm16(block: Samples) -> bytes:
    """Give 16-bit little-endian PCM; what overshoots full scale is clipped, never wrapped."""
    return np.rint(np.clip(block, -1, 1) * 32767).astype("<i2").tobytes()


def wav_header(pcm_bytes: int | None, sample_rate: int) -> bytes:
    """Give the 44-byte RIFF header of 16-bit mono PCM (Microsoft RIFF WAVE, format tag 1).

    + pcm_bytes: size of what follows; None where it is not known yet: both sizes are then the
      largest there are, as ffmpeg writes them to a pipe
    """
    riff_bytes = UNKNOWN_SIZE if pcm_bytes is None else 36 + pcm_bytes
    data_bytes = UNKNOWN_SIZE if pcm_bytes is None else pcm_bytes
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sample_rate, sample_rate * 2, 2, 16)
    data = struct.pack("<4sI", b"data", data_bytes)
    return struct.pack("<4sI4s", b"RIFF", riff_bytes, b"WAVE") + form + data
