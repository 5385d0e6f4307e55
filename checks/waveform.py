"""Tells from samples alone whether a recording can be speech. Knows neither words nor a voice."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from checks.riff import Wave

FRAME_SECONDS = 0.02
"""The usual analysis frame of speech: shorter than a phone, longer than a pitch period."""

ACTIVE_RANGE_DB = 30.0
"""A frame counts as spoken when it is at most this far under the loudest frame: the dynamic range
of the speech spectrum that carries intelligibility (ANSI S3.5-1997)."""

MIN_LEVEL_DBFS = -40.0
"""14 dB under the nominal active level of digital speech, -26 dBov (ITU-T G.191, P.56)."""

MAX_CLIPPED_SHARE = 0.001
"""Share of samples at full scale. Peak-normalised speech touches it in a few samples; hard clipping
holds whole tops of waves there."""

MAX_OFFSET = 0.05
"""Mean of the samples over full scale; speech has none but a converter's few thousandths."""

MIN_MODULATION_DB = 3.0
"""Standard deviation of the frame levels. Syllables and pauses move it by 6 dB and more; a steady
tone or hiss stays near 1 dB."""

_FULL_SCALE = 32768.0
_FLOOR_DB = -100.0


@dataclass(frozen=True)
class Measurement:
    """What was measured.

    + level: RMS over the spoken frames, without the offset, in dBFS
    + span: seconds from the first spoken frame to the end of the last
    + clipped: share of samples at full scale, 0 to 1
    + offset: mean over full scale, -1 to 1
    + modulation: standard deviation of the frame levels, at most 40 dB under the loudest, in dB
    """

    level: float
    span: float
    clipped: float
    offset: float
    modulation: float

    def problems(self) -> list[str]:
        """Return what makes it impossible as speech; empty when it can be speech."""
        if self.level < MIN_LEVEL_DBFS:
            found = [f"silent: {self.level:.0f} dBFS, expected {MIN_LEVEL_DBFS:.0f} or more"]
        elif self.modulation < MIN_MODULATION_DB:
            found = [f"a steady tone or noise: its level varies by {self.modulation:.1f} dB only"]
        else:
            found = []
        if self.clipped > MAX_CLIPPED_SHARE:
            found.append(f"clipped: {self.clipped:.1%} of the samples are at full scale")
        if abs(self.offset) > MAX_OFFSET:
            found.append(f"a constant offset of {self.offset:.0%} of full scale")
        return found


def measure(wave: Wave) -> Measurement:
    """Measure a recording of any length; an empty one counts as silence."""
    if not len(wave.samples):
        return Measurement(_FLOOR_DB, 0.0, 0.0, 0.0, 0.0)
    signal = wave.samples.astype(np.float64) / _FULL_SCALE
    offset = float(signal.mean())
    power = _frame_power(signal - offset, max(1, round(wave.rate * FRAME_SECONDS)))
    levels = _decibels(power)
    spoken = np.flatnonzero(levels >= levels.max() - ACTIVE_RANGE_DB)
    full_scale = np.abs(wave.samples.astype(np.int32)) >= np.iinfo(np.int16).max
    return Measurement(
        level=float(_decibels(power[spoken].mean())),
        span=float(spoken[-1] - spoken[0] + 1) * FRAME_SECONDS,
        clipped=float(full_scale.mean()),
        offset=offset,
        modulation=float(np.maximum(levels, levels.max() - 40.0).std()),
    )


def _frame_power(signal: NDArray[np.float64], frame: int) -> NDArray[np.float64]:
    """Return the mean power of each frame, [F]; the last one is filled up with silence."""
    padded = np.pad(signal, (0, -len(signal) % frame))
    power: NDArray[np.float64] = np.square(padded).reshape(-1, frame).mean(axis=1)
    return power


def _decibels(power: NDArray[np.float64]) -> NDArray[np.float64]:
    return 10.0 * np.log10(np.maximum(power, 10 ** (_FLOOR_DB / 10)))
