"""From rows to frames: fill a slot, then step until the utterance ends.

It knows neither what a text means nor how codes sound.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from service.csm.model import BROKEN, CSM, State
from service.csm.prompt import Rows
from service.csm.sampling import Sampling, candidates_for

__all__ = [
    "FRAME_SECONDS",
    "GenerationError",
    "NotFiniteError",
    "Prefix",
    "PromptTooLongError",
    "Remembering",
    "admit",
    "frame_budget",
    "generate",
    "remember",
]

FRAME_SECONDS = 0.08
"""What one frame lasts: 1920 samples at 24 kHz."""

SHORTEST_BUDGET = 3.0  # seconds: even "Oh." may be drawn out
SECONDS_A_CHARACTER = 0.12  # about twice what English speech takes
REACH = 128  # positions: attention looks at a multiple of it, so that few shapes occur


class GenerationError(Exception):
    """A request that cannot be spoken, or not to its end."""


class PromptTooLongError(GenerationError):
    """Prompt and frames together do not fit a slot."""


class NotFiniteError(GenerationError):
    """The model's numbers overflowed: broken weights, or a precision too small for them."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """What the backbone keeps of rows that many requests begin with, such as a persona's clip.

    + keys, values: `[layers, K, rows, D]`.
    """

    keys: Tensor
    values: Tensor

    def __len__(self) -> int:
        return self.keys.shape[2]


class Remembering:
    """Rows that are read little by little, so that whoever speaks meanwhile need not wait for all.

    + after: what stands before them, already read.

    Raises:
        PromptTooLongError: They leave no room for anything else.
        PromptError: A code or token is not the model's.
    """

    def __init__(self, model: CSM, rows: Rows, after: Prefix | None = None) -> None:
        self._start = 0 if after is None else len(after)
        _refuse_too_long(self._start + len(rows), 1, model.config.backbone.positions)
        _check(model, rows)
        self._model = model
        self._state = model.state(slots=1, positions=self._start + len(rows))
        self._rows = rows.to(self._state.inputs.device)
        self._read = 0
        if after is not None:
            _recall(self._state, 0, after)

    @torch.inference_mode()
    def read(self, count: int) -> bool:
        """Read so many rows more; tell whether any are left."""
        part = slice(self._read, self._read + count)
        tokens, mask = self._rows.tokens[part], self._rows.mask[part]
        if len(tokens):
            start = self._start + self._read
            self._model.prefill(tokens, mask, self._state, slot=0, start=start)
            self._read += len(tokens)
        return self._read < len(self._rows)

    @property
    def prefix(self) -> Prefix:
        """What the backbone keeps, once all rows are read."""
        cache = self._state.cache
        return Prefix(cache.keys[:, 0], cache.values[:, 0])


def remember(model: CSM, rows: Rows) -> Prefix:
    """Read rows once, for `admit` to copy.

    Raises:
        PromptTooLongError: They leave no room for anything else.
        PromptError: A code or token is not the model's.
    """
    reading = Remembering(model, rows)
    reading.read(len(rows))
    return reading.prefix


@torch.inference_mode()
def admit(
    model: CSM,
    state: State,
    slot: int,
    rows: Rows,
    sampling: Sampling,
    *,
    frames: int,
    prefix: Prefix | None = None,
) -> int:
    """Make a slot ready to speak up to `frames` frames after a prefix and the rows that follow it.

    Returns how many positions are filled before the first step; each step fills one more.

    Raises:
        PromptTooLongError: Prefix, rows and frames exceed the slot.
        PromptError: A code or token is not the model's.
        ValueError: There are no rows.
    """
    start = 0 if prefix is None else len(prefix)
    if not len(rows):
        raise ValueError("a prompt needs at least one row after its prefix")
    _refuse_too_long(start + len(rows), frames, state.positions)
    _check(model, rows)
    if prefix is not None:
        _recall(state, slot, prefix)
    rows = rows.to(state.inputs.device)
    model.begin(rows.tokens, rows.mask, state, slot, start, sampling)
    return start + len(rows) - 1


def generate(
    model: CSM,
    rows: Rows,
    sampling: Sampling,
    *,
    frames: int,
    prefix: Prefix | None = None,
    state: State | None = None,
) -> Iterator[Tensor]:
    """Speak one request; yield the codes `[Q]` of each frame, int64 on the CPU.

    It ends with the frame of zeros, which is not yielded, or after `frames` frames.

    + state: its slot 0 is used (default: a state for this request alone).

    Raises:
        PromptTooLongError: Prefix, rows and frames exceed the slot.
        PromptError: A code or token is not the model's.
        NotFiniteError: The model's numbers overflowed.
    """
    state = model.state(slots=1) if state is None else state
    filled = admit(model, state, 0, rows, sampling, frames=frames, prefix=prefix)
    candidates = candidates_for(sampling.top_k)
    for index in range(frames):
        reach = min(state.positions, REACH * math.ceil((filled + index + 1) / REACH))
        with torch.inference_mode():
            frame = model.step(state, batch=1, reach=reach, candidates=candidates)[0]
            codes = frame.to("cpu", copy=True)
        # Upstream's rule; transformers stops already when all but the last code are 0.
        if not codes.any():
            return
        if codes[0] == BROKEN:
            state.wipe(0)
            raise NotFiniteError(f"the model's numbers were not finite in frame {index}")
        yield codes


def frame_budget(text: str) -> int:
    """Give the most frames that a text may take: CSM does not always end by itself."""
    seconds = max(SHORTEST_BUDGET, SECONDS_A_CHARACTER * len(text))
    return math.ceil(seconds / FRAME_SECONDS)


def _recall(state: State, slot: int, prefix: Prefix) -> None:
    state.cache.keys[:, slot, :, : len(prefix)] = prefix.keys
    state.cache.values[:, slot, :, : len(prefix)] = prefix.values


def _check(model: CSM, rows: Rows) -> None:
    rows.check(codes=model.config.codes, text_tokens=model.config.text_vocabulary)


def _refuse_too_long(rows: int, frames: int, positions: int) -> None:
    if rows + frames > positions:
        raise PromptTooLongError(
            f"the prompt has {rows} rows, which with {frames} frames to speak are"
            f" {rows + frames}; the model holds {positions}: shorten clip and transcript together"
        )
