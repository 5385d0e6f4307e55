"""Causal convolutions that remember what the next block of a stream needs from this one.

Every convolution runs over blocks of any length. What it shares with the block before it takes
from a tensor of fixed shape, and then puts there what it shares with the next. All zeros is the
start of a stream: it equals the zero padding on the left of a causal convolution.

Columns before channels, `[B, S, C]`, and every convolution as one matrix product: for the few
columns of a step that reads its weights once, at the speed of memory, where the convolutions of
torch take several times as long on a CPU.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

Overlaps = Iterator[Tensor]


class CausalConvolution(nn.Module):
    """A convolution whose output never depends on later input.

    It shares with the next block its last input columns.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Width.
        stride: Input columns for one output column.
        dilation: Distance between the taps of the kernel.
        bias: Whether a bias is added.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.kernel = inputs, outputs, kernel
        self.stride, self.dilation = stride, dilation
        self.reach = (kernel - 1) * dilation + 1
        self.product = nn.Linear(kernel * inputs, outputs, bias=bias)

    @property
    def overlap(self) -> tuple[int, int]:
        """Columns and channels that it shares with the next block."""
        return self.reach - self.stride, self.inputs

    def forward(self, x: Tensor, overlaps: Overlaps) -> Tensor:
        """Convolve one block.

        Args:
            x: `[B, S, Cin]`. Only the last block of a stream may have an *S* that the stride does
                not divide; zeros then fill it up.
            overlaps: The next one is this convolution's, unless it shares no columns.

        Returns:
            `[B, ceil(S / stride), Cout]`.
        """
        shared = self.overlap[0]
        if shared > 0:
            if rest := -x.shape[1] % self.stride:
                x = functional.pad(x, (0, 0, 0, rest))
            past = next(overlaps)
            x = torch.cat((past, x), dim=1)
            past.copy_(x[:, -shared:])
        taps = x.unfold(1, self.reach, self.stride)[..., :: self.dilation]  # [B, S', Cin, kernel]
        y: Tensor = self.product(taps.transpose(-1, -2).flatten(2))
        return y


class CausalTransposedConvolution(nn.Module):
    """A transposed convolution whose kernel is twice its stride, trimmed on the right only.

    Each input column reaches over its own `stride` output columns and over the next `stride`. What
    the last column adds there it shares with the next block.

    Args:
        product: What an input column adds, `[…, Cin]` to `[…, 2 * stride * Cout]`.
        outputs: Channels out.
        stride: Output columns for one input column.
    """

    def __init__(self, product: nn.Module, outputs: int, stride: int) -> None:
        super().__init__()
        self.outputs, self.stride = outputs, stride
        self.product = product

    @property
    def overlap(self) -> tuple[int, int]:
        """Columns and channels that it shares with the next block, as one long column."""
        return 1, self.stride * self.outputs

    def forward(self, x: Tensor, overlaps: Overlaps) -> Tensor:
        """Convolve one block.

        Args:
            x: `[B, S, Cin]`.
            overlaps: The next one is this convolution's.

        Returns:
            `[B, S * stride, Cout]`.
        """
        added: Tensor = self.product(x)
        now, later = added.chunk(2, dim=-1)  # [B, S, stride * Cout] each
        past = next(overlaps)
        y = now + torch.cat((past, later[:, :-1]), dim=1)
        past.copy_(later[:, -1:])
        return y.reshape(x.shape[0], -1, self.outputs)


class Depthwise(nn.Module):
    """What a column adds in a transposed convolution whose channels do not mix.

    Args:
        channels: In and out.
        stride: Of the convolution.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2 * stride, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return `[B, S, 2 * stride * C]` for `[B, S, C]`."""
        y: Tensor = (x[:, :, None] * self.weight).flatten(2)
        return y


def overlaps_of(module: nn.Module, batch: int, like: Tensor) -> list[Tensor]:
    """Return the overlaps of a module at the start of `batch` streams, in the order of their use.

    Args:
        module: Its convolutions run in the order in which they are registered.
        batch: Streams.
        like: Gives device and type.
    """
    shapes = [
        part.overlap
        for part in module.modules()
        if isinstance(part, CausalConvolution | CausalTransposedConvolution)
    ]
    return [like.new_zeros(batch, columns, channels) for columns, channels in shapes if columns]
