"""Continuous batching: utterances join and leave a running batch between two frames.

It gives each utterance a slot, a codec stream and its guards, and turns frames into blocks of
audio. It knows no requests, no text and no threads: whoever calls it calls it from one thread.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from service.csm.generate import REACH, GenerationError, NotFiniteError, Prefix, admit
from service.csm.guards import LONGEST_SILENCE, Samples, Trimmer, goes_in_circles
from service.csm.mimi import DecodeStream, Mimi
from service.csm.model import BROKEN, CSM, State
from service.csm.prompt import Rows
from service.csm.sampling import Sampling, candidates_for

__all__ = ["Block", "Ended", "Ending", "Event", "Failed", "Scheduler", "Utterance"]

BLOCK_FRAMES = (2, 2, 4, 4, 8)
"""Frames in the first block of an utterance, the second, …; the last stands for all that follow.

The first one decides when something is heard; larger ones cost the codec less a frame.
"""
BLOCK_SECONDS = 2.0  # a block is smaller where its frames would take longer than this to come

Ending = Literal["ended", "budget", "silence", "loop"]
"""Why an utterance is over: CSM ended it, or the frame budget or a guard did."""

Step = Callable[[int, int, int], Tensor]
"""`(batch, reach, candidates)` to the next codes `[batch, Q]`: `CSM.step` or a replay of it."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One piece of speech, as the model reads it.

    + rows: the prompt after the prefix, at least one row.
    + frames: the most it may take.
    + prefix: what the voice's prompt left in the cache.
    """

    rows: Rows
    sampling: Sampling
    frames: int
    prefix: Prefix | None = None


class Block(NamedTuple):
    """Audio of an utterance, 24 kHz mono; without samples, it says that the utterance goes on."""

    ticket: int
    samples: Samples


class Ended(NamedTuple):
    """The end of an utterance, after its last block."""

    ticket: int
    ending: Ending
    frames: int


class Failed(NamedTuple):
    """The end of an utterance that could not be spoken, or not to its end."""

    ticket: int
    error: GenerationError


Event = Block | Ended | Failed


@dataclass(slots=True)
class _Seat:
    """An utterance in its slot."""

    ticket: int
    utterance: Utterance
    filled: int  # positions in the cache
    stream: DecodeStream
    trimmer: Trimmer = field(default_factory=Trimmer)
    pending: list[Tensor] = field(default_factory=list)  # frames [Q] that are not audio yet
    meaning: list[int] = field(default_factory=list)  # codebook 0 of every frame
    blocks: int = 0


class Scheduler:
    """Up to `slots` utterances at once, one frame of each a step.

    + step: how the model is stepped (default: `model.step`).
    """

    def __init__(
        self, model: CSM, codec: Mimi, state: State, slots: int, step: Step | None = None
    ) -> None:
        self.slots = slots
        self._model = model
        self._codec = codec
        self._state = state
        self._step = step or _plain_step(model, state)
        self._seats: list[_Seat] = []  # dense: seat n has slot n
        self._tickets = iter(range(2**63))
        self.frame_seconds = 0.0
        """What a step took lately: a moving average."""
        self.steps = 0
        self.frames = 0
        """How many were spoken, in that many steps."""

    @property
    def busy(self) -> int:
        """How many utterances are being spoken."""
        return len(self._seats)

    @property
    def free(self) -> int:
        """How many more can be admitted now."""
        return self.slots - len(self._seats)

    @torch.inference_mode()
    def admit(self, utterance: Utterance) -> int:
        """Give an utterance a slot; return its ticket. Its first frame comes with the next step.

        Raises:
            GenerationError: Its prompt and frames do not fit a slot.
            PromptError: A code or token is not the model's.
            RuntimeError: No slot is free.
        """
        if not self.free:
            raise RuntimeError(f"all {self.slots} slots are taken")
        filled = admit(
            self._model,
            self._state,
            len(self._seats),
            utterance.rows,
            utterance.sampling,
            frames=utterance.frames,
            prefix=utterance.prefix,
        )
        seat = _Seat(next(self._tickets), utterance, filled, self._codec.stream(1))
        self._seats.append(seat)
        return seat.ticket

    def cancel(self, ticket: int) -> None:
        """Free the slot of an utterance that nobody listens to; unknown tickets are ignored."""
        for slot, seat in enumerate(self._seats):
            if seat.ticket == ticket:
                self._retire(slot)
                return

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Speak one frame of every utterance; give what came of it."""
        if not self._seats:
            return []
        started = time.perf_counter()
        reach = 1 + max(seat.filled for seat in self._seats)
        reach = min(self._state.positions, -(-reach // REACH) * REACH)
        candidates = candidates_for(max(seat.utterance.sampling.top_k for seat in self._seats))
        frames = self._step(len(self._seats), reach, candidates).to("cpu", copy=True)
        taken = time.perf_counter() - started
        self.steps += 1
        self.frames += len(self._seats)
        self.frame_seconds += (taken - self.frame_seconds) / (8 if self.frame_seconds else 1)
        events: list[Event] = []
        # From the last slot down: a slot that falls free takes the last one, which has been seen.
        for slot in reversed(range(len(self._seats))):
            self._seats[slot].filled += 1
            events += self._hear(slot, frames[slot])
        return events

    def _hear(self, slot: int, codes: Tensor) -> Iterator[Event]:
        seat = self._seats[slot]
        if codes[0] == BROKEN:
            frame = len(seat.meaning)
            self._state.wipe(slot)
            self._retire(slot)
            error = NotFiniteError(f"the model's numbers were not finite in frame {frame}")
            yield Failed(seat.ticket, error)
            return
        # Upstream's rule; transformers stops already when all but the last code are 0.
        ending: Ending | None = None if codes.any() else "ended"
        if ending is None:
            seat.pending.append(codes)
            seat.meaning.append(int(codes[0]))
            ending = self._guard(seat)
        if ending is None:
            if len(seat.pending) >= self._block_frames(seat):
                yield self._block(seat)
                if seat.trimmer.silent_seconds > LONGEST_SILENCE:
                    ending = "silence"
            if ending is None:
                return
        if seat.pending:
            yield self._block(seat)
        if (rest := seat.trimmer.finish()).size:
            yield Block(seat.ticket, rest)
        self._retire(slot)
        yield Ended(seat.ticket, ending, len(seat.meaning))

    def _guard(self, seat: _Seat) -> Ending | None:
        if len(seat.meaning) >= seat.utterance.frames:
            return "budget"
        return "loop" if goes_in_circles(seat.meaning) else None

    def _block_frames(self, seat: _Seat) -> int:
        frames = BLOCK_FRAMES[min(seat.blocks, len(BLOCK_FRAMES) - 1)]
        in_time = int(BLOCK_SECONDS / self.frame_seconds) if self.frame_seconds else frames
        return max(1, min(frames, in_time))

    def _block(self, seat: _Seat) -> Block:
        codes = torch.stack(seat.pending, dim=-1)[None]  # [1, Q, t]
        audio = self._codec.decode_step(codes.to(self._state.codes.device), seat.stream)
        seat.pending.clear()
        seat.blocks += 1
        return Block(seat.ticket, seat.trimmer.push(audio[0, 0].float().cpu().numpy()))

    def _retire(self, slot: int) -> None:
        """Free a slot; the last one moves into it, so that the busy slots stay the first."""
        last = self._seats.pop()
        if slot < len(self._seats):
            _move(self._state, len(self._seats), slot, last.filled)
            self._seats[slot] = last


def _plain_step(model: CSM, state: State) -> Step:
    def step(batch: int, reach: int, candidates: int) -> Tensor:
        return model.step(state, batch, reach, candidates)

    return step


def _move(state: State, source: int, target: int, filled: int) -> None:
    """Move what a slot holds into another."""
    for cached in (state.cache.keys, state.cache.values):
        cached[:, target, :, :filled] = cached[:, source, :, :filled]
    for row in (
        state.inputs,
        state.lengths,
        state.frames,
        state.seeds,
        state.temperatures,
        state.top_k,
    ):
        row[target] = row[source]
