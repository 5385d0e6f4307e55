"""The model behind the rung: loaded, warmed up, with a voice for each persona.

The one module outside `service/csm` that needs torch; the light image never imports it. It knows no
event loop: what it does takes seconds, and the rung calls it from other threads.
"""

import logging
import queue
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from service.csm import (
    CSM,
    FRAME_SECONDS,
    CheckpointError,
    Clip,
    ClipError,
    CudaGraphs,
    Ended,
    Event,
    Failed,
    Mimi,
    Precision,
    Prefix,
    PromptError,
    Remembering,
    Replay,
    Rows,
    Sampling,
    Scheduler,
    TextTokenizer,
    Turn,
    Utterance,
    Voice,
    Worker,
    clip_rows,
    encode_clip,
    fit_turns,
    frame_budget,
    ladder,
    load,
    prompt_rows,
)
from service.engines.engine import Batch, ContextTurn, ModelReport
from service.engines.snapshot import Snapshot
from service.errors import EngineError
from service.text.sentences import LONGEST_PIECE
from service.voices import Persona

__all__ = ["AnyPrecision", "CsmModel", "load_model", "streams_on"]

STREAMS = {"cpu": 4, "cuda": 32}
"""How many answers a device speaks at once, if nobody says."""

PRECISIONS: Mapping[str, Precision] = {"cpu": "int8", "cuda": "bf16"}
"""What `auto` means on a device."""

FETCH = "fetch the files that transformers.safetensors.index.json lists, tokenizer.json and prompts"
WARM_UP = "One, two, three."
FIRST_FRAMES = 2  # kernels are chosen and memory is taken
WARM_UP_FRAMES = 8
WARM_UP_PATIENCE = 120.0  # seconds for all of it
ROWS_AT_ONCE = 64  # of a prompt, between two frames of who speaks: a third of a second on two cores
MEBIBYTE = 2**20

AnyPrecision = Precision | Literal["auto"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CsmModel:
    """A model that speaks, and the voices it has.

    + worker: owns the model; everything that moves it runs there
    + report: for health
    + clips: by persona
    + voices: by persona; those that are not read in yet are on their way
    """

    worker: Worker
    report: ModelReport
    model: CSM
    codec: Mimi
    tokenizer: TextTokenizer
    clips: Mapping[str, Clip]
    voices: Mapping[str, Future[Voice]]

    def read_in(self, persona: Persona) -> None:
        """Encode a persona's clip and run it through the model; a failure stays in its future."""
        future = self.voices[persona.name]
        try:
            prefix = self._read(self._clip_rows(persona))
        except ClipError as error:
            future.set_exception(EngineError(f"the clip of {persona.name}: {error}"))
        except (Exception, CancelledError) as error:  # noqa: BLE001 (whoever asks for the voice gets it)
            future.set_exception(EngineError(f"the voice of {persona.name}: {error!r}"))
        else:
            future.set_result(Voice(persona.csm.speaker, prefix))

    def after(self, voice: Voice, turns: Iterable[ContextTurn]) -> Voice:
        """Give the voice after what was said before: the latest turns that fit are read."""
        said = [
            Turn(
                turn.speaker if isinstance(turn.speaker, int) else turn.speaker.csm.speaker,
                turn.text,
                encode_clip(self.codec, turn.samples),
            )
            for turn in turns
        ]
        books, room = self.model.config.codebooks, self._room - len(voice.prefix)
        rows = fit_turns(self.tokenizer, said, codebooks=books, rows=max(room, 0))
        return Voice(voice.speaker, self._read(rows, voice.prefix))

    @property
    def _room(self) -> int:
        """How many positions the longest piece leaves: a token a character, and its frames."""
        longest = LONGEST_PIECE + 8 + frame_budget("x" * LONGEST_PIECE)
        return self.model.config.backbone.positions - longest

    def _read(self, rows: Rows, after: Prefix | None = None) -> Prefix:
        reading = Remembering(self.model, rows, after)
        while self.worker.run(lambda: reading.read(ROWS_AT_ONCE)).result():
            pass
        return reading.prefix

    def _clip_rows(self, persona: Persona) -> Rows:
        return clip_rows(
            self.codec,
            self.tokenizer,
            self.clips[persona.name],
            speaker=persona.csm.speaker,
            codebooks=self.model.config.codebooks,
            rows=self._room,
        )

    def utterance(
        self, piece: str, voice: Voice, sampling: Sampling, *, frames: int | None = None
    ) -> Utterance:
        """Write a piece of text as the model reads it, after its voice.

        + frames: the most it may take; the budget of its text holds too
        """
        budget = frame_budget(piece)
        frames = budget if frames is None else min(frames, budget)
        turn = Turn(voice.speaker, piece)
        rows = prompt_rows(self.tokenizer, [turn], self.model.config.codebooks)
        return Utterance(rows, sampling, frames, voice.prefix)

    @property
    def codes(self) -> int:
        """How many codes a codebook has: the largest `top_k`."""
        return self.model.config.codes


def load_model(
    snapshot: Snapshot,
    clips: Mapping[str, Clip],
    personas: Sequence[Persona],
    *,
    device: str,
    precision: AnyPrecision,
    streams: int,
    progress: Callable[[str], None],
) -> CsmModel:
    """Load a model, read in the first persona's voice and speak a few words to warm up.

    + personas: the first is the one that must be there before anything is said
    + clips: by persona
    + device: auto, cuda or cpu; + precision: auto, fp32, bf16, int8 or int4
    + streams: how many answers are spoken at once
    + progress: is told what happens now

    Raises EngineError that says what is wrong and what to do.
    """
    kind = _device(device)
    form = PRECISIONS[kind] if precision == "auto" else precision
    started = time.monotonic()
    try:
        progress(f"reading {snapshot.name} into {form}")
        model, codec = load(snapshot.folder, device=kind, precision=form)
        tokenizer = TextTokenizer(snapshot.folder / "tokenizer.json")
        progress("making room for the streams")
        state = model.state(streams)
        sizes = ladder(streams) if kind == "cuda" else []
        replay = Replay(model, state, sizes, CudaGraphs() if sizes else None)
    except FileNotFoundError as error:
        raise EngineError(f"{error.filename} is missing", FETCH) from error
    except (CheckpointError, PromptError) as error:
        raise EngineError(str(error), FETCH) from error
    except ValueError as error:
        raise EngineError(f"SESAME_PRECISION={form}: {error}") from error
    except torch.OutOfMemoryError as error:
        raise EngineError(
            f"{streams} streams do not fit on {_device_name(kind)}: {error}",
            "lower SESAME_MAX_STREAMS, or set SESAME_DEVICE=cpu",
        ) from error
    worker = Worker(Scheduler(model, codec, state, streams, replay))
    worker.start()
    names = [persona.name for persona in personas]
    made = CsmModel(
        worker,
        ModelReport(snapshot.name, _device_name(kind), form, real_time_factor=0),
        model,
        codec,
        tokenizer,
        clips,
        {name: Future() for name in names},
    )
    try:
        progress(f"reading in the voice of {names[0]}")
        made.read_in(personas[0])
        voice = made.voices[names[0]].result()
        progress("warming up")
        factor = _warm_up(made, voice)
    except BaseException:
        worker.stop()
        raise
    seconds = time.monotonic() - started
    logger.info(
        "csm is ready after %.1f s: %s, %s, %d streams in %d MiB of caches, real-time factor %.2f",
        seconds,
        made.report.device,
        form,
        streams,
        (state.cache.keys.nbytes + state.cache.values.nbytes) // MEBIBYTE,
        factor,
    )
    report = replace(
        made.report,
        real_time_factor=factor,
        load_seconds=seconds,
        batch=lambda: _batch(worker.scheduler),
    )
    return replace(made, report=report)


def _batch(scheduler: Scheduler) -> Batch:
    # From another thread than the model's: each is one number, and none is acted upon.
    return Batch(scheduler.slots, scheduler.busy, scheduler.steps, scheduler.frames)


def _warm_up(model: CsmModel, voice: Voice) -> float:
    """Speak a few words, twice; give the real-time factor of the second time.

    Raises EngineError when the model cannot speak.
    """
    _frames(model.worker, model.utterance(WARM_UP, voice, Sampling(), frames=FIRST_FRAMES))
    utterance = model.utterance(WARM_UP, voice, Sampling(), frames=WARM_UP_FRAMES)
    started = time.monotonic()
    frames = _frames(model.worker, utterance)
    return (time.monotonic() - started) / (max(frames, 1) * FRAME_SECONDS)


def _frames(worker: Worker, utterance: Utterance) -> int:
    """Have an utterance spoken to nobody; give how many frames it took."""
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    worker.submit(utterance, events.put)
    while True:
        try:
            event = events.get(timeout=WARM_UP_PATIENCE)
        except queue.Empty:
            raise EngineError(
                f"no frame came for {WARM_UP_PATIENCE:g} s while warming up"
            ) from None
        if isinstance(event, Failed):
            raise EngineError(f"the model cannot speak: {event.error}") from event.error
        if isinstance(event, Ended):
            return event.frames


def streams_on(device: str) -> int:
    """Give how many answers suit a device: auto, cuda or cpu."""
    return STREAMS["cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"]


def _device(wanted: str) -> str:
    """Give `cuda` or `cpu`."""
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise EngineError(
            "SESAME_DEVICE=cuda, and PyTorch sees no GPU",
            "set SESAME_DEVICE=auto, or give the container the GPU and a driver that fits"
            f" CUDA {torch.version.cuda or '(this PyTorch is a build for CPUs)'}",
        )
    return "cuda" if there and wanted != "cpu" else "cpu"


def _device_name(kind: str) -> str:
    if kind == "cuda":
        return torch.cuda.get_device_name()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith(("model name", "Model")):
            return f"cpu: {line.partition(':')[2].strip()}, {torch.get_num_threads()} threads"
    return f"cpu: {torch.get_num_threads()} threads"
