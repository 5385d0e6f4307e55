"""The basic voice: espeak-ng as a child process, offline. It knows nothing of the other rungs."""

import asyncio
import logging
import os
import re
import shutil
import signal
import struct
import unicodedata
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import cast

import numpy as np

from service.audio import SAMPLE_RATE, Converter, Samples, is_silent, silence
from service.engines.engine import EngineState, Finding, SpeechRequest, finding_of
from service.errors import EngineError
from service.text import Pause
from service.voices import BasicVoiceTable, Persona

__all__ = ["BasicVoice"]

COMMAND = "espeak-ng"
SELF_TEST_TEXT = "ready"
SELF_TEST_PAUSE = 30.0  # seconds between two looks at an engine that nobody uses

READ_BYTES = 8_192  # 186 ms at 22,050 Hz
WAV_HEADER_BYTES = 44
WAV_RATE_AT = 24  # offset of the sample rate in the header
WAV_RATES = range(8_000, 48_001)  # Hz
LONGEST_WAIT = 5.0  # seconds for one read; espeak-ng speaks some 500 times faster than real time
COMPLAINT_BYTES = 400

# Measured at 125 words a minute: English prose takes 0.1 s a character; letters that the voice has
# no words for are described one by one ("Chinese letter"), which takes up to 1.4 s.
BUDGET_SECONDS = 10.0
BUDGET_SECONDS_A_CHARACTER = 1.5

# espeak-ng 1.51 and 1.52 overrun a buffer on 100 dotted letters in a row ("A.A.A.").
LONGEST_RUN = re.compile(r"(\S{60})(?=\S)")

logger = logging.getLogger(__name__)


class BasicVoice:
    """espeak-ng, one child process a run of words, observed by speaking a word now and then.

    + personas: whose voices the self-test tries
    + command: name or path of espeak-ng
    """

    name = "basic"
    permits = 4
    reserve_seconds = 0.5
    host = None

    def __init__(self, personas: Iterable[Persona], command: str = COMMAND) -> None:
        self._personas = tuple(personas)
        self._command = command
        self._state = EngineState("off", "not started")
        self._doubt = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    @property
    def state(self) -> EngineState:
        """What the last self-test observed."""
        return self._state

    def speaks_for(self, persona: Persona) -> bool:
        """Every persona has a table for it."""
        del persona
        return True

    def substitution(self, persona: Persona) -> str:
        """Name the espeak-ng voice: the basic voice is never the persona's own."""
        return f"espeak-ng:{persona.basic.voice}"

    async def probe(self) -> None:
        """Speak a word with each persona."""
        await self._observe()
        if self._state.name != "ready":
            raise EngineError(self._state.reason or "it does not speak")

    async def look(self) -> Finding:
        """Say what the last self-test observed."""
        return finding_of(self._state)

    async def start(self) -> None:
        """Speak a word with each persona, keep what was observed, and go on observing."""
        await self._observe()
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop observing."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        """Yield blocks of about 0.2 s as espeak-ng gives them; a pause joins what follows it."""
        held: list[Samples] = []
        try:
            for segment in request.segments:
                if isinstance(segment, Pause):
                    held.append(silence(segment.seconds))
                    continue
                async with aclosing(self._utter(segment.text, request.persona.basic)) as blocks:
                    async for block in blocks:
                        yield np.concatenate([*held, block])
                        held.clear()
        except EngineError as error:
            self._doubt.set()
            # What espeak-ng complains of may quote the text. The self-test, whose words are ours,
            # tells of it.
            raise EngineError(error.message) from None
        if held:
            yield np.concatenate(held)

    async def _utter(self, text: str, voice: BasicVoiceTable) -> AsyncGenerator[Samples]:
        plain = _plain(text)
        budget = BUDGET_SECONDS + BUDGET_SECONDS_A_CHARACTER * len(plain)  # seconds
        async with _espeak(self._command, plain, voice) as output:
            rate = await _wav_rate(output)
            converter = Converter(rate, SAMPLE_RATE)
            left = int(budget * rate) * 2  # bytes
            odd = b""
            while data := await _read(output):
                left -= len(data)
                if left < 0:
                    raise EngineError(f"more than {budget:.0f} s of audio for the text")
                data = odd + data
                whole = len(data) & ~1
                odd = data[whole:]
                block = converter.convert(_to_samples(data[:whole]))
                if block.size:
                    yield block
            if (rest := converter.flush()).size:
                yield rest

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SELF_TEST_PAUSE):
                    await self._doubt.wait()
            self._doubt.clear()
            await self._observe()

    async def _observe(self) -> None:
        before, self._state = self._state, await self._self_test()
        if self._state != before:
            logger.info("rung basic is %s: %s", self._state.name, self._state.reason or "it spoke")

    async def _self_test(self) -> EngineState:
        if shutil.which(self._command) is None:
            return EngineState("off", f"{COMMAND} is not installed; apt-get install {COMMAND}")
        for persona in self._personas:
            try:
                spoken = [block async for block in self._utter(SELF_TEST_TEXT, persona.basic)]
            except EngineError as error:
                return EngineState(
                    "open", f"{persona.basic.voice}: {error}; {error.hint}".rstrip("; ")
                )
            if is_silent(np.concatenate([silence(0), *spoken])):
                return EngineState("open", f"{persona.basic.voice}: {COMMAND} makes no sound")
        return EngineState("ready")


@asynccontextmanager
async def _espeak(command: str, text: str, voice: BasicVoiceTable) -> AsyncGenerator[StreamReader]:
    """Run espeak-ng on a text and give its output; leaving early kills and reaps it.

    The text goes in on standard input, never as an argument, where any user of the host could read
    it; no mark-up is interpreted (no -m). The environment is empty: ours may hold secrets.
    """
    process = await _start(command, voice)
    stdin = cast("StreamWriter", process.stdin)
    stdout = cast("StreamReader", process.stdout)
    complaints = asyncio.create_task(_complaints(cast("StreamReader", process.stderr)))
    try:
        stdin.write(text.encode())
        stdin.close()
        yield stdout
        async with asyncio.timeout(LONGEST_WAIT):
            code = await process.wait()
        if code != 0:
            raise EngineError(f"{COMMAND} ended with {_ending(code)}", await complaints)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        # A pipe that is paused for a slow reader reports its end only when it is read on.
        await stdout.read()
        await process.wait()
        await complaints


async def _start(command: str, voice: BasicVoiceTable) -> Process:
    program = shutil.which(command)
    if program is None:
        raise EngineError(f"{COMMAND} is not installed")
    try:
        return await asyncio.create_subprocess_exec(
            program,
            *("-v", voice.voice, "-s", str(voice.words_per_minute), "-p", str(voice.pitch)),
            *("-g", str(voice.word_gap_ms // 10), "-b", "1", "--stdin", "--stdout"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={"LC_ALL": "C.UTF-8"},
            cwd="/",
            # Ctrl-C in a terminal is for the service alone: it finishes what is being spoken.
            start_new_session=True,
        )
    except OSError as error:
        raise EngineError(f"{COMMAND} cannot be started: {error.strerror}") from error


def _plain(text: str) -> str:
    """Write a text so that espeak-ng reads all of it, and reads it as nothing but text.

    Other digits than ASCII's would be silent, double brackets phonemes, endless runs a crash.
    """
    compatible = unicodedata.normalize("NFKC", text)
    digits = "".join(str(unicodedata.decimal(character, character)) for character in compatible)
    return LONGEST_RUN.sub(r"\1 ", digits.replace("[[", "[ ["))


async def _complaints(stderr: StreamReader) -> str:
    """Read standard error to its end, so that the child never waits for it; keep the beginning."""
    kept = b""
    while data := await stderr.read(READ_BYTES):
        kept = (kept + data)[:COMPLAINT_BYTES]
    return " ".join(kept.decode(errors="replace").split())


async def _wav_rate(output: StreamReader) -> int:
    """Read the WAV header and give its rate in Hz; for no output at all, any rate will do."""
    header = b""
    while len(header) < WAV_HEADER_BYTES:
        data = await _read(output, WAV_HEADER_BYTES - len(header))
        if not data:
            break
        header += data
    if not header:
        return SAMPLE_RATE
    if len(header) < WAV_HEADER_BYTES or not header.startswith(b"RIFF"):
        raise EngineError(f"{COMMAND} gave no WAV header")
    rate: int = struct.unpack_from("<I", header, WAV_RATE_AT)[0]
    if rate not in WAV_RATES:
        raise EngineError(f"{COMMAND} gave a WAV of {rate} Hz")
    return rate


async def _read(output: StreamReader, most: int = READ_BYTES) -> bytes:
    try:
        async with asyncio.timeout(LONGEST_WAIT):
            return await output.read(most)
    except TimeoutError:
        raise EngineError(f"{COMMAND} gave nothing for {LONGEST_WAIT:g} s") from None


def _to_samples(pcm: bytes) -> Samples:
    """Turn 16-bit little-endian PCM into float32 of ±1."""
    return np.frombuffer(pcm, dtype="<i2").astype(np.float32) / np.float32(32_768)


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
