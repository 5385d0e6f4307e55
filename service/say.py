"""The command for people: `python -m service.say "Hello from Maya" --voice warm --out hello.wav`.

It asks a running service over HTTP, as any client does, and knows nothing of how it speaks.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import httpx
from rich.console import Console
from rich.status import Status

__all__ = ["main"]

URL = "http://localhost:8000"
ROUTE = "/api/v1/generate"
SAMPLE_RATE = 24_000  # Hz, of what is asked for
WAV_HEADER_BYTES = 44
CONNECT_SECONDS, READ_SECONDS = 5.0, 60.0
FORMATS = ("wav", "mp3", "opus", "flac", "aac", "pcm")
EXTENSIONS = {**{name: name for name in FORMATS}, "ogg": "opus", "oga": "opus"}
PLAYERS = (
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "quiet", "-"),
    ("mpv", "--no-video", "--really-quiet", "-"),
    ("pw-play", "-"),
    ("paplay", "/dev/stdin"),
    ("aplay", "-q", "-"),
    ("play", "-q", "-t", "wav", "-"),
)
"""What can play a WAV from standard input, the first one that is installed is taken."""

SPOKEN, REFUSED, BAD_ARGUMENTS = 0, 1, 2


class SayError(Exception):
    """Why nothing, or not all, was said, and the next step."""


class Sink(Protocol):
    """Where audio goes as it comes."""

    def write(self, piece: bytes, /) -> object:
        """Take the next bytes."""
        ...


@dataclass
class Told:
    """How an answer came."""

    engine: str
    voice: str
    first_seconds: float
    size: int = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Say a text and return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    text = " ".join(options.text) if options.text else sys.stdin.read()
    if not text.strip():
        parser.error("there is nothing to say: give a text, or write it to standard input")
    if options.out is not None and _format(options.out) is None:
        parser.error(f"{options.out}: the name must end in one of {', '.join(EXTENSIONS)}")
    try:
        _say(text, options)
    except SayError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return REFUSED
    return SPOKEN


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service.say",
        description="Have a running service say a text: aloud, into a file, or both.",
        epilog="exit status: 0 said · 1 not said, or not all of it · 2 bad arguments",
        allow_abbrev=False,
    )
    parser.add_argument("text", nargs="*", help="what to say; by default standard input")
    parser.add_argument("--voice", default="maya", help="a persona, or an alias of one")
    parser.add_argument("--speed", type=float, default=1.0, help="tempo, 0.25 to 4")
    parser.add_argument("--out", type=Path, help="a file; its ending says the format")
    parser.add_argument("--play", action="store_true", help="play it too when there is a file")
    parser.add_argument("--url", default=URL, help=f"of the service; by default {URL}")
    # On a command line, every user of the machine could read a key.
    parser.add_argument("--key-file", type=Path, help="a file that holds the server key")
    return parser


def _format(out: Path | None) -> str | None:
    return "wav" if out is None else EXTENSIONS.get(out.suffix.lower().lstrip("."))


def _say(text: str, options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        sinks: list[Sink] = []
        if options.out is not None:
            sinks.append(stack.enter_context(_file(options.out)))
        if options.out is None or options.play:
            sinks.append(stack.enter_context(_player(_format(options.out))))
        console = Console(stderr=True)
        status = stack.enter_context(console.status("asking …"))
        told = _receive(text, options, sinks, status)
    audio = _audio_seconds(told, _format(options.out))
    length = f"{audio:.1f} s of audio" if audio is not None else f"{told.size:,} bytes"
    where = f" → {options.out}" if options.out else ""
    console.print(
        f"{told.voice} by {told.engine}, first sound after {told.first_seconds * 1000:.0f} ms, "
        f"{length}{where}",
        highlight=False,
    )


def _receive(text: str, options: argparse.Namespace, sinks: Sequence[Sink], status: Status) -> Told:
    asked = {
        "text": text,
        "voice": options.voice,
        "speed": options.speed,
        "format": _format(options.out),
        "sample_rate": SAMPLE_RATE,
        "stream": True,
    }
    started = time.perf_counter()
    timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
    url = options.url.rstrip("/").removesuffix(ROUTE) + ROUTE
    headers = {"Accept": "audio/*", **_key(options.key_file)}
    try:
        # A voice is near: a proxy of the environment is for what is far.
        with httpx.stream(
            "POST", url, json=asked, headers=headers, timeout=timeout, trust_env=False
        ) as answer:
            if answer.status_code != httpx.codes.OK:
                raise SayError(_refusal(answer))
            told = Told(
                answer.headers.get("x-speech-engine", "a service that does not say who"),
                answer.headers.get("x-speech-voice", options.voice),
                0.0,
            )
            for piece in answer.iter_raw():
                told.first_seconds = told.first_seconds or time.perf_counter() - started
                told.size += len(piece)
                status.update(f"{told.voice} by {told.engine}: {told.size / 1024:,.0f} KiB")
                for sink in sinks:
                    sink.write(piece)
    except httpx.ConnectError as error:
        raise SayError(
            f"{options.url} does not answer: {error}; start it with: make deploy"
        ) from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise SayError(f"--url {options.url} is no address of a service: {error}") from None
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        raise SayError(f"the voice broke off: {reason}; its log says why") from None
    return told


def _key(file: Path | None) -> dict[str, str]:
    if file is None:
        return {}
    try:
        return {"Authorization": f"Bearer {file.read_text(encoding='ascii').strip()}"}
    except (OSError, UnicodeDecodeError) as error:
        raise SayError(f"--key-file {file} cannot be read: {error}") from None


def _refusal(answer: httpx.Response) -> str:
    """Put an error of the service into a line."""
    body = answer.read()
    try:
        table = json.loads(body)
        return f"{table['error']}: {table['hint']}"
    except (KeyError, TypeError, ValueError):
        return f"{answer.url} answers {answer.status_code}, and not as this service does"


@contextmanager
def _file(out: Path) -> Iterator[IO[bytes]]:
    """Write a file that appears when it is whole; a WAV gets its true sizes."""
    half = out.with_name(f"{out.name}.part")
    try:
        with half.open("w+b") as file:
            yield file
            if _format(out) == "wav":
                _mend_sizes(file)
        half.replace(out)
    except OSError as error:
        raise SayError(f"{out} cannot be written: {error.strerror}") from None
    finally:
        half.unlink(missing_ok=True)


def _mend_sizes(file: IO[bytes]) -> None:
    """Write the two sizes that a streamed WAV cannot know (Microsoft RIFF WAVE)."""
    size = file.seek(0, 2)
    for place, count in ((4, size - 8), (WAV_HEADER_BYTES - 4, size - WAV_HEADER_BYTES)):
        file.seek(place)
        file.write(count.to_bytes(4, "little"))


@contextmanager
def _player(form: str | None) -> Iterator[IO[bytes]]:
    command = next((words for words in PLAYERS if shutil.which(words[0])), None)
    if command is None:
        names = ", ".join(words[0] for words in PLAYERS)
        raise SayError(f"nothing here can play audio: install one of {names}, or give --out FILE")
    if form == "pcm":
        raise SayError("pcm says nothing of itself, so no player plays it: leave --play out")
    with subprocess.Popen(command, stdin=subprocess.PIPE) as player:  # noqa: S603 (one of PLAYERS)
        if player.stdin is None:
            raise SayError(f"{command[0]} reads nothing")
        try:
            yield player.stdin
        except BrokenPipeError:
            raise SayError(f"{command[0]} stopped playing; give --out FILE instead") from None


def _audio_seconds(told: Told, form: str | None) -> float | None:
    header = {"wav": WAV_HEADER_BYTES, "pcm": 0}.get(form or "")
    return None if header is None else (told.size - header) / 2 / SAMPLE_RATE


if __name__ == "__main__":
    sys.exit(main())
