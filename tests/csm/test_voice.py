"""Reference clips: which can be used, and how one that is too long is shortened."""

from pathlib import Path

import numpy as np
import pytest
import torch

from service.csm import Clip, ClipError, Mimi, TextTokenizer, Turn, clip_rows, fit_turns, load
from service.csm.guards import Samples
from service.csm.voice import shorten

RATE = 24_000
SENTENCES = ("This is one sentence.", "This is one as well!", "And is this the last one?")


def speech(seconds: float) -> Samples:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)


def hush(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), dtype=np.float32)


def told(pause: float = 0.3) -> Clip:
    """Three sentences of 3 s, with pauses between."""
    parts = [speech(3), hush(pause), speech(3), hush(pause), speech(3)]
    return Clip(np.concatenate(parts), " ".join(SENTENCES))


@pytest.fixture(scope="module")
def tokenizer(tiny_folder: Path) -> TextTokenizer:
    return TextTokenizer(tiny_folder / "tokenizer.json")


@pytest.fixture(scope="module")
def codec(tiny_folder: Path) -> Mimi:
    return load(tiny_folder).codec


@pytest.mark.parametrize(
    ("clip", "why"),
    [
        (Clip(speech(3), "  "), "no transcript"),
        (Clip(speech(0.5), "Short."), r"0\.50 s; give at least 1 s"),
        (Clip(hush(0), "Empty."), r"0\.00 s"),
        (Clip(hush(3), "Hush."), "nothing can be heard"),
        (Clip(np.full(RATE * 2, np.nan, dtype=np.float32), "What."), "not finite"),
    ],
)
def test_a_clip_that_would_spoil_the_voice_is_refused(clip: Clip, why: str) -> None:
    with pytest.raises(ClipError, match=why):
        clip.check()


def test_a_clip_is_written_as_transcript_frames_and_an_end(
    codec: Mimi, tokenizer: TextTokenizer
) -> None:
    clip = told()
    rows = clip_rows(codec, tokenizer, clip, speaker=0, codebooks=32, rows=2_000)
    text = len(tokenizer.encode(0, clip.transcript))
    assert len(rows) == text + clip.frames + 1
    assert not rows.tokens[-1].any()


def test_a_clip_that_fits_is_left_alone(tokenizer: TextTokenizer) -> None:
    clip = told()
    assert shorten(clip, tokenizer, speaker=0, rows=2_000) is clip


@pytest.mark.parametrize(("rows", "kept"), [(170, 2), (100, 1)])
def test_a_long_clip_is_cut_with_its_transcript_in_the_pause_after_a_sentence(
    tokenizer: TextTokenizer, rows: int, kept: int
) -> None:
    clip = shorten(told(), tokenizer, speaker=0, rows=rows)
    assert clip.transcript == " ".join(SENTENCES[:kept])
    # The cut lies within the pause: 3.0 to 3.3 s, or 6.3 to 6.6 s.
    start = 3 * kept + 0.3 * (kept - 1)
    assert start <= len(clip.samples) / RATE <= start + 0.3
    assert len(tokenizer.encode(0, clip.transcript)) + clip.frames + 1 <= rows


@pytest.mark.parametrize(
    "clip",
    [told(pause=0), Clip(told().samples, "no sentence ends anywhere in here " * 2)],
    ids=["no pause", "no sentence end"],
)
def test_a_long_clip_without_a_safe_place_to_cut_is_refused_with_numbers(
    tokenizer: TextTokenizer, clip: Clip
) -> None:
    with pytest.raises(ClipError, match=rf"{clip.frames} frames .* 170 are there"):
        shorten(clip, tokenizer, speaker=0, rows=170)


def test_ten_minutes_are_shortened_or_refused_quickly(tokenizer: TextTokenizer) -> None:
    minute = told()
    clip = Clip(np.tile(minute.samples, 64), " ".join([minute.transcript] * 64))
    short = shorten(clip, tokenizer, speaker=0, rows=1_400)
    assert len(tokenizer.encode(0, short.transcript)) + short.frames + 1 <= 1_400


def test_the_latest_turns_that_fit_are_read(tokenizer: TextTokenizer) -> None:
    codes = torch.zeros(32, 10, dtype=torch.int64)
    turns = [Turn(0, f"Turn {number}", codes) for number in range(4)]
    one = len(fit_turns(tokenizer, turns[:1], codebooks=32, rows=1_000))
    assert len(fit_turns(tokenizer, turns, codebooks=32, rows=1_000)) == 4 * one
    kept = fit_turns(tokenizer, turns, codebooks=32, rows=2 * one + 3)
    latest = fit_turns(tokenizer, turns[2:], codebooks=32, rows=1_000)
    assert torch.equal(kept.tokens, latest.tokens)
    assert len(fit_turns(tokenizer, turns, codebooks=32, rows=one - 1)) == 0
