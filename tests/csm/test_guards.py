"""What is cut from an utterance, and what is not."""

import numpy as np
import pytest

from service.csm.guards import FALL, LEAD_IN, RISE, TAIL, Samples, Trimmer, goes_in_circles

RATE = 24_000
BLOCK = 1_920


def tone(seconds: float) -> Samples:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 200 * time)).astype(np.float32)


def hush(seconds: float) -> Samples:
    return np.zeros(round(seconds * RATE), dtype=np.float32)


def trimmed(audio: Samples, block: int = BLOCK) -> Samples:
    trimmer = Trimmer()
    parts = [trimmer.push(audio[at : at + block]) for at in range(0, len(audio), block)]
    return np.concatenate([*parts, trimmer.finish()])


def test_silence_is_cut_from_both_ends_and_a_little_of_it_kept() -> None:
    kept = trimmed(np.concatenate([hush(0.8), tone(0.8), hush(0.8)]))
    assert len(kept) == LEAD_IN + len(tone(0.8)) + TAIL


def test_silence_inside_is_kept() -> None:
    audio = np.concatenate([tone(0.4), hush(0.8), tone(0.4)])
    assert len(trimmed(audio)) == len(audio)


def test_what_is_not_an_edge_is_not_touched() -> None:
    audio = tone(0.8)
    np.testing.assert_array_equal(trimmed(audio)[RISE:-FALL], audio[RISE:-FALL])


def test_both_edges_go_to_zero() -> None:
    kept = trimmed(0.5 + tone(0.8))
    assert kept[0] == kept[-1] == 0


@pytest.mark.parametrize("block", [BLOCK, 2 * BLOCK, 5 * BLOCK])
def test_the_blocks_in_which_it_comes_change_nothing(block: int) -> None:
    audio = np.concatenate([hush(0.24), tone(0.56), hush(0.4), tone(0.4), hush(1.0)])
    np.testing.assert_array_equal(trimmed(audio, block), trimmed(audio, len(audio)))


def test_what_may_be_the_end_is_held_back_until_it_is_not() -> None:
    trimmer = Trimmer()
    trimmer.push(tone(0.4))
    assert trimmer.push(hush(0.8)).size <= FALL
    assert trimmer.push(tone(0.4)).size >= len(hush(0.8))


def test_how_long_it_has_been_silent_is_known() -> None:
    trimmer = Trimmer()
    trimmer.push(tone(0.4))
    trimmer.push(hush(0.8))
    assert trimmer.silent_seconds == pytest.approx(0.8, abs=0.02)
    trimmer.push(tone(0.4))
    assert trimmer.silent_seconds < 0.02


def test_of_silence_alone_nothing_is_left() -> None:
    assert trimmed(hush(2)).size == 0


def test_a_voice_under_a_whisper_is_silence() -> None:
    assert trimmed(tone(1) * 0.001).size == 0


@pytest.mark.parametrize("period", [1, 2, 5, 6])
def test_frames_that_repeat_go_in_circles(period: int) -> None:
    assert goes_in_circles([9, 8, 7, *(list(range(period)) * 40)])


def test_a_few_repeated_frames_do_not() -> None:
    assert not goes_in_circles([1, 2, 3] * 9)


def test_speech_does_not() -> None:
    assert not goes_in_circles(np.random.default_rng(0).integers(2048, size=400).tolist())


def test_a_circle_that_was_left_does_not() -> None:
    assert not goes_in_circles([1] * 60 + [2, 3])
