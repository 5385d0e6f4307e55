"""The self-hosted voice: CSM on this host, from requests to pieces to blocks.

It knows what a good piece is and tries a bad one again; it knows nothing of tensors.
"""

import asyncio
import logging
import math
import os
import secrets
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from service.audio import SAMPLE_RATE, Samples, read_audio, silence
from service.csm import (
    FRAME_SECONDS,
    SEEDS,
    Block,
    Clip,
    Ended,
    Ending,
    Event,
    Failed,
    GenerationError,
    Sampling,
    Utterance,
    Voice,
)
from service.engines.csm_model import AnyPrecision, CsmModel, load_model, streams_on
from service.engines.engine import EngineState, Finding, SpeechRequest, finding_of
from service.engines.snapshot import Snapshot
from service.errors import AudioError, EngineError, SettingsError
from service.text import Pause, Segment, Words
from service.text.normalise import normalise
from service.text.sentences import FIRST_PIECE, LONGEST_PIECE, pieces
from service.voices import CsmVoiceTable, Persona, Personas

__all__ = ["CsmVoice"]

T = TypeVar("T")

LONGEST_CLIP = 900.0  # seconds that are read; what the model holds of it is decided later
STILL_SECONDS = 10.0
"""No frame for so long while work waits: the model hangs."""
WATCH_PAUSE = 1.0  # seconds between two looks of the watchdog
LAST_WORDS = 1.0  # seconds in which running answers are cut off before the process ends
ENDED_BY_WATCHDOG = 70  # exit code: an internal software error (sysexits.h)

PROBE_TEXT = "One, two."
PROBE_SECONDS = 0.5  # of audio

SIGN_OF_LIFE = 1.0  # seconds between two, where a whole answer waits
SECOND_TEMPERATURE = 0.6
SHORTEST_PIECE = 0.2  # seconds
SHORTEST_CHARACTER = 0.02  # seconds: three times as fast as English is spoken
GOOD_ENDINGS: tuple[Ending, ...] = ("ended", "silence")
SEED_STRIDE = 0x9E3779B97F4A7C15  # odd, so that no two of a request's seeds are the same

NOTHING = silence(0)

logger = logging.getLogger(__name__)


class CsmVoice:
    """CSM, loaded in the background from `start` on, watched while it speaks.

    + snapshot: the model's files
    + personas: whose clips are read in; the first one's before anything is said
    + device, precision, streams: as in the settings
    + end_process: is called with the reason when the model hangs or its thread has died

    Raises SettingsError when an operator's own clip cannot be used.
    """

    name = "csm"
    reserve_seconds = 1.0
    host = None

    def __init__(
        self,
        snapshot: Snapshot,
        personas: Personas,
        *,
        device: str = "auto",
        precision: AnyPrecision = "auto",
        streams: int | None = None,
        end_process: Callable[[str], None] | None = None,
    ) -> None:
        self._snapshot = snapshot
        self._personas = tuple(personas.values())
        self._own_clips = {
            persona.name: _own_clip(persona, persona.folder)
            for persona in self._personas
            if persona.folder is not None
        }
        self._device = device
        self._precision = precision
        self._end_process = end_process or _end_process
        self._state = EngineState("loading", "not started")
        self._model: CsmModel | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._listening: set[asyncio.Queue[Event]] = set()
        self.permits = streams or streams_on(device)

    @property
    def state(self) -> EngineState:
        """What was last observed."""
        return self._state

    def speaks_for(self, persona: Persona) -> bool:
        """Every persona has a clip, or the model is not loaded."""
        del persona
        return True

    def substitution(self, persona: Persona) -> None:
        """Nothing stands in: it is the persona's own voice."""

    async def probe(self) -> None:
        """Speak a few words as the first persona."""
        words = SpeechRequest(
            (Words(PROBE_TEXT),), self._personas[0], longest_seconds=PROBE_SECONDS
        )
        async with aclosing(self.speak(words)) as blocks:
            if not sum([block.size async for block in blocks]):
                raise EngineError("the model said nothing")

    async def look(self) -> Finding:
        """Say whether the model is loaded."""
        return finding_of(self._state)

    async def start(self) -> None:
        """Begin to load; the state tells how far it is."""
        self._tasks.append(asyncio.create_task(self._load()))

    async def stop(self) -> None:
        """Stop speaking and give the model's thread back."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._model is not None:
            await asyncio.to_thread(self._model.worker.stop)

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[Samples]:
        """Yield blocks, the first after two frames; a whole answer piece by piece."""
        model = self._model
        if model is None:
            raise EngineError(self._state.reason or "the model is not loaded")
        reading = asyncio.wrap_future(model.voices[request.persona.name])
        while request.whole and not reading.done():
            # Soon after the start some voices are still being read in.
            yield NOTHING
            await asyncio.wait([reading], timeout=SIGN_OF_LIFE)
        # Shielded: a listener who leaves must not stop the voice from being read in for others.
        voice = await asyncio.shield(reading)
        if request.context:
            voice = await asyncio.to_thread(model.after, voice, request.context)
        speaking = _Speaking(model, voice, request, self._listening)
        async with aclosing(speaking.blocks()) as blocks:
            async for block in blocks:
                yield block

    async def _load(self) -> None:
        started = time.monotonic()

        def progress(what: str) -> None:
            self._state = EngineState("loading", f"{what}, {time.monotonic() - started:.0f} s in")
            logger.info("rung csm: %s", self._state.reason)

        try:
            model = await _in_thread(lambda: self._load_now(progress))
        except EngineError as error:
            self._state = EngineState("off", f"{error}; {error.hint}".rstrip("; "))
            logger.error("rung csm is off: %s", self._state.reason)  # noqa: TRY400 (a refusal, no defect)
            return
        except Exception as error:
            logger.exception("rung csm has a defect")
            self._state = EngineState("off", f"it could not be loaded: {type(error).__name__}")
            return
        self._model = model
        self._state = EngineState("ready", model=model.report)
        self._tasks.append(asyncio.create_task(self._watch(model)))
        for persona in self._personas[1:]:
            await _in_thread(partial(model.read_in, persona))

    def _load_now(self, progress: Callable[[str], None]) -> CsmModel:
        progress("reading the clips")
        return load_model(
            self._snapshot,
            self._clips(),
            self._personas,
            device=self._device,
            precision=self._precision,
            streams=self.permits,
            progress=progress,
        )

    def _clips(self) -> Mapping[str, Clip]:
        house = (persona for persona in self._personas if persona.folder is None)
        return self._own_clips | {persona.name: self._house_clip(persona) for persona in house}

    def _house_clip(self, persona: Persona) -> Clip:
        path = self._snapshot.folder / "prompts" / f"{persona.csm.clip}.wav"
        try:
            return _read_clip(path, persona.csm)
        except AudioError as error:
            raise EngineError(
                f"the clip of {persona.name} cannot be used: {path}: {error}",
                "fetch the folder prompts of the model's repository",
            ) from error

    async def _watch(self, model: CsmModel) -> None:
        while True:
            await asyncio.sleep(WATCH_PAUSE)
            if model.worker.error is not None:
                why = f"the model's thread has ended: {model.worker.error!r}"
            elif model.worker.still_seconds > STILL_SECONDS:
                why = f"no frame came for {STILL_SECONDS:g} s while work waited"
            else:
                continue
            self._state = EngineState("open", why)
            logger.critical("rung csm is down: %s", why)
            for events in self._listening:
                events.put_nowait(Failed(-1, GenerationError(why)))
            await asyncio.sleep(LAST_WORDS)
            self._end_process(why)
            return


@dataclass
class _Take:
    """What came of one try at a piece."""

    blocks: list[Samples] = field(default_factory=list)
    ending: Ending | None = None

    @property
    def samples(self) -> int:
        return sum(block.size for block in self.blocks)

    def is_good(self, piece: str) -> bool:
        """Tell whether it came to an end by itself, and is long enough for its text."""
        return self.ending in GOOD_ENDINGS and self.is_long_enough(piece)

    def is_long_enough(self, piece: str) -> bool:
        """Tell whether the piece could have been said in it."""
        shortest = max(SHORTEST_PIECE, SHORTEST_CHARACTER * len(piece))
        return self.samples >= shortest * SAMPLE_RATE


@dataclass(frozen=True)
class _Speaking:
    """One request being spoken."""

    model: CsmModel
    voice: Voice
    request: SpeechRequest
    listening: set[asyncio.Queue[Event]]

    async def blocks(self) -> AsyncGenerator[Samples]:
        """Yield the answer, piece by piece."""
        seed = self.request.seed
        seeds = _seeds(secrets.randbelow(SEEDS) if seed is None else seed)
        # Off the loop: normalising a long text takes tens of milliseconds.
        for part in await asyncio.to_thread(lambda: tuple(_parts(self.request.segments))):
            if isinstance(part, Pause):
                yield silence(part.seconds)
                continue
            async with aclosing(self._piece(part, seeds)) as blocks:
                async for block in blocks:
                    yield block

    async def _piece(self, piece: str, seeds: Iterator[int]) -> AsyncGenerator[Samples]:
        """Speak a piece, and a second time if it went wrong and nothing of it has been sent.

        A model that is slower than sound says again only what came out too short.
        """
        best = _Take()
        for sampling in (self._sampling(next(seeds)), self._sampling(next(seeds), again=True)):
            take = _Take()
            async with aclosing(self._take(piece, sampling, take)) as blocks:
                async for block in blocks:
                    if self.request.whole:
                        yield NOTHING
                    elif block.size:
                        yield block
            if take.samples and not self.request.whole:
                return
            best = max(best, take, key=lambda take: (take.is_good(piece), take.samples))
            if best.is_good(piece):
                break
            logger.info("a piece of %d characters went wrong: %s", len(piece), take.ending)
            if best.is_long_enough(piece) and self.model.report.real_time_factor > 1:
                # Where sound takes longer to make than to hear, it would double a long wait.
                break
        if not best.samples:
            raise EngineError(f"the model said nothing for {len(piece)} characters, twice")
        for block in best.blocks:
            yield block

    async def _take(self, piece: str, sampling: Sampling, take: "_Take") -> AsyncGenerator[Samples]:
        """Yield the blocks of one try as they come, empty ones too, and keep them."""
        async with aclosing(self._listen(piece, sampling)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    raise EngineError(str(event.error)) from event.error
                if isinstance(event, Ended):
                    take.ending = event.ending
                    return
                take.blocks.append(event.samples)
                yield event.samples

    async def _listen(self, piece: str, sampling: Sampling) -> AsyncGenerator[Event]:
        """Have a piece spoken; leaving early frees its slot within one frame."""
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Event] = asyncio.Queue()

        def tell(event: Event) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(events.put_nowait, event)

        over = False
        self.listening.add(events)
        number = self.model.worker.submit(self._utterance(piece, sampling), tell)
        try:
            while not over:
                event = await events.get()
                over = not isinstance(event, Block)
                yield event
        finally:
            self.listening.discard(events)
            if not over:
                self.model.worker.cancel(number)

    def _utterance(self, piece: str, sampling: Sampling) -> Utterance:
        longest = self.request.longest_seconds
        frames = None if longest is None else max(1, math.ceil(longest / FRAME_SECONDS))
        return self.model.utterance(piece, self.voice, sampling, frames=frames)

    def _sampling(self, seed: int, *, again: bool = False) -> Sampling:
        asked, own = self.request, self.request.persona.csm
        temperature = own.temperature if asked.temperature is None else asked.temperature
        return Sampling(
            temperature=SECOND_TEMPERATURE if again else temperature,
            top_k=min(own.top_k if asked.top_k is None else asked.top_k, self.model.codes),
            seed=seed,
        )


def _parts(segments: tuple[Segment, ...]) -> Iterator[str | Pause]:
    """Give what is spoken in one go, and the pauses between; only the very first piece is short."""
    first = FIRST_PIECE
    for segment in segments:
        if isinstance(segment, Pause):
            yield segment
            continue
        for piece in pieces(normalise(segment.text), first=first):
            first = LONGEST_PIECE
            yield piece


def _seeds(seed: int) -> Iterator[int]:
    """Give a seed for each try of each piece; the first is the request's own."""
    while True:
        yield seed
        seed = (seed + SEED_STRIDE) % SEEDS


def _read_clip(path: Path, table: CsmVoiceTable) -> Clip:
    samples = read_audio(path, longest=LONGEST_CLIP)
    if table.clip_seconds is not None:
        samples = samples[: round(table.clip_seconds * SAMPLE_RATE)]
    return Clip(samples, table.transcript)


def _own_clip(persona: Persona, folder: Path) -> Clip:
    path = folder / persona.csm.clip
    try:
        clip = _read_clip(path, persona.csm)
        clip.check()
    except (AudioError, ValueError) as error:
        raise SettingsError(f"the clip of {persona.name} cannot be used: {path}: {error}") from None
    return clip


async def _in_thread(work: Callable[[], T]) -> T:
    """Run in a thread that does not keep the process from ending, as a pool's would."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 (whoever waits for the result gets it)
            done.set_exception(error)

    threading.Thread(target=run, name="csm-loading", daemon=True).start()
    return await asyncio.wrap_future(done)


def _end_process(why: str) -> None:
    """End at once: a thread that hangs in the model cannot be ended otherwise."""
    logger.critical("the process ends: %s", why)
    logging.shutdown()
    os._exit(ENDED_BY_WATCHDOG)
