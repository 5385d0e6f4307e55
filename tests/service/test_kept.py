"""How long finished audio is kept, and how much of it."""

from service.api import kept
from service.api.kept import KEPT_SECONDS, Audio, KeptAudio


def test_audio_is_there_for_ten_minutes_and_no_longer() -> None:
    now = 0.0
    store = KeptAudio(lambda: now)
    name = store.keep(Audio(b"RIFF", "audio/wav"))
    now = KEPT_SECONDS - 1
    assert store.get(name) == Audio(b"RIFF", "audio/wav")
    now = KEPT_SECONDS
    assert store.get(name) is None


def test_newer_audio_takes_the_room_of_older() -> None:
    store = KeptAudio()
    half = Audio(b"\0" * (kept.MOST_BYTES // 2), "audio/wav")
    names = [store.keep(half) for _ in range(3)]
    assert [store.get(name) is not None for name in names] == [False, True, True]


def test_no_two_ids_are_alike() -> None:
    store = KeptAudio()
    names = {store.keep(Audio(b"", "audio/wav")) for _ in range(100)}
    assert len(names) == 100
    assert min(map(len, names)) > 20
