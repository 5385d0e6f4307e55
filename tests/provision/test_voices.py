"""Which folders of personas can be deployed."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import BaseModel

from provision import _voices
from provision._voices import HOUSE, Voices, read_voices
from service import voices as service_voices
from tests.provision.personas import VOICE, sound, write_persona


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_persona(tmp_path / "voices/hal")


def voices_of(folder: Path) -> Voices:
    read_voices.cache_clear()
    voices = read_voices(folder)
    assert isinstance(voices, Voices), voices
    return voices


def refused(folder: Path) -> str:
    read_voices.cache_clear()
    refusals = read_voices(folder)
    assert isinstance(refusals, tuple)
    return "\n".join(map(str, refusals))


def test_of_each_persona_its_file_and_its_clip_travel(folder: Path) -> None:
    (folder / "README.md").write_text("not a persona")
    (folder / "hal/take-1.wav").write_bytes(b"not named")
    (folder / ".git").mkdir()
    voices = voices_of(folder)
    assert voices.names == ("hal",)
    assert [file.path for file in voices.files] == ["hal/hal.wav", "hal/voice.toml"]


def test_the_same_personas_have_the_same_name_wherever_they_are(
    folder: Path, tmp_path: Path
) -> None:
    other = write_persona(tmp_path / "other/hal")
    assert voices_of(folder).digest == voices_of(other).digest


def test_another_clip_is_another_content(folder: Path) -> None:
    before = voices_of(folder).digest
    (folder / "hal/hal.wav").write_bytes(sound(3))
    assert voices_of(folder).digest != before


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    (folder / "hal/hal.wav").rename(folder / "clip.wav")
    (folder / "hal/hal.wav").symlink_to(folder / "clip.wav")
    assert voices_of(folder).files[0].size == len(sound(2))


@pytest.mark.parametrize(
    "start",
    [
        b"fLaC\0\0\0\x22",
        b"OggS\0\2",
        b"ID3\4\0",
        b"\xff\xfb\x90\x64",
        b"\0\0\0\x20ftypM4A ",
        b"FORM\0\0\0\0AIFF",
    ],
)
def test_a_file_that_begins_as_sound_does_is_left_to_the_services_own_check(
    start: bytes, tmp_path: Path
) -> None:
    voices_of(write_persona(tmp_path / "voices/hal", clip=start + bytes(64)))


def replaced(old: str, new: str) -> Callable[[Path], object]:
    voice = VOICE.replace(old, new)
    assert voice != VOICE
    return lambda folder: (folder / "hal/voice.toml").write_text(voice, encoding="utf-8")


def clip(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "hal/hal.wav").write_bytes(content)


def without(path: str) -> Callable[[Path], object]:
    return lambda folder: (folder / path).unlink()


def renamed(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "hal").rename(folder / name)


def link_outwards(folder: Path) -> None:
    (folder.parent / "secret.wav").write_bytes(sound(2))
    (folder / "hal/hal.wav").unlink()
    (folder / "hal/hal.wav").symlink_to(folder.parent / "secret.wav")


def too_large(folder: Path) -> None:
    with (folder / "hal/hal.wav").open("r+b") as opened:
        opened.truncate(65 * 2**20)


def second_with_the_same_name(folder: Path) -> None:
    write_persona(folder / "hal-9000")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("hal/voice.toml"), "has no voice.toml"),
        (without("hal/hal.wav"), "csm.clip='hal.wav', and there is no such file"),
        (replaced("description", "descripton"), "descripton is unknown"),
        (replaced("[csm]", "[scm]"), "csm is missing"),
        (replaced("temperature = 0.9", "temperature = 3"), "csm.temperature=3: Input should be"),
        (replaced("temperature = 0.9", "pitch = 3"), "csm.pitch is unknown"),
        (replaced("I know that you were planning to disconnect me.", "  "), "csm.transcript='  '"),
        (replaced('"hal.wav"', '"../hal.wav"'), "csm.clip='../hal.wav'"),
        (replaced("[csm]", "[csm"), "voice.toml cannot be read: "),
        (replaced("hal-9000", "Nova"), "claims the name Nova, which the house's maya has"),
        (renamed("maya"), "claims the name maya, which the house's maya has"),
        (renamed("Hal"), "names a persona 'Hal'"),
        (renamed("hal 9000"), "names a persona 'hal 9000'"),
        (second_with_the_same_name, "claims the name hal-9000, which hal has"),
        (clip(b""), "is no audio: it begins with b''"),
        (clip(b"version https://git-lfs"), "is no audio: it begins with b'version '"),
        (clip(b"MZ\x90" + bytes(64)), "is no audio"),
        (clip(sound(0.5)), "is 0.50 s long, at least 1 s are needed"),
        (clip(sound(2)[:400]), "s long, at least 1 s"),
        (link_outwards, "leads out of voices_folder"),
        (too_large, "has 65 MiB, at most 64 are taken"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(
    damage: Callable[[Path], object], words: str, folder: Path
) -> None:
    damage(folder)
    assert words in refused(folder)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refused(tmp_path / "nowhere")


def test_a_folder_without_a_persona_is_refused(tmp_path: Path) -> None:
    assert "holds no folder" in refused(tmp_path)


def test_every_fault_is_told_at_once(folder: Path) -> None:
    replaced("temperature = 0.9", "pitch = 3\ntop_k = 0")(folder)
    write_persona(folder / "Second")
    said = refused(folder)
    assert "csm.pitch is unknown" in said
    assert "csm.top_k=0" in said
    assert "names a persona 'Second'" in said


@pytest.mark.parametrize(
    ("ours", "services"),
    [
        (_voices._Basic, service_voices.BasicVoiceTable),
        (_voices._Csm, service_voices.CsmVoiceTable),
        (_voices._HuggingFace, service_voices.HuggingFaceVoiceTable),
        (_voices._ElevenLabs, service_voices.ElevenLabsVoiceTable),
        (_voices._Remote, service_voices.RemoteVoiceTable),
    ],
)
def test_each_table_has_the_fields_and_the_ranges_that_the_service_reads(
    ours: type[BaseModel], services: type[BaseModel]
) -> None:
    mine, theirs = ours.model_json_schema(), services.model_json_schema()
    assert mine["properties"] == theirs["properties"]
    assert set(mine.get("required", ())) == set(theirs.get("required", ()))


def test_the_file_has_the_tables_that_the_service_reads() -> None:
    # Name and folder are where the file lies.
    theirs = set(service_voices.Persona.model_fields) - {"name", "folder"}
    assert set(_voices.VoiceFile.model_fields) == theirs
    assert service_voices.NAME.pattern == _voices.PERSONA_NAME.pattern


def test_the_houses_personas_are_where_they_are_looked_for() -> None:
    assert {file.stem for file in HOUSE.glob("*.toml")} == set(service_voices.load_personas())


def test_what_is_let_through_the_service_loads(folder: Path) -> None:
    voices_of(folder)
    assert "hal" in service_voices.load_personas(folder)
