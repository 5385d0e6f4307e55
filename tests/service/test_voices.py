from pathlib import Path

import pytest

from service.errors import SettingsError, VoiceUnknownError
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


OWN = """
description = "Hal: calm."
aliases = ["hal-9000"]

[csm]
clip = "hal.flac"
transcript = "I am sorry, Dave."
"""


def own(folder: Path, name: str = "hal", text: str = OWN) -> Path:
    (folder / name).mkdir()
    (folder / name / "voice.toml").write_text(text)
    return folder


def test_an_operators_own_persona_comes_after_the_house(tmp_path: Path) -> None:
    personas = load_personas(own(tmp_path))
    assert list(personas) == ["maya", "mystic", "neutral", "warm", "hal"]
    hal = personas.resolve("HAL-9000")
    assert (hal.folder, hal.csm.clip) == (tmp_path / "hal", "hal.flac")
    assert (hal.csm.temperature, hal.csm.top_k) == (0.9, 50)
    # Who says nothing of the basic voice gets the default persona's.
    assert hal.basic == personas["maya"].basic


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("Hal", OWN, "names a persona 'Hal'"),
        ("maya", OWN, "both maya and maya claim the name maya"),
        ("hal", OWN.replace("hal-9000", "oracle"), "both maya and hal claim the name oracle"),
        ("hal", OWN.replace("transcript", "text"), r"csm\.transcript: Field required"),
        ("hal", OWN.replace('"I am sorry, Dave."', '"  "'), r"csm\.transcript: .*at least 1"),
        ("hal", OWN.replace("hal.flac", "../../etc/passwd"), r"csm\.clip: .*pattern"),
        ("hal", OWN.replace("hal.flac", "http://x/y"), r"csm\.clip: .*pattern"),
        ("hal", OWN + "top_k = 0", r"csm\.top_k: .*greater than or equal to 1"),
        ("hal", OWN + "speaker = -1", r"csm\.speaker: .*greater than or equal to 0"),
        ("hal", "description = ", "voice.toml cannot be read"),
        ("hal", 'description = "Hal"', "csm: Field required"),
    ],
)
def test_an_operators_persona_that_cannot_be_used_says_why(
    tmp_path: Path, name: str, text: str, why: str
) -> None:
    with pytest.raises(SettingsError, match=why):
        load_personas(own(tmp_path, name, text))


def test_a_folder_without_its_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "hal").mkdir()
    with pytest.raises(SettingsError, match=r"hal/voice\.toml is missing"):
        load_personas(tmp_path)


def test_voices_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"SESAME_VOICES_DIR=.*cannot be read"):
        load_personas(tmp_path / "gone")


def test_no_two_personas_sound_alike_on_the_basic_voice(personas: Personas) -> None:
    assert len({persona.basic.voice for persona in personas.values()}) == len(personas)
