"""Each persona of the basic voice is understood."""

import httpx
import pytest

from tests.listening import PERSONAS, SAMPLE_RATE, UNDERSTOOD, Recogniser

PHRASES = 12  # for each persona


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return Recogniser()


@pytest.mark.parametrize("persona", PERSONAS)
def test_a_recogniser_understands_the_basic_voice(
    persona: str, voice: httpx.Client, recogniser: Recogniser
) -> None:
    def speak(phrase: str) -> bytes:
        wanted = {"text": phrase, "voice": persona, "sample_rate": SAMPLE_RATE}
        return voice.post("/api/v1/generate", json=wanted).content

    assert recogniser.share_understood(speak, PHRASES) >= UNDERSTOOD
