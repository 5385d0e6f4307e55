"""Finished audio behind an address that cannot be guessed, for clients that fetch it later."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["KEPT_SECONDS", "Audio", "KeptAudio"]

KEPT_SECONDS = 600.0
MOST_BYTES = 64 * 1024 * 1024
ID_BYTES = 16  # 128 bits of chance


@dataclass(frozen=True)
class Audio:
    """A file as it was answered."""

    content: bytes
    media_type: str


class KeptAudio:
    """Keeps audio for ten minutes, or until newer audio needs its room."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, Audio]] = OrderedDict()
        self._bytes = 0

    def keep(self, audio: Audio) -> str:
        """Keep audio; give its id."""
        name = secrets.token_urlsafe(ID_BYTES)
        self._kept[name] = (self._clock() + KEPT_SECONDS, audio)
        self._bytes += len(audio.content)
        while self._bytes > MOST_BYTES and len(self._kept) > 1:
            self._drop_oldest()
        return name

    def get(self, name: str) -> Audio | None:
        """Give the audio of an id, or None where it is unknown or too old."""
        while self._kept and next(iter(self._kept.values()))[0] <= self._clock():
            self._drop_oldest()
        found = self._kept.get(name)
        return found[1] if found else None

    def _drop_oldest(self) -> None:
        _, (_, audio) = self._kept.popitem(last=False)
        self._bytes -= len(audio.content)
