"""The command for people, run as they run it, against a real service."""

import os
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from service.app import create_app
from service.errors import EngineError
from service.settings import ServiceSettings
from tests.service.rungs import Rung, tone
from tests.service.serving import serving

KEY = "a-key-of-sixteen-characters"


def say(
    *arguments: str | Path | httpx.URL, given: str = "", path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command; `path` is the only place where it looks for players."""
    return subprocess.run(
        [sys.executable, "-m", "service.say", *map(str, arguments)],
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PATH": str(path or "/none")},
        check=False,
    )


def test_a_text_becomes_a_wav_with_true_sizes(voice: httpx.Client, tmp_path: Path) -> None:
    out = tmp_path / "hello.wav"
    said = say("Hello", "from Maya", "--voice", "warm", "--out", out, "--url", voice.base_url)
    assert said.returncode == 0, said.stderr
    assert "warm by basic, first sound after " in said.stderr
    with wave.open(str(out)) as file:
        assert file.getnframes() * 2 == out.stat().st_size - 44
        assert file.getnframes() / 24_000 > 0.8


@pytest.mark.parametrize("name", ["hello.mp3", "hello.ogg", "hello.flac"])
def test_the_ending_says_the_format(voice: httpx.Client, tmp_path: Path, name: str) -> None:
    said = say("--out", tmp_path / name, "--url", voice.base_url, given="Hello from Maya")
    assert said.returncode == 0, said.stderr
    assert (tmp_path / name).read_bytes()[:3] in (b"\xff\xf3\xa4", b"Ogg", b"fLa", b"\xff\xf3\xc4")


def test_the_first_player_that_is_there_gets_the_audio(voice: httpx.Client, tmp_path: Path) -> None:
    player = tmp_path / "aplay"
    player.write_text(f"#!/bin/sh\n/bin/cat > {tmp_path}/heard\n", encoding="utf-8")
    player.chmod(0o755)
    said = say("Hello", "--url", voice.base_url, path=tmp_path)
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "heard").read_bytes()[:4] == b"RIFF"


@pytest.fixture
def guarded() -> Iterator[str]:
    settings = ServiceSettings(server_key=SecretStr(KEY))
    with serving(create_app(settings, [Rung(tone(1))])) as client:
        yield str(client.base_url)


def test_a_key_comes_from_a_file(guarded: str, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n", encoding="ascii")
    out = tmp_path / "hello.wav"
    said = say("Hello", "--out", out, "--url", guarded, "--key-file", tmp_path / "key")
    assert said.returncode == 0, said.stderr
    assert KEY not in said.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["Hello"], 1, "nothing here can play audio: install one of ffplay"),
        (["Hello", "--voice", "hal", "--out", "x.wav"], 1, "voices are: maya"),
        (["Hello", "--out", "x.doc"], 2, "the name must end in one of wav, mp3"),
        (["  "], 2, "there is nothing to say"),
        (["Hello", "--out", "/none/x.wav"], 1, "/none/x.wav cannot be written: No such file"),
        (["Hello", "--out", "x.wav", "--url", "http://127.0.0.1:9"], 1, "does not answer"),
        (["Hello", "--out", "x.wav", "--url", "voice"], 1, "is no address of a service"),
        (["Hello", "--out", "x.wav", "--key-file", "/none"], 1, "--key-file /none cannot be"),
    ],
)
def test_what_cannot_be_said_is_told_with_the_way_out(
    voice: httpx.Client, arguments: list[str], status: int, words: str
) -> None:
    url = [] if "--url" in arguments else ["--url", str(voice.base_url)]
    said = say(*arguments, *url)
    assert (said.returncode, words in said.stderr) == (status, True), said.stderr


def test_a_voice_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    rung = Rung(tone(1), error=EngineError("broken"))
    with serving(create_app(ServiceSettings(), [rung])) as client:
        out = tmp_path / "hello.wav"
        said = say("Hello", "--out", out, "--url", client.base_url)
    assert said.returncode == 1
    assert "the voice broke off" in said.stderr
    assert list(tmp_path.iterdir()) == []
