"""Can what the service says be understood? A recogniser listens; it never saw the text."""

import difflib
import itertools
import random
import wave
from io import BytesIO

import httpx
import pytest
from pocketsphinx import Decoder

SAMPLE_RATE = 16_000  # Hz, of the recogniser's English model
UNDERSTOOD = 0.8  # share of the words that must come back
PHRASES = 12  # for each persona

VERBS = ("open", "close", "find", "bring", "take")
COLOURS = ("red", "green", "blue", "yellow", "white", "black")
THINGS = ("door", "window", "book", "table", "lamp", "box")
PLACES = ("in the kitchen", "in the garden", "near the river", "on the mountain")

GRAMMAR = f"""#JSGF V1.0;
grammar errands;
public <errand> = ({" | ".join(VERBS)}) the ({" | ".join(COLOURS)}) ({" | ".join(THINGS)})
    ({" | ".join(PLACES)});
"""


@pytest.fixture(scope="module")
def recogniser() -> Decoder:
    decoder = Decoder(samprate=SAMPLE_RATE, lm=None, loglevel="FATAL")
    decoder.add_jsgf_string("errands", GRAMMAR)
    decoder.activate_search("errands")
    return decoder


def phrases() -> list[str]:
    """Give the same phrases on every run, out of the 720 that the grammar knows."""
    every = [
        f"{verb} the {colour} {thing} {place}"
        for verb, colour, thing, place in itertools.product(VERBS, COLOURS, THINGS, PLACES)
    ]
    return random.Random(2).sample(every, PHRASES)  # noqa: S311


def recognised(wav: bytes, recogniser: Decoder) -> list[str]:
    with wave.open(BytesIO(wav)) as file:
        pcm = file.readframes(file.getnframes())
    recogniser.start_utt()
    recogniser.process_raw(pcm, full_utt=True)
    recogniser.end_utt()
    hypothesis = recogniser.hyp()
    return hypothesis.hypstr.split() if hypothesis else []


def words_in_common(one: list[str], other: list[str]) -> int:
    blocks = difflib.SequenceMatcher(None, one, other).get_matching_blocks()
    return sum(block.size for block in blocks)


@pytest.mark.parametrize("persona", ["maya", "neutral", "warm", "mystic"])
def test_a_recogniser_understands_the_basic_voice(
    persona: str, voice: httpx.Client, recogniser: Decoder
) -> None:
    said = understood = 0
    for phrase in phrases():
        answer = voice.post(
            "/api/v1/generate",
            json={"text": phrase, "voice": persona, "sample_rate": SAMPLE_RATE},
        )
        words = phrase.split()
        said += len(words)
        understood += words_in_common(words, recognised(answer.content, recogniser))
    assert understood / said >= UNDERSTOOD, f"{persona}: {understood} of {said} words"
