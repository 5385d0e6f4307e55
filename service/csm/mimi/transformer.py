"""Mimi's transformers: causal attention over a sliding window, kept in a ring of fixed size.

Each slot of a batch has a position of its own, so that streams which began at different times run
in one batch. Knows nothing of audio.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from service.csm.mimi.config import CodecConfig

# Positions in one block at most: the ring holds a window and one block, so that writing a block
# never overwrites what its first position still attends to.
BLOCK_POSITIONS = 32


@dataclass(frozen=True, slots=True)
class Window:
    """What a transformer remembers of a batch of streams; all zeros is the start of a stream.

    Attributes:
        position: Positions that each slot has seen, `[B]` int64.
        keys: One ring a layer, `[B, H, ring, head]`; position *p* is in cell *p mod ring*.
        values: Likewise.
    """

    position: Tensor
    keys: list[Tensor]
    values: list[Tensor]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one block of positions stands: the same for every layer.

    Attributes:
        cells: Ring cells that the block is written to, `[B, H, T, head]` int64.
        visible: Which cells each position attends to, `[B, 1, T, ring]`.
        cos: Of the rotary angles, `[B, T, 1, 1, head]`.
        sin: Likewise, negative in the first half of a head.
    """

    cells: Tensor
    visible: Tensor
    cos: Tensor
    sin: Tensor


class Transformer(nn.Module):
    """Layers of sliding-window attention and feed-forward, with layer norm before each."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.heads, self.head = config.num_attention_heads, config.head_dim
        self.window, self.theta = config.sliding_window, config.rope_theta
        reach = config.sliding_window + BLOCK_POSITIONS
        self.ring = -(-reach // 32) * 32  # attention kernels like whole tiles
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))

    def start(self, batch: int, like: Tensor) -> Window:
        """Return the start of `batch` streams, with the device and type of `like`."""

        def rings() -> list[Tensor]:
            return [like.new_zeros(batch, self.heads, self.ring, self.head) for _ in self.layers]

        return Window(like.new_zeros(batch, dtype=torch.int64), rings(), rings())

    def forward(self, x: Tensor, window: Window) -> Tensor:
        """Run one block of every stream.

        Args:
            x: `[B, T, D]`, at most `BLOCK_POSITIONS` positions.
            window: What came before; moved on by the block.

        Returns:
            `[B, T, D]`.
        """
        placement = self._place(window.position, x)
        for layer, keys, values in zip(self.layers, window.keys, window.values, strict=True):
            x = layer(x, placement, keys, values)
        window.position.add_(x.shape[1])
        return x

    def _place(self, start: Tensor, x: Tensor) -> Placement:
        length = x.shape[1]
        query = start[:, None] + torch.arange(length, device=start.device)  # [B, T]
        # A cell holds the latest position congruent to it; before the first round, a negative one.
        last = query[:, -1:]
        cell = torch.arange(self.ring, device=start.device)
        held = (last - (last - cell) % self.ring)[:, None, :]  # [B, 1, ring]
        age = query[:, :, None] - held  # [B, T, ring]
        visible = (held >= 0) & (age >= 0) & (age < self.window)

        # Su et al., 2021, arXiv:2104.09864: angle of pair i at position p is p * theta^(-2i/head).
        # In float32 whatever the weights are: bfloat16 cannot tell position 257 from 256.
        pair = torch.arange(0, self.head, 2, device=start.device, dtype=torch.float32)
        angles = query[:, :, None] * self.theta ** -(pair / self.head)  # [B, T, head / 2]
        cos, sin = angles.cos(), angles.sin()
        return Placement(
            cells=(query % self.ring)[:, None, :, None].expand(-1, self.heads, -1, self.head),
            visible=visible[:, None],
            cos=torch.cat((cos, cos), dim=-1)[:, :, None, None].to(x.dtype),
            sin=torch.cat((-sin, sin), dim=-1)[:, :, None, None].to(x.dtype),
        )


class Layer(nn.Module):
    """Attention, then feed-forward.

    The scales that Mimi puts on both results (LayerScale, Touvron et al., 2021, arXiv:2103.17239)
    are inside the matrices that come before them.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.heads, self.head = config.num_attention_heads, config.head_dim
        width, inner = config.hidden_size, self.heads * self.head
        self.input_layernorm = nn.LayerNorm(width, eps=config.norm_eps)
        self.qkv = nn.Linear(width, 3 * inner, bias=False)
        self.output = nn.Linear(inner, width, bias=False)
        self.post_attention_layernorm = nn.LayerNorm(width, eps=config.norm_eps)
        self.mlp = FeedForward(width, config.intermediate_size)

    def forward(self, x: Tensor, placement: Placement, keys: Tensor, values: Tensor) -> Tensor:
        """Run one block `[B, T, D]` and write its keys and values to their rings."""
        x = x + self._attend(self.input_layernorm(x), placement, keys, values)
        y: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return y

    def _attend(self, x: Tensor, placement: Placement, keys: Tensor, values: Tensor) -> Tensor:
        batch, length, _ = x.shape
        qkv: Tensor = self.qkv(x).view(batch, length, 3, self.heads, self.head)
        qk, v = qkv[:, :, :2], qkv[:, :, 2]
        # A head is rotated by halves: element i pairs with element i + head / 2.
        swapped = qk.roll(self.head // 2, dims=-1)
        qk = torch.addcmul(qk * placement.cos, swapped, placement.sin)  # [B, T, 2, H, head]
        q, k = qk.permute(2, 0, 3, 1, 4)  # [B, H, T, head] each
        keys.scatter_(2, placement.cells, k)
        values.scatter_(2, placement.cells, v.transpose(1, 2))
        y = functional.scaled_dot_product_attention(q, keys, values, attn_mask=placement.visible)
        z: Tensor = self.output(y.transpose(1, 2).reshape(batch, length, -1))
        return z


class FeedForward(nn.Module):
    """Two matrices with a GELU between."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner, bias=False)
        self.fc2 = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, T, D]` for `[B, T, D]`."""
        y: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return y
