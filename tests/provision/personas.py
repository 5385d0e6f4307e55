"""Folders of the operator's own personas, with clips of almost nothing."""

import io
import wave
from pathlib import Path

VOICE = """
description = "Hal: calm, even."
aliases = ["hal-9000"]

[csm]
clip = "hal.wav"
transcript = "I know that you were planning to disconnect me."
temperature = 0.9
"""


def sound(seconds: float) -> bytes:
    """Return a WAV file that is not silent."""
    packed = io.BytesIO()
    with wave.open(packed, "wb") as clip:
        clip.setnchannels(1)
        clip.setsampwidth(2)
        clip.setframerate(8_000)
        clip.writeframes(b"\1\0" * int(seconds * 8_000))
    return packed.getvalue()


def write_persona(home: Path, voice: str = VOICE, clip: bytes | None = None) -> Path:
    """Write the folder of a persona, and return the folder that it is in."""
    home.mkdir(parents=True)
    (home / "voice.toml").write_text(voice, encoding="utf-8")
    (home / "hal.wav").write_bytes(sound(2) if clip is None else clip)
    return home.parent
