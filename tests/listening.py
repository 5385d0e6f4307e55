"""Can what is said be understood? A recogniser listens; it never saw the text."""

import difflib
import itertools
import random
import wave
from collections.abc import Callable
from io import BytesIO

from pocketsphinx import Decoder

SAMPLE_RATE = 16_000  # Hz, of the recogniser's English model
UNDERSTOOD = 0.8  # share of the words that must come back
PERSONAS = ("maya", "neutral", "warm", "mystic")

VERBS = ("open", "close", "find", "bring", "take")
COLOURS = ("red", "green", "blue", "yellow", "white", "black")
THINGS = ("door", "window", "book", "table", "lamp", "box")
PLACES = ("in the kitchen", "in the garden", "near the river", "on the mountain")

GRAMMAR = f"""#JSGF V1.0;
grammar errands;
public <errand> = ({" | ".join(VERBS)}) the ({" | ".join(COLOURS)}) ({" | ".join(THINGS)})
    ({" | ".join(PLACES)});
"""


def phrases(count: int) -> list[str]:
    """Return the same phrases on every run, out of the 720 that the grammar knows."""
    every = [
        f"{verb} the {colour} {thing} {place}"
        for verb, colour, thing, place in itertools.product(VERBS, COLOURS, THINGS, PLACES)
    ]
    return random.Random(2).sample(every, count)  # noqa: S311 (the same ones on every run)


class Recogniser:
    """pocketsphinx with its bundled English model and a small grammar."""

    def __init__(self) -> None:
        self._decoder = Decoder(samprate=SAMPLE_RATE, lm=None, loglevel="FATAL")
        self._decoder.add_jsgf_string("errands", GRAMMAR)
        self._decoder.activate_search("errands")

    def share_understood(self, speak: Callable[[str], bytes], count: int) -> float:
        """Return the share of words that come back.

        Args:
            speak: gives a WAV at ``SAMPLE_RATE`` for a phrase.
            count: how many phrases to listen to.
        """
        said = understood = 0
        for phrase in phrases(count):
            words = phrase.split()
            said += len(words)
            understood += _words_in_common(words, self._listen(speak(phrase)))
        return understood / said

    def _listen(self, wav: bytes) -> list[str]:
        with wave.open(BytesIO(wav)) as file:
            assert file.getframerate() == SAMPLE_RATE
            pcm = file.readframes(file.getnframes())
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr.split() if hypothesis else []


def _words_in_common(one: list[str], other: list[str]) -> int:
    blocks = difflib.SequenceMatcher(None, one, other).get_matching_blocks()
    return sum(block.size for block in blocks)
