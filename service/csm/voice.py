"""A persona as CSM needs it: a reference clip and its transcript, read once and kept as a prefix.

A base model has no voice of its own: the voice is what stands before the text. It knows neither
files nor names.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from service.csm.generate import FRAME_SECONDS, Prefix
from service.csm.mimi import Mimi
from service.csm.prompt import Rows, TextTokenizer, Turn, prompt_rows

__all__ = ["Clip", "ClipError", "Voice", "clip_rows", "encode_clip", "fit_turns", "shorten"]

SAMPLE_RATE = 24_000  # Hz, the codec's
FRAME_SAMPLES = 1_920
SHORTEST_CLIP = 1.0  # seconds: less has no voice to imitate
AUDIBLE_PEAK = 1e-3  # -60 dBFS

SENTENCE_END = re.compile(r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?=\s|$)")
PAUSE_SEARCH = 1.5  # seconds around the expected end of a sentence
PAUSE_WINDOW = 2_880  # samples, 120 ms: the gap between two sentences
PAUSE_DEPTH = 0.25  # of the clip's own loudness: what is quieter is a pause

Samples = npt.NDArray[np.float32]  # [samples], mono, 24 kHz


class ClipError(ValueError):
    """A reference clip or its transcript cannot be used. The message says why, with numbers."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What somebody said, and how it sounded.

    + samples: `[samples]` float32 at 24 kHz.
    + transcript: exactly what is said in them.
    """

    samples: Samples
    transcript: str

    def check(self) -> None:
        """Refuse what could only spoil a voice.

        Raises:
            ClipError: Clip or transcript are empty, too short, silent or not finite.
        """
        seconds = len(self.samples) / SAMPLE_RATE
        if not self.transcript.strip():
            raise ClipError(
                "the clip has no transcript; write down exactly what is said in it, or the"
                " model speaks the clip instead of the text"
            )
        if seconds < SHORTEST_CLIP:
            raise ClipError(
                f"the clip has {seconds:.2f} s; give at least {SHORTEST_CLIP:g} s of one speaker"
            )
        if not np.isfinite(self.samples).all():
            raise ClipError("the clip holds samples that are not finite")
        if float(np.abs(self.samples).max()) < AUDIBLE_PEAK:
            raise ClipError("nothing can be heard in the clip")

    @property
    def frames(self) -> int:
        """How many codec frames it takes."""
        return -(-len(self.samples) // FRAME_SAMPLES)


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker number and what the model keeps of the speaker's clip."""

    speaker: int
    prefix: Prefix


def clip_rows(
    codec: Mimi, tokenizer: TextTokenizer, clip: Clip, *, speaker: int, codebooks: int, rows: int
) -> Rows:
    """Write a clip as the model reads it, for `remember`.

    + rows: how many positions it may take; a longer clip is shortened.

    Raises:
        ClipError: The clip cannot be used, or not be shortened.
    """
    clip.check()
    clip = shorten(clip, tokenizer, speaker=speaker, rows=rows)
    turn = Turn(speaker, clip.transcript, encode_clip(codec, clip.samples))
    return prompt_rows(tokenizer, [turn], codebooks)


@torch.inference_mode()
def encode_clip(codec: Mimi, samples: Samples) -> Tensor:
    """Give the codes `[Q, T]` of samples `[samples]` at 24 kHz."""
    parameter = next(codec.parameters())
    audio = torch.from_numpy(np.ascontiguousarray(samples))[None, None].to(parameter.device)
    return codec.encode(audio)[0].cpu()


def shorten(clip: Clip, tokenizer: TextTokenizer, *, speaker: int, rows: int) -> Clip:
    """Cut clip and transcript together, at the end of a sentence, until both fit into `rows`.

    Where a sentence ends in the clip is judged by its share of the transcript, and then by the
    pause that is there. A clip that fits is given back as it is.

    Raises:
        ClipError: There is no sentence end with a pause that would make it fit.
    """

    def needed(text: str, frames: int) -> int:
        return len(tokenizer.encode(speaker, text)) + frames + 1  # and the row that ends the audio

    whole = needed(clip.transcript, clip.frames)
    if whole <= rows:
        return clip
    text = clip.transcript.strip()
    for end in reversed([match.end() for match in SENTENCE_END.finditer(text)]):
        expected = len(clip.samples) * end // len(text)
        if needed(text[:end], expected // FRAME_SAMPLES) > rows or end == len(text):
            continue
        cut = _pause_near(clip.samples, expected)
        if cut is not None and needed(text[:end], -(-cut // FRAME_SAMPLES)) <= rows:
            return Clip(clip.samples[:cut], text[:end])
    raise ClipError(
        f"the clip has {clip.frames} frames ({clip.frames * FRAME_SECONDS:.0f} s) and with its"
        f" transcript takes {whole} positions; {rows} are there, and no sentence ends in a pause"
        f" before that: give a clip of at most {rows * FRAME_SECONDS * 0.75:.0f} s, and its"
        " transcript"
    )


def _pause_near(samples: Samples, expected: int) -> int | None:
    """Give the middle of the quietest gap around a sample, if it is quiet enough for a pause."""
    reach = int(PAUSE_SEARCH * SAMPLE_RATE)
    start = max(0, expected - reach)
    around = samples[start : expected + reach]
    if len(around) <= PAUSE_WINDOW:
        return None
    energy = np.concatenate(([0.0], np.cumsum(np.square(around, dtype=np.float64))))
    loudness = np.sqrt((energy[PAUSE_WINDOW:] - energy[:-PAUSE_WINDOW]) / PAUSE_WINDOW)
    quietest = int(loudness.argmin())
    usual = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    if loudness[quietest] > PAUSE_DEPTH * usual:
        return None
    return start + quietest + PAUSE_WINDOW // 2


def fit_turns(
    tokenizer: TextTokenizer, turns: Sequence[Turn], *, codebooks: int, rows: int
) -> Rows:
    """Write the latest turns of a conversation that fit into `rows`; older ones are forgotten.

    A turn is kept or left as a whole, its text and its audio together.
    """
    kept = prompt_rows(tokenizer, [], codebooks)
    for turn in reversed(turns):
        written = prompt_rows(tokenizer, [turn], codebooks)
        if len(written) + len(kept) > rows:
            break
        kept = written + kept
    return kept
