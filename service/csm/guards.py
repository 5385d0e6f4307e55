"""Guards against what CSM is known for: silence that does not end, and frames that go in circles.

They hear samples and see codes; they know neither model nor text.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["LONGEST_SILENCE", "Trimmer", "goes_in_circles"]

Samples = npt.NDArray[np.float32]  # [samples], mono, 24 kHz, full scale is ±1

SAMPLE_RATE = 24_000  # Hz, the codec's
WINDOW = 240  # samples, 10 ms: loudness is judged over one
AUDIBLE = 10 ** (-50 / 20)  # root mean square of a window: -50 dBFS, under a whisper
LEAD_IN = 6 * WINDOW  # kept before the first audible window: the onset of a soft consonant
TAIL = 12 * WINDOW  # kept after the last: a room's answer
RISE = 120  # samples, 5 ms, over which a trimmed beginning fades in
FALL = 2 * WINDOW  # and an end fades out; so much is always held back
LONGEST_SILENCE = 2.0
"""Seconds of silence after which an utterance is taken to have ended."""

LONGEST_PERIOD = 6  # frames
CIRCLING = 30  # frames, 2.4 s, that repeat with one period


class Trimmer:
    """Cuts silence from both ends of one utterance while it streams, and takes its edges to zero.

    Silence inside is kept. What may turn out to be the end is held back until it is not.
    """

    def __init__(self) -> None:
        self._held: Samples = np.zeros(0, dtype=np.float32)
        self._begun = False
        self._quiet = 0  # windows at the end of what is held
        self.released = 0
        """Samples given out so far."""

    @property
    def heard(self) -> bool:
        """Whether anything audible came yet."""
        return self._begun

    @property
    def silent_seconds(self) -> float:
        """For how long nothing audible has come."""
        return self._quiet * WINDOW / SAMPLE_RATE

    def push(self, block: Samples) -> Samples:
        """Take a block `[samples]`, a multiple of 10 ms; give what is certain to be spoken."""
        audible = np.flatnonzero(_loudness(block) >= AUDIBLE)
        windows = len(block) // WINDOW
        if not len(audible):
            self._quiet += windows
            self._held = np.concatenate((self._held, block))
            if not self._begun:
                self._held = self._held[-LEAD_IN:]
            return self._release(0)
        self._quiet = windows - 1 - int(audible[-1])
        if self._begun:
            self._held = np.concatenate((self._held, block))
        else:
            self._begin(block, int(audible[0]) * WINDOW)
        return self._release(len(self._held) - self._quiet * WINDOW - FALL)

    def finish(self) -> Samples:
        """Give the rest, faded out; nothing if nothing was ever audible."""
        if not self._begun:
            return self._release(0)
        end = len(self._held) - self._quiet * WINDOW + TAIL
        self._held = self._held[: max(end, 0)]
        fall = min(FALL, len(self._held))
        self._held[len(self._held) - fall :] *= np.linspace(1, 0, fall, dtype=np.float32)
        return self._release(len(self._held))

    def _begin(self, block: Samples, onset: int) -> None:
        before = np.concatenate((self._held, block[:onset]))[-LEAD_IN:]
        self._held = np.concatenate((before, block[onset:]))
        rise = min(RISE, len(self._held))
        self._held[:rise] *= np.linspace(0, 1, rise, dtype=np.float32)
        self._begun = True

    def _release(self, samples: int) -> Samples:
        samples = max(samples, 0)
        given, self._held = self._held[:samples], self._held[samples:]
        self.released += samples
        return given


def goes_in_circles(codes: Sequence[int]) -> bool:
    """Tell whether the last frames repeat with a short period.

    + codes: codebook 0 of each frame so far: what is said, without how it sounds.
    """
    if len(codes) < CIRCLING:
        return False
    last = codes[-CIRCLING:]
    return any(last[period:] == last[:-period] for period in range(1, LONGEST_PERIOD + 1))


def _loudness(block: Samples) -> npt.NDArray[np.float32]:
    """Give the root mean square of each window: `[samples / WINDOW]`."""
    windows = block[: len(block) // WINDOW * WINDOW].reshape(-1, WINDOW)
    loudness: npt.NDArray[np.float32] = np.sqrt(np.mean(np.square(windows), axis=1))
    return loudness
