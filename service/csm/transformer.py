"""A Llama-shaped stack over a static key-value cache, for the backbone and the depth decoder alike.

It knows positions and slots, but neither codes nor text. Shapes: B sequences, T new tokens, N
cached positions, W width, H heads, K key-value heads, G = H / K heads that share one, D head width.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.csm.config import RopeScaling, TransformerConfig

__all__ = ["Cache", "Span", "Transformer", "rope_angles", "rope_frequencies"]


class Span(NamedTuple):
    """Where the tokens of one call stand in the cache, and what they see of it."""

    cos: Tensor
    sin: Tensor  # both [B or 1, T, 1, D], the first half of sin negated
    hidden: Tensor | None  # [B or 1, 1, T*G, reach]: 0 for what is seen, -inf for what is not
    write: tuple[slice | Tensor, slice | Tensor, slice | Tensor]  # into [B, K, N]
    reach: int


class Cache:
    """The keys and values of every layer and slot, and the rotary tables that go with them.

    Nothing is ever moved or emptied: what a sequence sees follows from its positions alone, so a
    slot is reused by starting again at position 0, and a sequence that shares a batch with others
    never sees them.
    """

    def __init__(
        self, config: TransformerConfig, keys: Tensor, values: Tensor, rope: Tensor
    ) -> None:
        self.config = config
        self.keys = keys  # [layers, slots, K, N, D]
        self.values = values  # [layers, slots, K, N, D]
        self.rope = rope  # [2, N, D]: cos, sin

    @classmethod
    def empty(
        cls,
        config: TransformerConfig,
        slots: int,
        positions: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> "Cache":
        """Allocate a cache of so many slots and positions."""
        shape = (config.layers, slots, config.kv_heads, positions, config.head_width)
        return cls(
            config,
            # Zeros, not whatever was in memory: a hidden NaN times a weight of zero is NaN all the
            # same.
            torch.zeros(shape, device=device, dtype=dtype),
            torch.zeros(shape, device=device, dtype=dtype),
            _rope_table(config, positions).to(device=device, dtype=dtype),
        )

    @property
    def positions(self) -> int:
        """How many positions a slot has."""
        return self.keys.shape[3]

    def slots(self, first: int, count: int) -> "Cache":
        """Give the same memory, narrowed to `count` slots from `first` on."""
        return Cache(
            self.config,
            self.keys.narrow(1, first, count),
            self.values.narrow(1, first, count),
            self.rope,
        )

    def run(self, start: int, length: int) -> Span:
        """Place `length` tokens at `start` in every slot: positions that the host knows."""
        end = start + length
        cos, sin = self.rope[:, None, start:end, None]  # [1, T, 1, D]
        here = torch.arange(start, end, device=self.rope.device)[None]  # [1, T]
        return Span(
            cos,
            sin,
            None if length == 1 else self._hidden(here, end),
            (slice(None), slice(None), slice(start, end)),
            end,
        )

    def step(self, lengths: Tensor, reach: int) -> Span:
        """Place one token at the end of each slot: positions that only the device knows.

        + lengths: `[B]` int64, how many positions of each slot are filled; each below `reach`.
        + reach: how many positions are looked at, at most those of the cache. It decides no result,
          only work.
        """
        cos, sin = self.rope[:, lengths, None, None]  # [B, 1, 1, D]
        slots = torch.arange(len(lengths), device=lengths.device)[:, None, None]
        heads = torch.arange(self.config.kv_heads, device=lengths.device)[None, :, None]
        return Span(
            cos,
            sin,
            self._hidden(lengths[:, None], reach),
            (slots, heads, lengths[:, None, None]),
            reach,
        )

    def _hidden(self, positions: Tensor, reach: int) -> Tensor:
        there = torch.arange(reach, device=positions.device)
        later = there > positions[:, None, :, None]  # [B, 1, T, reach]
        hidden = torch.zeros(later.shape, device=later.device, dtype=self.keys.dtype)
        hidden.masked_fill_(later, -math.inf)
        return hidden.repeat_interleave(self.config.heads // self.config.kv_heads, dim=2)


class Layer(nn.Module):
    """Attention and SwiGLU, each after an RMS norm and added to what came in."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.kv_heads = config.kv_heads
        self.head_width = config.head_width
        all_heads = config.heads + 2 * config.kv_heads
        self.attention_norm = nn.RMSNorm(config.width, config.norm_eps)
        self.query_key_value = nn.Linear(config.width, all_heads * config.head_width, bias=False)
        self.attention_out = nn.Linear(config.heads * config.head_width, config.width, bias=False)
        self.ffn_norm = nn.RMSNorm(config.width, config.norm_eps)
        self.gate_up = nn.Linear(config.width, 2 * config.ffn_width, bias=False)
        self.down = nn.Linear(config.ffn_width, config.width, bias=False)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, span: Span) -> Tensor:
        """Pass `[B, T, W]` on, writing the new keys and values into `[B, K, N, D]`."""
        x = x + self._attend(self.attention_norm(x), keys, values, span)
        gate, up = self.gate_up(self.ffn_norm(x)).chunk(2, dim=-1)
        down: Tensor = self.down(functional.silu(gate) * up)
        return x + down

    def _attend(self, x: Tensor, keys: Tensor, values: Tensor, span: Span) -> Tensor:
        batch, tokens, _ = x.shape
        every = self.query_key_value(x).view(batch, tokens, -1, self.head_width)
        turned, value = every.split([self.heads + self.kv_heads, self.kv_heads], dim=2)
        turned = _rotate(turned, span)
        query, key = turned.split([self.heads, self.kv_heads], dim=2)
        keys[span.write] = key.transpose(1, 2)
        values[span.write] = value.transpose(1, 2)
        # The G heads that share keys become G more rows of queries, so that no key is ever repeated
        # in memory.
        query = query.view(batch, tokens, self.kv_heads, -1, self.head_width).permute(0, 2, 1, 3, 4)
        seen = functional.scaled_dot_product_attention(
            query.reshape(batch, self.kv_heads, -1, self.head_width),  # [B, K, T*G, D]
            keys[:, :, : span.reach],
            values[:, :, : span.reach],
            attn_mask=span.hidden,
        )
        seen = seen.view(batch, self.kv_heads, tokens, -1, self.head_width).permute(0, 2, 1, 3, 4)
        out: Tensor = self.attention_out(seen.reshape(batch, tokens, -1))
        return out


class Transformer(nn.Module):
    """The stack: layers, then a last norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, config.norm_eps)

    def forward(self, x: Tensor, cache: Cache, span: Span) -> Tensor:
        """Give the normed hidden states `[B, T, W]` of embeddings `[B, T, W]` at `span`."""
        for layer, keys, values in zip(self.layers, cache.keys, cache.values, strict=True):
            x = layer(x, keys, values, span)
        out: Tensor = self.norm(x)
        return out


def _rotate(x: Tensor, span: Span) -> Tensor:
    """Turn each pair of `[B, T, heads, D]`; a pair is the entries i and i + D/2."""
    return torch.addcmul(x * span.cos, x.roll(x.shape[-1] // 2, dims=-1), span.sin)


def _rope_table(config: TransformerConfig, positions: int) -> Tensor:
    angles = rope_angles(config, positions)
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)))


def rope_angles(config: TransformerConfig, positions: int) -> Tensor:
    """Give how far each pair is turned at each position, in radians: `[positions, D / 2]`."""
    return torch.arange(positions)[:, None] * rope_frequencies(
        config.head_width, config.rope_theta, config.rope_scaling
    )


def rope_frequencies(head_width: int, theta: float, scaling: RopeScaling | None) -> Tensor:
    """Give the turn of each pair for one position, in radians: `[head_width / 2]` float32.

    RoPE (Su et al. 2021, eq. 15) with the frequency scaling of Llama 3.1 (Meta's `apply_scaling`).
    """
    frequencies = theta ** -(torch.arange(0, head_width, 2, dtype=torch.float32) / head_width)
    if scaling is None:
        return frequencies
    turns = scaling.positions * frequencies / (2 * math.pi)  # over the original context
    keep = ((turns - scaling.low) / (scaling.high - scaling.low)).clamp(0, 1)
    return frequencies * (keep + (1 - keep) / scaling.factor)
