"""How loud speech is, by ITU-R BS.1770-5, and making it louder or softer without clipping.

It knows nothing of who spoke.
"""

from fractions import Fraction

import av
import av.filter
import numpy as np

from service.audio import SAMPLE_RATE, Samples

__all__ = ["Meter", "amplify", "loudness_of"]

SHORTEST = 1.0  # seconds; what is gated in blocks of 0.4 s says little about less
ABSOLUTE_GATE = -70.0  # LUFS; the meter says so of silence
PIECE = 2_400  # samples; the filter handles its window's length faster than a whole recording
KNEE = 0.8  # of full scale; what would go beyond is bent towards full scale, not cut off

_INTEGRATED = "lavfi.r128.I"


class Meter:
    """Measures a stream block by block, with FFmpeg's `ebur128`."""

    def __init__(self) -> None:
        self._size = 0
        self._graph: av.filter.Graph | None = None
        self._measured = ABSOLUTE_GATE

    def hear(self, block: Samples) -> None:
        """Take the next block [samples] at 24 kHz."""
        if not block.size:
            return
        if self._graph is None:
            self._graph = _graph()
        frame = av.AudioFrame.from_ndarray(block[np.newaxis, :], format="flt", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        frame.time_base = Fraction(1, SAMPLE_RATE)
        frame.pts = self._size
        self._size += block.size
        self._graph.push(frame)
        while True:
            try:
                measured = self._graph.pull()
            except (BlockingIOError, EOFError):
                return
            self._measured = float(measured.metadata.get(_INTEGRATED, ABSOLUTE_GATE))

    @property
    def loudness(self) -> float | None:
        """Integrated loudness so far in LUFS; None of silence, and of less than a second."""
        heard = self._size >= SHORTEST * SAMPLE_RATE and self._measured > ABSOLUTE_GATE
        return self._measured if heard else None


def loudness_of(audio: Samples) -> float | None:
    """Give the integrated loudness of a whole recording [samples] at 24 kHz, as `Meter` does."""
    meter = Meter()
    for start in range(0, audio.size, PIECE):
        meter.hear(audio[start : start + PIECE])
    return meter.loudness


def amplify(block: Samples, decibels: float) -> Samples:
    """Give a block louder or softer; peaks beyond `KNEE` are bent, so that none clips."""
    if decibels == 0 or not block.size:
        return block
    louder = block * np.float32(10 ** (decibels / 20))
    over = np.abs(louder) > KNEE
    if decibels > 0 and over.any():
        bent = KNEE + (1 - KNEE) * np.tanh((np.abs(louder[over]) - KNEE) / (1 - KNEE))
        louder[over] = np.copysign(bent, louder[over])
    return louder


def _graph() -> av.filter.Graph:
    graph = av.filter.Graph()
    chain = (
        graph.add_abuffer(
            sample_rate=SAMPLE_RATE,
            format="flt",
            layout="mono",
            time_base=Fraction(1, SAMPLE_RATE),
        ),
        graph.add("ebur128", "metadata=1"),
        graph.add("abuffersink"),
    )
    graph.link_nodes(*chain).configure()
    return graph
