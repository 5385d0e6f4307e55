from pathlib import Path

import pytest

from service.errors import VoiceUnknownError
from service.voices import Personas, load_personas

# The names that Maya's clients use (contract, "Request fields"), and OpenAI's.
CALLED = (
    *("maya", "neutral", "warm", "mystic"),
    *("maya-oracle", "oracle", "guide", "maya-v1"),
    *("phoenix-bold", "river-gentle", "stone-steady", "wind-clear"),
    *("fire", "water", "earth", "air", "aether"),
    *("alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer"),
    *("verse", "marin", "cedar"),
)


def test_the_default_persona_comes_first(personas: Personas) -> None:
    assert list(personas) == ["maya", "mystic", "neutral", "warm"]


@pytest.mark.parametrize("name", CALLED)
def test_every_name_that_a_client_uses_is_a_persona(name: str, personas: Personas) -> None:
    assert personas.resolve(name).name in personas


def test_names_are_found_in_any_case_and_with_spaces_around(personas: Personas) -> None:
    assert personas.resolve(" Maya-Oracle ") is personas["maya"]


def test_an_unknown_name_is_refused_with_the_names_there_are(personas: Personas) -> None:
    with pytest.raises(VoiceUnknownError, match="'hal'") as refused:
        personas.resolve("hal")
    assert refused.value.hint == "voices are: maya, mystic, neutral, warm"


def test_two_personas_cannot_share_a_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(
            'description = "x"\naliases = ["both"]\n'
            '[basic]\nvoice = "en-us"\nwords_per_minute = 150\npitch = 50\n'
        )
    with pytest.raises(ValueError, match="both one and two claim the name both"):
        load_personas(tmp_path)


def test_no_two_personas_sound_alike_on_the_basic_voice(personas: Personas) -> None:
    assert len({persona.basic.voice for persona in personas.values()}) == len(personas)
