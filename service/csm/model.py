"""CSM itself: rows of text and audio in, frames of codes out. It knows no text, files or codec.

CSM: "Crossing the uncanny valley of conversational voice" (Sesame, 2025): a Llama-shaped backbone
reads the rows and yields codebook 0 of the next frame; a small depth decoder then yields the other
codebooks one by one. Shapes: B sequences, T rows, Q codebooks, W backbone width, V codes.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from service.csm.config import CsmConfig
from service.csm.sampling import CANDIDATES, Sampling, frame_noise, sample
from service.csm.transformer import Cache, Span, Transformer

__all__ = ["BROKEN", "CSM", "State", "TorchCSM"]

BROKEN = -1
"""Stands in every codebook of a frame whose numbers were not finite."""


class DepthCache(NamedTuple):
    """What the depth decoder of `TorchCSM` writes while it makes a frame."""

    cache: Cache
    spans: tuple[Span, ...]  # where its first two rows, then each next, stand


@dataclass(frozen=True, slots=True)
class State:
    """Everything that changes while slots speak: tensors that stay in place, a row for each slot.

    The slots of a step are the first B, so a batch of any size is a view, and a CUDA graph of that
    size can be replayed over it. Whoever gives out slots keeps them dense.
    """

    cache: Cache
    inputs: Tensor  # [slots, W]: the embedding of the row that the next step reads
    lengths: Tensor  # [slots] int64: rows in the cache
    frames: Tensor  # [slots] int64: frames since the prompt, which number the noise
    seeds: Tensor  # [slots] int64
    temperatures: Tensor  # [slots] float32
    top_k: Tensor  # [slots] int64
    codes: Tensor  # [slots, Q] int64: the last frame
    depth: DepthCache | None = None

    @classmethod
    def empty(
        cls,
        config: CsmConfig,
        slots: int,
        positions: int | None,
        *,
        device: torch.device,
        dtype: torch.dtype,
        depth: DepthCache | None = None,
    ) -> "State":
        """Allocate for so many slots of so many positions (default: all the model has)."""
        stack = config.backbone
        return cls(
            cache=Cache.empty(
                stack, slots, positions or stack.positions, device=device, dtype=dtype
            ),
            inputs=torch.zeros(slots, stack.width, device=device, dtype=dtype),
            lengths=torch.zeros(slots, dtype=torch.int64, device=device),
            frames=torch.zeros(slots, dtype=torch.int64, device=device),
            seeds=torch.zeros(slots, dtype=torch.int64, device=device),
            temperatures=torch.zeros(slots, device=device),
            top_k=torch.ones(slots, dtype=torch.int64, device=device),
            codes=torch.zeros(slots, config.codebooks, dtype=torch.int64, device=device),
            depth=depth,
        )

    @property
    def positions(self) -> int:
        """How many rows a slot holds, prompt and frames together."""
        return self.cache.positions

    def wipe(self, slot: int) -> None:
        """Empty a slot that said `BROKEN`, before it is given out again.

        Other slots need not be: what they held before is hidden. But hiding is a weight of 0, and
        0 times what is not finite is not 0.
        """
        cache = self.cache.slots(slot, 1)
        cache.keys.zero_()
        cache.values.zero_()


class CSM(ABC):
    """The weights, and how they are run. What changes from frame to frame lives in a `State`."""

    config: CsmConfig
    text_embedding: nn.Embedding
    # Codebook q, code c at row q * audio_vocabulary + c; backbone and depth decoder share it.
    audio_embedding: nn.Embedding

    @abstractmethod
    def state(self, slots: int, positions: int | None = None) -> State:
        """Allocate for `slots` sequences of up to `positions` rows (default: all the model has)."""

    def embed(self, rows: Tensor, mask: Tensor) -> Tensor:
        """Embed rows `[T, Q + 1]` as `[T, W]`: the sum of the columns that `mask` marks."""
        audio = self.audio_embedding(rows[:, :-1] + self._offsets())  # [T, Q, W]
        text = self.text_embedding(rows[:, -1:])  # [T, 1, W]
        every = torch.cat((audio, text), dim=1)
        return (every * mask[:, :, None]).sum(dim=1)

    def prefill(self, rows: Tensor, mask: Tensor, state: State, slot: int, start: int) -> Tensor:
        """Read rows `[T, Q + 1]` into a slot from `start` on; give their hidden states `[T, W]`.

        Positions below `start` must be filled already; what lay at later ones is forgotten.
        """
        hidden = self._read(self.embed(rows, mask), state.cache.slots(slot, 1), start)
        state.lengths[slot] = start + len(rows)
        return hidden

    def begin(
        self, rows: Tensor, mask: Tensor, state: State, slot: int, start: int, sampling: Sampling
    ) -> None:
        """Make a slot ready to speak after rows `[T, Q + 1]` from `start` on; T is at least 1.

        The last row is left to the first step, which costs the same with it: no frame waits for a
        second pass through the backbone.
        """
        if len(rows) > 1:
            self.prefill(rows[:-1], mask[:-1], state, slot, start)
        state.inputs[slot] = self.embed(rows[-1:], mask[-1:])[0]
        state.lengths[slot] = start + len(rows) - 1
        state.frames[slot] = 0
        state.seeds[slot] = sampling.seed
        state.temperatures[slot] = sampling.temperature
        state.top_k[slot] = sampling.top_k

    def step(
        self, state: State, batch: int, reach: int | None = None, candidates: int = CANDIDATES
    ) -> Tensor:
        """Speak a frame in each of the first `batch` slots: codes `[B, Q]`, a view of `state`.

        A frame of zeros says that the utterance has ended, one of `BROKEN` that its numbers were
        not finite. A slot that nobody uses steps along.

        + reach: how many cached positions attention looks at, above every length (default: all).
        + candidates: how many codes are drawn from, at least every slot's `top_k`. The noise of a
          code does not depend on it. `candidates_for` gives the few values worth having.
        """
        lengths, frames = state.lengths[:batch], state.frames[:batch]
        noise = frame_noise(
            state.seeds[:batch],
            frames,
            state.temperatures[:batch],
            state.top_k[:batch],
            codebooks=self.config.codebooks,
            candidates=min(candidates, self.config.codes),
        )  # [B, Q, C]
        codes, finite = self._frame(state, batch, reach or state.positions, noise)
        state.inputs[:batch] = self.audio_embedding(codes + self._offsets()).sum(dim=1)
        state.codes[:batch] = codes.masked_fill(~finite[:, None], BROKEN)
        # An unused slot would walk out of the cache, which no kernel forgives.
        lengths.add_(1).clamp_(max=state.positions - 1)
        frames.add_(1)
        return state.codes[:batch]

    @abstractmethod
    def _read(self, x: Tensor, cache: Cache, start: int) -> Tensor:
        """Read embedded rows `[T, W]` into the one slot of a cache; give hidden states `[T, W]`."""

    @abstractmethod
    def _frame(self, state: State, batch: int, reach: int, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draw codes `[B, Q]` with noise `[B, Q, C]`; say whose numbers were finite, `[B]`."""

    def _offsets(self) -> Tensor:
        books = torch.arange(self.config.codebooks, device=self.audio_embedding.weight.device)
        return books * self.config.audio_vocabulary


class TorchCSM(CSM, nn.Module):
    """The model in torch's own products, on any device: float32 or bfloat16.

    No step waits for the device, and none depends on a value there.
    """

    def __init__(self, config: CsmConfig) -> None:
        super().__init__()
        self.config = config
        width = config.backbone.width
        self.text_embedding = nn.Embedding(config.text_vocabulary, width)
        self.audio_embedding = nn.Embedding(config.codebooks * config.audio_vocabulary, width)
        self.backbone = Transformer(config.backbone)
        self.head = nn.Linear(width, config.codes, bias=False)
        self.projection = nn.Linear(width, config.depth.width, bias=False)
        self.depth = Transformer(config.depth)
        self.depth_heads = nn.ModuleList(
            nn.Linear(config.depth.width, config.codes, bias=False)
            for _ in range(config.codebooks - 1)
        )

    def state(self, slots: int, positions: int | None = None) -> State:
        """Allocate for `slots` sequences of up to `positions` rows (default: all the model has)."""
        weight, config = self.text_embedding.weight, self.config
        device, dtype = weight.device, weight.dtype
        cache = Cache.empty(config.depth, slots, config.codebooks, device=device, dtype=dtype)
        spans = (
            cache.run(0, 2),
            *(cache.run(position, 1) for position in range(2, config.codebooks)),
        )
        depth = DepthCache(cache, spans)
        return State.empty(config, slots, positions, device=device, dtype=dtype, depth=depth)

    def _read(self, x: Tensor, cache: Cache, start: int) -> Tensor:
        hidden: Tensor = self.backbone(x[None], cache, cache.run(start, len(x)))[0]
        return hidden

    def _frame(self, state: State, batch: int, reach: int, noise: Tensor) -> tuple[Tensor, Tensor]:
        if state.depth is None:
            raise TypeError("the state was made by a model of another kind")
        cache = state.cache.slots(0, batch)
        span = cache.step(state.lengths[:batch], reach)
        hidden = self.backbone(state.inputs[:batch, None], cache, span)[:, 0]  # [B, W]
        return self._depth_frame(
            hidden, noise, state.depth.cache.slots(0, batch), state.depth.spans
        )

    def _depth_frame(
        self, hidden: Tensor, noise: Tensor, cache: Cache, spans: tuple[Span, ...]
    ) -> tuple[Tensor, Tensor]:
        code = sample(self.head(hidden), noise[:, 0])
        codes = [code]
        x = self.projection(torch.stack((hidden, self.audio_embedding(code)), dim=1))  # [B, 2, W']
        for book, (head, span) in enumerate(zip(self.depth_heads, spans, strict=True), start=1):
            if book > 1:
                row = self.audio_embedding(code + (book - 1) * self.config.audio_vocabulary)
                x = self.projection(row)[:, None]  # [B, 1, W']
            deep = self.depth(x, cache, span)[:, -1]  # [B, W']
            code = sample(head(deep), noise[:, book])
            codes.append(code)
        # What is not finite in any codebook reaches the last one through the keys and values.
        finite = (hidden.sum(dim=-1) + deep.sum(dim=-1)).isfinite()
        return torch.stack(codes, dim=1), finite
